"""Pack: lanes at the same point of training whose steps are replayed side by side on one GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from sweep.determinism import seeding
from sweep.store import Failure
from sweep.train.belt import Belt
from sweep.train.capture import LOOK, Throttle, drawing_from
from sweep.train.feed import Feed
from sweep.train.group import Group, Seat
from sweep.train.lane import epoch_rates, start_epoch
from sweep.train.loop import (
    Metrics,
    conclude,
    epoch_sums,
    guarded,
    save_all,
    say_first_batch,
    tell,
    turn,
)

HANDS = 8  # threads for what the CPU does for each lane after an epoch: digests, scores, files
WARM, TRIAL = 3, 24  # steps before a form is timed (the first is not yet a graph), and timed


Form = bool  # True: one graph of parallel branches; False: a graph for every stream


@dataclass
class Pack:
    """Lanes of one recipe at one point of training. `form` is found by timing unless it is given.

    feed: brings the batches; None where they are gathered on the device.
    """

    seats: list[Seat]
    streams: Sequence[torch.cuda.Stream]
    feed: Feed | None = None
    form: Form | None = None
    groups: list[Group] = field(default_factory=list)
    _throttle: Throttle = field(default_factory=Throttle)
    _pool: ThreadPoolExecutor = field(init=False)
    _belt: Belt | None = None

    def results(self) -> Iterator[tuple[int, Metrics | Failure]]:
        """Train until every lane has ended; yields a lane's result as soon as it has one.

        Raises: OutOfMemoryError; Interrupted at a stop, once every lane is saved.
        """
        threads = self.seats[0].lane.run.threads
        with ThreadPoolExecutor(HANDS, initializer=_hand, initargs=(threads,)) as self._pool:
            while self.seats:
                if not self.groups:
                    self._regroup(True if self.form is None else self.form)
                self._epoch()
                yield from self._end_epoch()
                due = [seat.lane.run.checkpoint_due(epoch_end=True) for seat in self.seats]
                if any(due):
                    self.save()

    def _regroup(self, together: Form) -> None:
        """Lay the lanes out in one graph, or in a graph for every stream; both keep a lane on its stream."""
        if self.groups:
            self.groups = []
            torch.cuda.empty_cache()  # the old graphs' memory: a capture cannot ask for it back
        n = min(len(self.streams), len(self.seats))
        split = [self.seats] if together else [self.seats[i::n] for i in range(n)]
        for i, seats in enumerate(split):
            lr = torch.zeros(1, device="cuda")
            for seat in seats:
                seat.lane.lr = lr[0]
                for group in seat.lane.optimizer.param_groups:
                    group["lr"] = seat.lane.lr
            rows = slice(None) if together else slice(i, None, n)
            self.groups.append(Group(seats, rows, self.streams[:n] if together else [self.streams[i]], lr))

    def _epoch(self) -> None:
        first = self.seats[0].lane
        start, total = first.offset, first.batches
        rates = epoch_rates(first)
        batches = list(self._pool.map(lambda seat: start_epoch(seat.lane), self.seats))
        sizes = [len(batch) for batch in batches[0]]
        orders = torch.stack([torch.cat(each) for each in batches]).to("cuda")
        if first.epoch == 1 and start == 0:
            for seat, each in zip(self.seats, batches, strict=True):
                say_first_batch(seat.lane, each[0])
        seen = list(accumulate(sizes))
        self._belt = None if self.feed is None else Belt(self._batches(self.feed, batches, start))

        def load(at: int) -> None:
            for group in self.groups:
                group.load(orders[group.rows], sizes, rates, at)
            torch.cuda.synchronize()

        def run(positions: range) -> float:
            """Return the seconds until these steps are done."""
            torch.cuda.synchronize()
            begun = time.perf_counter()
            self._steps(positions, rates, seen)
            torch.cuda.synchronize()
            return time.perf_counter() - begun

        load(start)
        if self.form is None and total - start >= 3 * (WARM + TRIAL) and len(self.seats) > 1:
            taken = {}
            for form in (True, False):
                self._regroup(form)
                load(start)
                run(range(start, start + WARM))
                taken[form] = run(range(start + WARM, start + WARM + TRIAL))
                start += WARM + TRIAL
            self.form = taken[True] <= taken[False]
            if self.form:
                self._regroup(True)
                load(start)
        run(range(start, total))

    def _batches(self, feed: Feed, batches: Sequence[Sequence[Tensor]], start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what the feed brings for this epoch's steps; batches: positions, of each lane those of every step."""
        lanes = [seat.lane for seat in self.seats]
        positions = (torch.stack(each) for each in list(zip(*batches, strict=True))[start:])
        return feed.batches(lanes[0].epoch, [lane.run.streams["augment"] for lane in lanes], positions)

    def _steps(self, positions: range, rates: Sequence[float], seen: Sequence[int]) -> None:
        """Do these steps; `seen`: examples of the epoch after each."""
        for position in positions:
            load = None if self._belt is None else self._belt.load()
            for group in self.groups:
                group.go(position, load)
            # Alone, a run is watched step by step: that is how a few steps of it are proven.
            if len(self.seats) > 1 and position % LOOK and position != positions[-1]:
                continue
            for seat in self.seats:
                seat.lane.offset, seat.lane.rate = position + 1, rates[position]
                seat.lane.seen = seen[position]
            if position % LOOK == 0:
                self._throttle.look(self.groups[0].root)
            if len(self.seats) == 1:
                tell(self.seats[0].lane)
            if self.seats[0].lane.run.checkpoint_due(epoch_end=False):
                torch.cuda.synchronize()
                self.save()

    def _end_epoch(self) -> Iterator[tuple[int, Metrics | Failure]]:
        """Measure every lane, read all at once, and let go of the lanes that have ended."""
        sums = torch.stack([epoch_sums(seat.lane) for seat in self.seats]).tolist()
        failures = list(self._pool.map(partial(guarded, turn), (seat.lane for seat in self.seats), sums))
        over = [s for s, failure in zip(self.seats, failures, strict=True) if failure is None and s.lane.over]
        failed = [(s, f) for s, f in zip(self.seats, failures, strict=True) if f is not None]
        if over or failed:
            gone = {seat.index for seat in over} | {seat.index for seat, _ in failed}
            self.seats = [seat for seat in self.seats if seat.index not in gone]
            self.groups = []  # their graphs hold the lanes that have ended
        for seat, failure in failed:
            yield seat.index, failure
        concluded = self._pool.map(partial(guarded, conclude), (seat.lane for seat in over))
        for seat, result in zip(over, concluded, strict=True):
            yield seat.index, result

    def save(self) -> None:
        """Save a checkpoint of every lane. Raises: Interrupted when a stop was asked for, after the last."""
        save_all((seat.lane, drawing_from(seat.generator)) for seat in self.seats)


def _hand(threads: int) -> None:
    """Make a thread of the pool ready: metrics are computed on the CPU, where the number of threads decides bits."""
    seeding.set_threads(threads)
    torch.cuda.synchronize()  # else its first product warns that the thread has no CUDA context
