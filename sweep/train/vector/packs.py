"""Packs: the runs of a recipe in packs of one width, which train side by side on a GPU."""

from __future__ import annotations

import resource
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from math import ceil

import torch

from sweep.handle import Run
from sweep.job import Interrupted
from sweep.train.lane import Setup, begin, by_point, recipe_id, set_up
from sweep.train.lanes import SHARE, packed, release
from sweep.train.loop import Result, conclude, guarded
from sweep.train.precision import flags
from sweep.train.recipe import Recipe
from sweep.train.vector.check import check
from sweep.train.vector.pack import THREADS, Pack
from sweep.train.vector.stack import Stack

FILES = 256  # for everything else; each run keeps its history open


def train(recipe: Recipe, runs: Sequence[Run]) -> Iterator[tuple[int, Result]]:
    """Train the runs in packs of the width that their specs name, and yield each run's position with its result.

    On a GPU, several packs train side by side if its memory holds them. Runs that resume from different steps are
    trained in separate packs. The free rows of a pack repeat its first run, so a run alone has the same bits as in a
    full pack.
    Raises: SweepError with the reason for a recipe that cannot be vectorised; Interrupted at a stop, after all runs
    are saved; OutOfMemoryError if one pack does not fit.
    """
    width = runs[0].spec.vectorize
    setup = set_up(recipe, runs[0], compiled=False)
    with flags(recipe.precision):
        size = _checked(setup, runs[0])
        beside = 1
        if runs[0].device == "cuda" and setup.feed is None:
            free, _ = torch.cuda.mem_get_info()
            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            beside = max(1, min(int(SHARE * free / size), (files - FILES) // width))
        yield from packed(range(len(runs)), beside * width, partial(_packs, setup, runs, width), least=width)


_CHECKED: dict[str, int] = {}  # by recipe and spec, for a process often trains many packs of one recipe


def _checked(setup: Setup, run: Run) -> int:
    """Check the recipe once, and return the bytes of a GPU that one of its packs takes."""
    key = recipe_id(run)
    if key not in _CHECKED:
        if run.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()  # 0 without a GPU
        check(setup, run)
        # Twice what the check took, because the graphs of a pack keep the memory of a step.
        _CHECKED[key] = max(1, 2 * (torch.cuda.max_memory_allocated() - before))
        release()
    return _CHECKED[key]


def _packs(setup: Setup, runs: Sequence[Run], width: int, indices: Sequence[int]) -> Iterator[tuple[int, Result]]:
    lanes = [begin(setup, runs[index], index) for index in indices]
    waiting = []
    for over, group in by_point(lanes):
        if over:
            yield from ((lane.index, guarded(conclude, lane)) for lane in group)
            continue
        count = ceil(len(group) / width)
        waiting += [group[i * len(group) // count : (i + 1) * len(group) // count] for i in range(count)]
    # On a CPU, the cores have other work.
    with ThreadPoolExecutor(THREADS if runs[0].device == "cuda" else 1) as threads:
        made = (Pack(Stack(group, width), threads, setup.feed) for group in waiting)
        yield from side_by_side(made, ceil(len(indices) / width))


def side_by_side(packs: Iterator[Pack], most: int) -> Iterator[tuple[int, Result]]:
    """Train packs, at most this many at a time, and yield their results.

    In its turn, a pack puts some steps on a stream of its own, and the device works on those of all packs at once.
    Raises: Interrupted at a stop, after all packs are saved.
    """
    active: deque[tuple[torch.cuda.Stream | None, Iterator[tuple[int, Result] | None]]] = deque()
    stopped: Interrupted | None = None
    while True:
        while len(active) < most and stopped is None and (pack := next(packs, None)) is not None:
            stream = None
            if pack.stack.device == "cuda":
                torch.cuda.synchronize()  # its tensors were made on another stream
                stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            active.append((stream, pack.results()))
        if not active:
            break
        stream, results = active.popleft()
        try:
            with nullcontext() if stream is None else torch.cuda.stream(stream):
                found = next(results)
        except StopIteration:
            continue
        except Interrupted as stop:  # the other packs find the same stop at their next look
            stopped = stop
            continue
        active.append((stream, results))
        if found is not None:
            yield found
    if stopped is not None:
        raise stopped
