"""CUDA graphs of training steps: the generator that a step draws from, and many lanes in one graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

LOOK = 16  # steps between two checks of the clock and of whether a stop was requested
AHEAD = 3  # looks that the host may be ahead of a GPU: with more, it could not stop in time
STREAMS = 32  # torch creates this many before it reuses the first


class Throttle:
    """A limit on how far the host runs ahead of the device: a few looks, not a whole epoch."""

    def __init__(self) -> None:
        self._queued: deque[torch.cuda.Event] = deque()

    def look(self, stream: torch.cuda.Stream | None = None) -> None:
        """Mark the work of a stream (default: the current one) so far, and wait for the oldest mark if it is due."""
        mark = torch.cuda.Event()  # type: ignore[no-untyped-call]
        mark.record(stream)
        self._queued.append(mark)
        if len(self._queued) > AHEAD:
            self._queued.popleft().synchronize()


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Replace torch's global CUDA generator by `generator` inside the block: drawing from one advances both."""
    torch.cuda.init()  # type: ignore[no-untyped-call]
    own: Any = torch.cuda.default_generators[torch.cuda.current_device()]
    before = own.graphsafe_get_state()
    own.graphsafe_set_state(generator)
    try:
        yield
    finally:
        own.graphsafe_set_state(before)


def streams(count: int) -> list[torch.cuda.Stream]:
    """Return distinct streams, at most STREAMS of them."""
    return [torch.cuda.Stream() for _ in range(min(count, STREAMS))]  # type: ignore[no-untyped-call]


def side_by_side(
    root: torch.cuda.Stream,
    chains: Iterable[tuple[torch.cuda.Stream, Sequence[tuple[torch.Generator, Callable[[], None]]]]],
) -> None:
    """Run each chain of steps on its own stream, in parallel, after the work of `root` so far and before its next work.

    A step comes with the generator that it draws from.
    """
    fork = torch.cuda.Event()  # type: ignore[no-untyped-call]
    fork.record(root)
    joins = []
    for stream, steps in chains:
        if stream != root:
            stream.wait_event(fork)
        with torch.cuda.stream(stream):
            for generator, step in steps:
                with drawing_from(generator):
                    step()
        if stream != root:
            join = torch.cuda.Event()  # type: ignore[no-untyped-call]
            join.record(stream)
            joins.append(join)
    for join in joins:
        root.wait_event(join)


def capture(
    root: torch.cuda.Stream,
    generators: Sequence[torch.Generator],
    body: Callable[[], None],
    pool: Any = None,
) -> torch.cuda.CUDAGraph:
    """Return the graph of the kernels that `body` launches on `root` and streams forked from it, without running them.

    pool: of another graph that is never replayed at the same time. Raises what `body` raises and leaves torch
    usable.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    torch.cuda.synchronize()
    # The global generator is also marked as captured: let it be one of these, not the caller's.
    with drawing_from(generators[0]), torch.cuda.stream(root):
        # Only this thread is restricted to what a capture allows: others copy data in the meantime.
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            body()
        except BaseException:
            with suppress(RuntimeError):
                graph.capture_end()
            with suppress(Exception):  # a broken capture leaves the allocator filling the graph's pool
                end: Any = torch._C._cuda_endAllocateToPool
                end(torch.cuda.current_device(), graph.pool())
            raise
        graph.capture_end()
    return graph
