"""Bundles: the runs that a worker takes together, one run or the lanes that share a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from sweep.job import Bundle
from sweep.plan import Plan, RunSpec

AUTO = 64  # lanes in a bundle with `lanes: auto`; more are not faster


def lanes_of(plan: Plan) -> int:
    """Return the largest number of runs in a bundle; 1 if runs cannot share one, as on a CPU without `vectorize`."""
    if plan.config.vectorize:
        return plan.config.vectorize
    if plan.device != "cuda" or plan.target.kind != "recipe" or plan.config.lanes == "off":
        return 1
    return AUTO if plan.config.lanes == "auto" else int(plan.config.lanes)


def shared_gpus(plan: Plan) -> int:
    """Return the number of GPUs for bundles of several runs, or 0 if no runs share a GPU. Counting loads torch."""
    return gpus_here() if plan.device == "cuda" and lanes_of(plan) > 1 else 0


def bundles(specs: Sequence[RunSpec], most: int, gpus: int) -> list[Bundle]:
    """Return the specs as bundles of at most `most` runs of one cell and fold each, in the order of their first runs.

    The runs of a cell are divided evenly: 100 runs on one GPU, at most 64 in a bundle, give two bundles of 50, and 10
    runs on four GPUs give bundles of 3, 3, 2 and 2.
    """
    cells: dict[tuple[str, str, int], list[RunSpec]] = {}
    for spec in specs:
        cells.setdefault((spec.task, spec.variant, spec.fold), []).append(spec)
    if most == 1:
        return [(spec,) for spec in specs]
    made: list[Bundle] = []
    for cell in cells.values():
        rounds = ceil(len(cell) / (most * gpus))
        count = min(len(cell), rounds * gpus)
        ends = [round(i * len(cell) / count) for i in range(count + 1)]
        made += [tuple(cell[a:b]) for a, b in pairwise(ends)]
    return made


def gpus_here() -> int:
    """Return the number of CUDA devices that this process sees, at least 1."""
    import torch

    return max(1, torch.cuda.device_count())
