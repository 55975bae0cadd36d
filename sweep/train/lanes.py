"""Lanes: many runs of one recipe in parallel on one GPU, each with the same bits as alone."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import ceil

import torch

from sweep.handle import Run
from sweep.train import loop
from sweep.train.cuda_graphs import drawing_from, streams
from sweep.train.lane import Setup, begin, by_point, recipe_id, rehearse, set_up
from sweep.train.loop import Result
from sweep.train.pack import Pack
from sweep.train.precision import flags
from sweep.train.probe import Known, probe
from sweep.train.recipe import Recipe

ALONE = "trained alone, not in lanes: "
SHARE = 0.9  # of the free memory: the choice of kernels depends on what is free, so some is left


def train(recipe: Recipe, runs: Sequence[Run], *, together: bool | None = None) -> Iterator[tuple[int, Result]]:
    """Train the runs: on a GPU in packs of as many as its memory holds, on a CPU one after the other.

    Yield each run's position with its metrics, or why it has none, when it ends. If a step cannot be captured,
    a note says why, and the runs are trained one after the other. Raises what `loop.train` raises.
    together: see `Pack`; None takes the faster way. The bits are the same.
    """
    if runs[0].device != "cuda" or runs[0].plain:
        yield from loop.train(recipe, runs)
        return
    setup = set_up(recipe, runs[0], compiled=recipe.compile)
    with flags(recipe.precision):
        known = _known(setup, runs[0])
        if known.why:
            for index, run in enumerate(runs):
                run.note(f"{ALONE}{known.why}")
                yield index, loop.solo(begin(setup, run))
            return
        free, _ = torch.cuda.mem_get_info()
        most = max(1, int(SHARE * free / known.size))
        on = streams(min(most, len(runs)))
        if together is not None:
            known = replace(known, together=together)
        attempt = partial(_pack, setup, runs, on, known)
        yield from packed(range(len(runs)), most, attempt)
        release()


# A process often trains many packs of one recipe, which is probed only once.
_FOUND: dict[str, Known] = {}


def _known(setup: Setup, run: Run) -> Known:
    key = recipe_id(run, fed=setup.feed is not None)
    if key not in _FOUND:
        if setup.recipe.compile:
            with drawing_from(torch.Generator("cuda")):
                rehearse(setup, run)
        _FOUND[key] = probe(setup, run)
    return _FOUND[key]


def packed(
    indices: Sequence[int], most: int, attempt: Callable[[Sequence[int]], Iterator[tuple[int, Result]]], least: int = 1
) -> Iterator[tuple[int, Result]]:
    """Train runs by `attempt` in even packs of at most `most`. A pack that runs out of memory is halved.

    Runs of such a pack that have not ended start again, from their checkpoints if they have any.
    Raises: OutOfMemoryError if a pack of at most `least` runs does not fit.
    """
    waiting = deque(indices)
    while waiting:
        size = ceil(len(waiting) / ceil(len(waiting) / most))
        now = [waiting.popleft() for _ in range(size)]
        full = False
        try:
            for index, result in attempt(tuple(now)):
                now.remove(index)
                yield index, result
        except torch.OutOfMemoryError:
            if size <= least:
                raise
            full = True
        if full:  # not in the handler: its traceback would keep the lanes alive
            waiting.extendleft(reversed(now))
            most = size // 2
            release()


def release() -> None:
    """Free the memory that finished lanes have left: cyclic garbage, cuBLAS's memory of each stream, the cache."""
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        clear: Callable[[], None] = torch._C._cuda_clearCublasWorkspaces
        clear()
        torch.cuda.empty_cache()


def _pack(
    setup: Setup, runs: Sequence[Run], on: Sequence[torch.cuda.Stream], known: Known, indices: Sequence[int]
) -> Iterator[tuple[int, Result]]:
    """Train these runs as one pack, or as one pack for each point at which lanes resume."""
    lanes = []
    for index in indices:
        generator = torch.Generator("cuda")
        with drawing_from(generator):
            lane = begin(setup, runs[index], index)
        lane.generator = generator
        lanes.append(lane)
    torch.cuda.synchronize()
    for over, group in by_point(lanes):
        if over:
            for lane in group:
                yield lane.index, loop.guarded(loop.conclude, lane)
            continue
        pack = Pack(group, on, setup.feed, known.together)
        yield from pack.results()
        known.together = pack.together if len(group) > 1 else known.together
    torch.cuda.synchronize()
