"""Pack: lanes at the same point of training whose steps are replayed in parallel on one GPU, as CUDA graphs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from sweep.determinism import seeding
from sweep.store import Failure
from sweep.train.cuda_graphs import LOOK, Throttle, capture, drawing_from, side_by_side
from sweep.train.feed import Belt, Feed
from sweep.train.lane import Lane, epoch_rates, start_epoch, step, update
from sweep.train.loop import (
    Metrics,
    conclude,
    epoch_sums,
    guarded,
    report_step,
    save_all,
    say_first_batch,
    turn,
)

HANDS = 8  # threads for the CPU's work on each lane after an epoch: digests, scores, files
WARM = 3  # steps before graphs are timed: the first step is not yet a graph
TRIALS, TRIAL = 3, 8  # times that graphs are timed, the fastest of which counts, and steps each time


@dataclass
class Section:
    """The steps of an epoch that have one batch size: `first` .. `first + count - 1`.

    orders: int64 (count, lanes, batch) positions. rates: float32 (count,). cursor: the step to do next,
    from 0. batch: (1, lanes, batch), the part of `orders` at the cursor. fed: inputs (lanes, batch, ...) and
    targets (lanes, batch) of the step, if a feed brings them. All are on the device and are changed in place.
    """

    first: int
    count: int
    orders: Tensor
    rates: Tensor
    cursor: Tensor
    batch: Tensor
    fed: tuple[Tensor, Tensor] | None = None
    graph: torch.cuda.CUDAGraph | None = None
    warm: bool = False


@dataclass
class Group:
    """Lanes whose steps are one graph: in parallel on its streams, one after the other on each stream.

    rows: the rows of the pack that its lanes are.
    """

    lanes: Sequence[Lane]
    rows: slice
    streams: Sequence[torch.cuda.Stream]
    lr: Tensor
    sections: list[Section] = field(default_factory=list)

    @property
    def root(self) -> torch.cuda.Stream:
        return self.streams[0]

    def go(self, position: int, belt: Belt | None) -> None:
        """Do every lane's step at this position of the epoch. belt: holds its batches, if a feed brings them."""
        section = next(s for s in self.sections if position < s.first + s.count)
        if belt is not None:
            if section.fed is None:
                with torch.cuda.stream(self.root):  # on another stream, filling new memory could come after the copy
                    section.fed = torch.empty_like(belt.inputs[self.rows]), torch.empty_like(belt.targets[self.rows])
            belt.give(self.rows, *section.fed, self.root)
        if section.graph is None and section.warm:
            pool = next((s.graph.pool() for s in self.sections if s.graph is not None), None)
            generators = [lane.generator for lane in self.lanes]
            section.graph = capture(self.root, generators, partial(self._step, section), pool)
        with torch.cuda.stream(self.root):
            if section.graph is not None:
                section.graph.replay()
            else:
                self._step(section)
                section.warm = True

    def _step(self, section: Section) -> None:
        if section.fed is None:
            torch.index_select(section.orders, 0, section.cursor, out=section.batch)
        torch.index_select(section.rates, 0, section.cursor, out=self.lr)
        section.cursor.add_(1)
        chains: list[list[Any]] = [[] for _ in self.streams]
        for i, lane in enumerate(self.lanes):
            if section.fed is None:
                work = partial(step, lane, section.batch[0, i])
            else:
                inputs, targets = section.fed
                work = partial(update, lane, inputs[i], targets[i])
            chains[i % len(chains)].append((lane.generator, work))
        side_by_side(self.root, zip(self.streams, chains, strict=True))

    def load(self, orders: Tensor, sizes: Sequence[int], rates: Sequence[float], start: int) -> None:
        """Take the positions (lanes, examples) and rates of an epoch that begins or resumes at step `start`."""
        if not self.sections:
            self.sections = self._sections(sizes)
        first = 0
        for section in self.sections:
            size = section.orders.shape[2]
            rows = orders[:, first : first + section.count * size]
            section.orders.copy_(rows.view(len(orders), section.count, size).transpose(0, 1))
            span = slice(section.first, section.first + section.count)
            section.rates.copy_(torch.tensor(rates[span], dtype=torch.float32))
            section.cursor.fill_(max(0, start - section.first))
            first += section.count * size

    def _sections(self, sizes: Sequence[int]) -> list[Section]:
        whole = list(sizes).count(sizes[0])
        parts = [(0, whole)] + [(i, 1) for i in range(whole, len(sizes))]
        k, on = len(self.lanes), self.lr.device
        return [
            Section(
                first, count,
                orders=torch.zeros(count, k, sizes[first], dtype=torch.int64, device=on),
                rates=torch.zeros(count, device=on), cursor=torch.zeros(1, dtype=torch.int64, device=on),
                batch=torch.zeros(1, k, sizes[first], dtype=torch.int64, device=on),
            )
            for first, count in parts
        ]  # fmt: skip


@dataclass
class Pack:
    """Lanes of one recipe at one point of training.

    together: whether their steps are one graph of parallel branches, not a graph for every stream; None: not yet timed.
    feed: brings the batches; None if they are gathered on the device.
    """

    lanes: list[Lane]
    streams: Sequence[torch.cuda.Stream]
    feed: Feed | None = None
    together: bool | None = None
    groups: list[Group] = field(default_factory=list)
    _throttle: Throttle = field(default_factory=Throttle)
    _pool: ThreadPoolExecutor = field(init=False)
    _belt: Belt | None = None

    def results(self) -> Iterator[tuple[int, Metrics | Failure]]:
        """Train until every lane has ended, and yield each lane's result as soon as it has one.

        Raises: OutOfMemoryError; Interrupted at a stop, once every lane is saved.
        """
        threads = self.lanes[0].run.threads
        with ThreadPoolExecutor(HANDS, initializer=_hand, initargs=(threads,)) as self._pool:
            while self.lanes:
                if not self.groups:
                    self._regroup(self.together is not False)
                self._epoch()
                yield from self._end_epoch()
                due = [lane.run.checkpoint_due(epoch_end=True) for lane in self.lanes]
                if any(due):
                    self.save()

    def _regroup(self, together: bool) -> None:
        """Arrange the lanes in one graph, or in one graph per stream. Both keep a lane on its stream."""
        if self.groups:
            self.groups = []
            torch.cuda.empty_cache()  # frees the memory of the old graphs, which a capture cannot do
        n = min(len(self.streams), len(self.lanes))
        split = [self.lanes] if together else [self.lanes[i::n] for i in range(n)]
        for i, lanes in enumerate(split):
            lr = torch.zeros(1, device="cuda")
            for lane in lanes:
                lane.lr = lr[0]
                for group in lane.optimizer.param_groups:
                    group["lr"] = lane.lr
            rows = slice(None) if together else slice(i, None, n)
            self.groups.append(Group(lanes, rows, self.streams[:n] if together else [self.streams[i]], lr))

    def _epoch(self) -> None:
        first = self.lanes[0]
        start, total = first.offset, first.batches
        rates = epoch_rates(first)
        batches = list(self._pool.map(start_epoch, self.lanes))
        sizes = [len(batch) for batch in batches[0]]
        orders = torch.stack([torch.cat(each) for each in batches]).to("cuda")
        if first.epoch == 1 and start == 0:
            for lane, each in zip(self.lanes, batches, strict=True):
                say_first_batch(lane, each[0])
        seen = list(accumulate(sizes))
        self._belt = None if self.feed is None else Belt(self._batches(self.feed, batches, start))

        def load(at: int) -> None:
            for group in self.groups:
                group.load(orders[group.rows], sizes, rates, at)
            torch.cuda.synchronize()

        def run(positions: range) -> float:
            """Do these steps and return the seconds that they took."""
            torch.cuda.synchronize()
            begun = time.perf_counter()
            self._steps(positions, rates, seen)
            torch.cuda.synchronize()
            return time.perf_counter() - begun

        load(start)
        if self.together is None and total - start >= 3 * (WARM + TRIALS * TRIAL) and len(self.lanes) > 1:
            taken = {}
            for together in (True, False):
                self._regroup(together)
                load(start)
                run(range(start, start + WARM))
                start += WARM
                ends = range(start, start + TRIALS * TRIAL, TRIAL)
                taken[together] = min(run(range(at, at + TRIAL)) for at in ends)
                start += TRIALS * TRIAL
            self.together = taken[True] <= taken[False]
            if self.together:
                self._regroup(True)
                load(start)
        run(range(start, total))

    def _batches(self, feed: Feed, batches: Sequence[Sequence[Tensor]], start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the feed's batches for this epoch's steps. batches: for each lane, the positions of every step."""
        positions = (torch.stack(each) for each in list(zip(*batches, strict=True))[start:])
        return feed.batches(self.lanes[0].epoch, [lane.run.streams["augment"] for lane in self.lanes], positions)

    def _steps(self, positions: range, rates: Sequence[float], seen: Sequence[int]) -> None:
        """Do these steps. seen: the number of the epoch's examples after each."""
        for position in positions:
            if self._belt is not None:
                self._belt.load()
            for group in self.groups:
                group.go(position, self._belt)
            # A single run is observed step by step, so that a few of its steps can be proven.
            if len(self.lanes) > 1 and position % LOOK and position != positions[-1]:
                continue
            for lane in self.lanes:
                lane.offset, lane.rate, lane.seen = position + 1, rates[position], seen[position]
            if position % LOOK == 0:
                self._throttle.look(self.groups[0].root)
            if len(self.lanes) == 1:
                report_step(self.lanes[0])
            if self.lanes[0].run.checkpoint_due(epoch_end=False):
                torch.cuda.synchronize()
                self.save()

    def _end_epoch(self) -> Iterator[tuple[int, Metrics | Failure]]:
        """Measure every lane, read all results at once, and drop the lanes that have ended."""
        sums = torch.stack([epoch_sums(lane) for lane in self.lanes]).tolist()
        turned = list(zip(self.lanes, self._pool.map(partial(guarded, turn), self.lanes, sums), strict=True))
        self.lanes = [lane for lane, failure in turned if failure is None and not lane.over]
        if len(self.lanes) < len(turned):
            self.groups = []  # their graphs hold the lanes that have ended
        yield from ((lane.index, failure) for lane, failure in turned if failure is not None)
        over = [lane for lane, failure in turned if failure is None and lane.over]
        yield from zip((lane.index for lane in over), self._pool.map(partial(guarded, conclude), over), strict=True)

    def save(self) -> None:
        """Save a checkpoint of every lane. Raises: Interrupted after the last one if a stop was requested."""
        save_all((lane, drawing_from(lane.generator)) for lane in self.lanes)


def _hand(threads: int) -> None:
    """Prepare a thread of the pool: metrics are computed on the CPU, where the number of threads affects bits."""
    seeding.set_threads(threads)
    torch.cuda.synchronize()  # otherwise its first product warns that the thread has no CUDA context
