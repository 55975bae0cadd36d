"""Pack: lanes at the same point of training that are rows of one stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sweep.train.cuda_graphs import LOOK, Throttle, capture
from sweep.train.feed import Feed
from sweep.train.lane import Lane, draw_order, epoch_rates, set_key
from sweep.train.loop import Result, conclude, guarded, save_all, say_first_batch, turn
from sweep.train.vector.stack import Stack

THREADS = 4  # of a process with a GPU; more would keep Python's lock from the thread that launches steps


@dataclass(frozen=True)
class Seat:
    """A lane and its row."""

    lane: Lane
    row: int


@dataclass
class Pack:
    """Lanes at the same point of training, trained together until each has ended.

    seats: of the lanes that have not ended. threads: draw orders and take digests, for all packs that train side by
    side. graphs: by number of steps and batch size; None if such a step was done but is not captured yet. places:
    memory of brought batches, by size. ahead: the result of `_drawn` for the next epoch.
    """

    stack: Stack
    threads: ThreadPoolExecutor
    feed: Feed | None = None
    graphs: dict[tuple[int, int], torch.cuda.CUDAGraph | None] = field(default_factory=dict)
    places: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    throttle: Throttle = field(default_factory=Throttle)
    ahead: tuple[Tensor, list[Future[dict[int, torch.Generator]]]] | None = None

    def __post_init__(self) -> None:
        self.seats = [Seat(lane, row) for row, lane in enumerate(self.stack.lanes)]

    def results(self) -> Iterator[tuple[int, Result] | None]:
        """Train until every lane has ended, and yield the position and result of each lane when it ends.

        Between steps, None is yielded now and then: it can be another pack's turn.
        Raises: OutOfMemoryError; Interrupted at a stop, after every lane is saved.
        """
        while self.seats:
            yield from self._epoch()
            yield from self._end_epoch()
            due = [seat.lane.run.checkpoint_due(epoch_end=True) for seat in self.seats]
            if any(due):
                self.save()

    def _epoch(self) -> Iterator[None]:
        stack, first = self.stack, self.seats[0].lane
        start, size, steps = first.offset, first.recipe.batch_size, first.batches
        rates, orders = epoch_rates(first), self._orders()
        for seat in self.seats if first.epoch == 1 and start == 0 else ():
            say_first_batch(seat.lane, orders[seat.row, :size])
        stack.plan.begin(first, orders, rates)
        if first.device == "cuda" and first.epoch < first.recipe.epochs:
            after = {seat.row: seat.lane.drawn for seat in self.seats}
            self.ahead = self._drawn(after)  # while the device works
        batches = torch.split(orders[:, : stack.plan.examples], size, dim=1)
        fed = iter(()) if self.feed is None else self._fed(self.feed, first, batches[start:])
        position = start
        while position < steps:
            count = self._act(position, batches[position].shape[1], rates[position], fed)
            position += count
            first.seen += count * batches[position - 1].shape[1]
            if position % LOOK and position < steps:
                continue
            for seat in self.seats:
                seat.lane.offset, seat.lane.rate, seat.lane.seen = position, rates[position - 1], first.seen
            if first.device == "cuda":
                self.throttle.look()
            if first.run.checkpoint_due(epoch_end=False):
                self.save()
            yield
        if self.ahead is not None:
            wait(self.ahead[1])

    def _act(self, position: int, size: int, rate: float, fed: Iterator[tuple[Tensor, Tensor]]) -> int:
        """Do the step at a position, on a GPU several steps at once if possible. Return the number of steps."""
        stack = self.stack
        brought = None if self.feed is None else next(fed)
        if stack.device == "cpu":
            stack.set_rate(rate)
            stack.step(size, brought)
            return 1
        if brought is not None:
            place = self.places.setdefault(size, (brought[0].clone(), brought[1].clone()))
            for mine, given in zip(place, brought, strict=True):
                mine.copy_(given)
            brought = place
        aligned = position % LOOK == 0 and position + LOOK <= stack.plan.whole
        count = LOOK if aligned and brought is None and (1, size) in self.graphs else 1
        self._replay(count, size, brought)
        return count

    def _fed(self, feed: Feed, first: Lane, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        streams = [lane.run.streams["augment"] for lane in self.stack.lanes]
        streams += streams[:1] * (self.stack.width - len(streams))
        for inputs, targets in feed.batches(first.epoch, streams, batches):
            yield inputs.to(first.device, non_blocking=True), targets.to(first.device, non_blocking=True)

    def _replay(self, count: int, size: int, brought: tuple[Tensor, Tensor] | None) -> None:
        """Do steps of a batch size. The first prepares what a capture cannot; all others are graphs."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        key = count, size
        if count == 1 and key not in self.graphs:
            self.graphs[key] = None
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.stack.step(size, brought)
            torch.cuda.current_stream().wait_stream(stream)
            return
        graph = self.graphs.get(key)
        if graph is None:

            def body() -> None:
                for _ in range(count):
                    self.stack.step(size, brought)

            kept = next((each.pool() for each in self.graphs.values() if each is not None), None)
            graph = capture(stream, [torch.Generator("cuda")], body, kept)  # a step draws from no generator
            torch.cuda.current_stream().wait_stream(stream)
            self.graphs[key] = graph
        graph.replay()

    def _orders(self) -> Tensor:
        """Return each row's order of this epoch, and move the generator and key of every lane past it.

        A row without a lane has the order of another row.
        """
        first = self.seats[0]
        orders, drawn = self.ahead or self._drawn({seat.row: seat.lane.order for seat in self.seats})
        self.ahead = None
        after = {row: generator for share in drawn for row, generator in share.result().items()}
        for seat in self.seats:
            seat.lane.drawn = after[seat.row]
            set_key(seat.lane)
        for row in set(range(self.stack.width)) - {seat.row for seat in self.seats}:
            orders[row] = orders[first.row]
        return orders

    def _drawn(self, before: Mapping[int, torch.Generator]) -> tuple[Tensor, list[Future[dict[int, torch.Generator]]]]:
        """Return orders of the lanes, int64 (W, examples) on the CPU, and by row the generators after they were drawn.

        before: the generators, by row. Both results are complete when all futures are.
        """
        size = self.stack.width, len(self.stack.data.train)
        made = torch.empty(size, dtype=torch.int64, pin_memory=self.stack.device == "cuda")
        lane = self.seats[0].lane

        def draw(rows: Sequence[int]) -> dict[int, torch.Generator]:
            return {row: draw_order(lane, before[row], made[row])[1] for row in rows}

        shares = (list(before)[first::THREADS] for first in range(THREADS))
        return made, [self.threads.submit(draw, share) for share in shares if share]

    def _end_epoch(self) -> Iterator[tuple[int, Result]]:
        """Measure all rows, read the sums at once, and release the lanes that have ended. Their rows stay idle."""
        stack = self.stack
        sums = torch.cat([stack.loss_sum[:, None], stack.validation_sums(stack.data.val)], 1).tolist()
        stack.loss_sum.zero_()
        stack.show()
        # Threads gain if most of the time is hashing. On a CPU, they are limited and have other work.
        apart = stack.device == "cuda" and sum(leaf.numel() for leaf in stack.parameters.values()) > 1 << 22
        turned = (self.threads.map if apart else map)(lambda seat: guarded(turn, seat.lane, sums[seat.row]), self.seats)
        ended = list(zip(self.seats, turned, strict=True))
        for seat, failure in ended:
            lane = seat.lane
            if failure is None and not lane.over:
                continue
            self.seats.remove(seat)
            stack.release(seat.row)
            yield lane.index, failure or guarded(conclude, lane)

    def save(self) -> None:
        """Save a checkpoint of every lane. Raises: Interrupted after the last one if a stop was requested."""
        self.stack.give()
        save_all((seat.lane, nullcontext()) for seat in self.seats)
