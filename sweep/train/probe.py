"""Probe: whether a recipe's step can be captured and then gives the same bits, and the memory that a lane takes."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweep.determinism import digest
from sweep.handle import Run
from sweep.train.cuda_graphs import capture, drawing_from, streams
from sweep.train.feed import AHEAD
from sweep.train.lane import Lane, Setup, fresh, step, update

RATES = 1.0, 0.5, 0.25  # of the probe's three steps: a rate that is frozen into a graph is noticed


@dataclass
class Known:
    """The findings about a recipe.

    why: the reason against lanes, "" for none. size: bytes of the device's memory that a lane takes. together: see
    `Pack`, the faster way for the recipe's first pack.
    """

    why: str = ""
    size: int = 0
    together: bool | None = None


def probe(setup: Setup, run: Run) -> Known:
    """Try a temporary lane of the recipe: three plain steps, then again with the last two as a graph.

    `run` gives the seeds and the device. Nothing is written.
    """
    count = len(setup.data.train)
    size = min(setup.recipe.batch_size, count)
    positions = [(torch.arange(size) + i * size) % count for i in range(len(RATES))]
    batches: list[tuple[Tensor, ...]] = [(each.to("cuda"),) for each in positions]
    act: Callable[..., None] = step
    if setup.feed is not None:
        batches, act = list(setup.feed.alone(1, run.streams["augment"], positions)), update

    def plain() -> str:
        lane, generator, stream = _made(setup, run)
        with drawing_from(generator), torch.cuda.stream(stream):
            before = _host_draws()
            for i, (rate, batch) in enumerate(zip(RATES, batches, strict=True)):
                _set(lane, rate)
                with nullcontext() if i == 0 else _no_sync():
                    act(lane, *batch)
            if _host_draws() != before:
                raise _Unfit("the step draws random numbers on the CPU, which a graph would repeat for ever")
        return _bits(lane, generator)

    def captured() -> tuple[str, int]:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info()[0]
        lane, generator, stream = _made(setup, run)
        batch = [each.clone() for each in batches[0]]
        spare = [each.clone() for each in batch for _ in range(AHEAD)]  # batches under way also take memory

        def work() -> None:
            with drawing_from(generator):
                act(lane, *batch)

        _set(lane, RATES[0])
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            work()
        graph = capture(stream, [generator], work)
        for rate, following in zip(RATES[1:], batches[1:], strict=True):
            _set(lane, rate)
            for mine, new in zip(batch, following, strict=True):
                mine.copy_(new)
            torch.cuda.synchronize()
            with torch.cuda.stream(stream):
                graph.replay()
            torch.cuda.synchronize()
        taken = free - torch.cuda.mem_get_info()[0]
        del spare
        return _bits(lane, generator), taken

    try:
        bits = plain()
        same, taken = captured()
        if run.deterministic and same != bits:
            raise _Unfit("a CUDA graph of the step gives different bits from the step itself")
        return Known(size=max(1, taken))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, _Unfit) as error:
        return Known(why=_reason(error))
    finally:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


class _Unfit(Exception):
    """A step that must not be captured."""


def _made(setup: Setup, run: Run) -> tuple[Lane, torch.Generator, torch.cuda.Stream]:
    generator = torch.Generator("cuda")
    with drawing_from(generator):
        lane = fresh(setup, run)
    lane.model.train()
    torch.cuda.synchronize()
    return lane, generator, streams(1)[0]


def _set(lane: Lane, factor: float) -> None:
    assert lane.lr is not None
    lane.lr.fill_(lane.recipe.lr * factor)
    torch.cuda.synchronize()


def _bits(lane: Lane, generator: torch.Generator) -> str:
    torch.cuda.synchronize()
    state: Any = generator
    return f"{digest.module(lane.model)} {lane.loss_sum.item()!r} {state.get_offset()}"


class _no_sync:
    """A block in which waiting for the device is an error."""

    def __enter__(self) -> None:
        self.before = torch.cuda.get_sync_debug_mode()
        _sync_debug("error")

    def __exit__(self, *_: object) -> None:
        _sync_debug(self.before)


def _sync_debug(mode: int | str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning says that it misses some waits, but capturing finds those
        torch.cuda.set_sync_debug_mode(mode)


def _host_draws() -> tuple[Any, ...]:
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    return random.getstate(), str(numpy["state"]), torch.get_rng_state().numpy().tobytes()


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "synchronizing CUDA operation" in text or "stream is capturing" in text:
        return (
            "the step waits for the device (.item(), a copy, a shape that depends on data); "
            "keep its values on the device"
        )
    return text
