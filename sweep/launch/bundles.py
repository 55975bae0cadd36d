"""Bundles: the runs that a worker takes together, one run or the packs that share a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from sweep.job import Bundle
from sweep.plan import Plan, RunSpec

AUTO = 64  # lanes in a pack with `lanes: auto`; more are not faster
BESIDE = 4  # packs of vectorised steps on a GPU at a time: one pack of a small network leaves most of it idle


def lanes_of(plan: Plan) -> int:
    """Return the largest number of lanes in a pack; 1 if runs cannot share one, as on a CPU without `vectorize`."""
    if plan.config.vectorize:
        return plan.config.vectorize
    if plan.device != "cuda" or plan.target.kind != "recipe" or plan.config.lanes == "off":
        return 1
    return AUTO if plan.config.lanes == "auto" else int(plan.config.lanes)


def packs_of(plan: Plan) -> int:
    """Return the largest number of packs in a bundle."""
    return BESIDE if plan.config.vectorize and plan.device == "cuda" else 1


def gpu_of(plan: Plan) -> float:
    """Return the part of a GPU that a bundle takes. Lanes fill a GPU; vectorised steps may share it if told to."""
    asked = plan.config.resources.gpus
    return 1.0 if _packed(plan) and not (plan.config.vectorize and asked) else asked


def at_once(plan: Plan) -> int:
    """Return the number of bundles that the GPUs train at once, or 1 if runs share none. Counting loads torch."""
    return int(gpus_here() / gpu_of(plan)) if _packed(plan) else 1


def _packed(plan: Plan) -> bool:
    return plan.device == "cuda" and lanes_of(plan) > 1


def bundles(specs: Sequence[RunSpec], most: int, slots: int, packs: int = 1) -> list[Bundle]:
    """Return the specs as bundles of one cell and fold each, in the order of their first runs.

    A bundle has at most `packs` packs of at most `most` runs. The runs of a cell are divided evenly among the packs
    and slots: 100 runs in one slot, at most 64 in a pack, give two bundles of 50, and 10 runs in four slots give
    bundles of 3, 3, 2 and 2.
    """
    cells: dict[tuple[str, str, int], list[RunSpec]] = {}
    for spec in specs:
        cells.setdefault((spec.task, spec.variant, spec.fold), []).append(spec)
    if most == 1:
        return [(spec,) for spec in specs]
    made: list[Bundle] = []
    for cell in cells.values():
        pieces = min(len(cell), ceil(len(cell) / (most * slots)) * slots)
        count = min(pieces, ceil(pieces / (packs * slots)) * slots)
        ends = [round(round(i * pieces / count) * len(cell) / pieces) for i in range(count + 1)]
        made += [tuple(cell[a:b]) for a, b in pairwise(ends)]
    return made


def gpus_here() -> int:
    """Return the number of CUDA devices that this process sees, at least 1."""
    import torch

    return max(1, torch.cuda.device_count())
