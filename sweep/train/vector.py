"""Vectorised lanes: one step trains W seeds at once, their parameters stacked along a new first dimension.

The width is part of the arithmetic: other widths give other bits. At one width, a seed has the same bits in every row
and beside any other seeds. This is checked: before the first pack of a recipe, a few steps are compared (see `check`),
and a recipe whose rows affect each other is refused.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sweep.errors import SweepError
from sweep.handle import Run
from sweep.store import Failure
from sweep.target.values import values_of
from sweep.train.augment import altered, alters, example_keys
from sweep.train.cuda_graphs import LOOK, Throttle, capture
from sweep.train.data import Split
from sweep.train.evaluate import BATCH, sums_of
from sweep.train.feed import Feed
from sweep.train.lane import (
    Lane,
    Setup,
    begin,
    by_point,
    draw_order,
    epoch_rates,
    fresh,
    recipe_id,
    set_key,
    set_up,
    start_epoch,
    tensors_of,
)
from sweep.train.lanes import release
from sweep.train.loop import Metrics, conclude, guarded, save_all, say_first_batch, turn
from sweep.train.precision import flags, forward
from sweep.train.recipe import Recipe
from sweep.train.traced import Traced

Result = Metrics | Failure
STEPS = 3  # of a check
THREADS = 4  # with a GPU; more would keep Python's lock from the thread that launches steps
TENSORS, FULL = 36, 1 << 23  # tensors of one kernel of torch's fused optimizers; parameters that fill a GPU anyway
CHOICES = 1 << 20  # tokens of a row's batch times vocabulary: larger embeddings are not made one-hot
SCORES = 512**2  # of attention, per example and head: a larger number is not kept
OFF = "leave `vectorize` off: lanes on a GPU train any recipe"


def train(recipe: Recipe, runs: Sequence[Run]) -> Iterator[tuple[int, Result]]:
    """Train the runs in packs of the width that their specs name, and yield each run's position with its result.

    Runs that resume from different steps are trained in separate packs. The free rows of a pack repeat its first run,
    so a run alone has the same bits as in a full pack.
    Raises: SweepError with the reason for a recipe that cannot be vectorised; Interrupted at a stop, after all runs
    are saved.
    """
    width = runs[0].spec.vectorize
    setup = set_up(recipe, runs[0], compiled=False)
    with flags(recipe.precision):
        key = recipe_id(runs[0])
        if key not in _CHECKED:
            check(setup, runs[0])
            _CHECKED.add(key)
        yield from _packs(setup, runs, width)


def _packs(setup: Setup, runs: Sequence[Run], width: int) -> Iterator[tuple[int, Result]]:
    for first in range(0, len(runs), width):
        lanes = [begin(setup, runs[index], index) for index in range(first, min(first + width, len(runs)))]
        for over, group in by_point(lanes):
            if over:
                yield from ((lane.index, guarded(conclude, lane)) for lane in group)
            else:
                seats = [Seat(lane, row) for row, lane in enumerate(group)]
                yield from Pack(seats, Stack(group, width), setup.feed).results()


@dataclass(frozen=True)
class Seat:
    """A lane and its row."""

    lane: Lane
    row: int


class Row(TorchFunctionMode):
    """Replace, under `vmap`, functions whose results would depend on the other rows or that would run row by row.

    Dropout hashes (seed, step, layer, element) instead of drawing from a random stream, which would depend on the row.
    Attention becomes products, which torch computes for all rows at once. So does the gradient of an embedding: torch
    would add it up slowly, or in an order that depends on the other rows. When compiled, cross-entropy becomes a
    `where`, which is fused with the operations around it; uncompiled, this would take more memory than torch's own.
    stream, step: int64, with one stream for each row. They are hashed at the first dropout.
    """

    def __init__(self, stream: Tensor, step: Tensor) -> None:
        super().__init__()
        self.stream, self.step, self.layer = stream, step, 0
        self._key: Tensor | None = None

    @property
    def key(self) -> Tensor:
        if self._key is None:
            self._key = hashed(self.stream ^ hashed(self.step))
        return self._key

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is F.embedding:
            return _embedding(*args, **kwargs)
        if func is F.cross_entropy and torch.compiler.is_compiling():
            return _cross_entropy(*args, **kwargs)
        if func is Tensor.unflatten:  # within a mode, torch's compiler cannot follow the method, which calls its super
            return torch.unflatten(*args, **kwargs)
        if func in _DROPOUTS:
            return self._drop(_DROPOUTS[func], *args, **kwargs)
        return func(*args, **kwargs)

    def _drop(
        self, kept: int | None, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return input
        self.layer += 1
        shape = input.shape if kept is None else (*input.shape[:kept], *(1 for _ in input.shape[kept:]))
        count = 1
        for size in shape:
            count *= size
        places = torch.arange(count, device=input.device).view(shape)
        bits = hashed(hashed(self.key + self.layer * 0x3C6EF372) ^ places)
        return torch.where(bits >= int(p * (1 << 32)), input / (1 - p) if p < 1 else input, 0.0)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """Compute attention by its definition: torch's fused kernels take no rows and draw their own masks.

        Without dropout, and if the scores would take much memory, torch's kernels compute one row after the other.
        """
        if not dropout_p and query.shape[-2] * key.shape[-2] > SCORES:
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        if enable_gqa:
            repeats = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        if attn_mask is not None:
            allowed = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, float("-inf")) if allowed else scores + attn_mask
        return self._drop(None, scores.softmax(-1), dropout_p) @ value


# By function, the number of leading dimensions with a mask of their own; None: all.
_DROPOUTS: dict[Any, int | None] = {
    F.dropout: None, torch.dropout: None, F.dropout1d: 2, F.dropout2d: 2, F.dropout3d: 2,
}  # fmt: skip


def _cross_entropy(input: Tensor, target: Tensor, *rest: Any, **more: Any) -> Tensor:
    """Return the mean of a batch without a gather, whose gradient would be a scatter. Torch computes other forms."""
    ignored, reduction = more.get("ignore_index", -100), more.get("reduction", "mean")
    plain = not rest and more.keys() <= {"ignore_index", "reduction"} and reduction == "mean"
    if not plain or target.is_floating_point() or input.dim() < 2:
        return F.cross_entropy(input, target, *rest, **more)
    classes = torch.arange(input.shape[1], device=input.device).view(-1, *(1 for _ in input.shape[2:]))
    counted: Tensor = target != ignored
    chosen = torch.where((target.unsqueeze(1) == classes) & counted.unsqueeze(1), input.log_softmax(1), 0.0)
    return -chosen.sum() / counted.sum()


def _embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Return rows of the weight whose gradient is a product with one-hot rows. Torch computes other forms."""
    if max_norm is not None or scale_grad_by_freq or sparse or input.numel() * len(weight) > CHOICES:
        return F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    known = torch.arange(len(weight), device=input.device)
    chosen = input.unsqueeze(-1) == known
    if padding_idx is not None:
        chosen = chosen & (known != padding_idx % len(weight))
    product = chosen.to(weight.dtype) @ weight
    # The product gives the gradient and the lookup the value, because a product may be rounded to TF32.
    return F.embedding(input, weight.detach()) + (product - product.detach())


def hashed(z: Tensor) -> Tensor:
    """Return 32 well-mixed bits of an int64 by the best two-round hash of Wellons's search (2018), bias 0.11.

    Products stay below 2**63, so the arithmetic is the same in every kernel.
    """
    z = z & 0xFFFFFFFF
    z = (z ^ (z >> 16)) * 0x21F0AAAD & 0xFFFFFFFF
    z = (z ^ (z >> 15)) * 0x735A2D97 & 0xFFFFFFFF
    return z ^ (z >> 15)


class Stack:
    """The stacked state of W lanes. The models of the lanes are views of rows of a copy on the CPU (see `show`).

    parameters, buffers: by name, (W, ...). Rows beyond the lanes repeat the first. copies: of both, on the CPU, where
    weights are digested and saved. When training on a CPU, they are the stacked tensors themselves.
    loss_sum: float64 (W,). keys: of augmentation, streams: of dropout, int64 (W,).
    plan: the epoch. Each step moves its position forward.
    """

    def __init__(self, lanes: Sequence[Lane], width: int) -> None:
        first = lanes[0]
        self.recipe, self.width, self.device, self.data = first.recipe, width, first.device, first.data
        self.lanes, self.objective = lanes, first.objective
        self.base = copy.deepcopy(first.model)
        held = [dict(tensors_of(lane.model)) for lane in lanes]
        stacked = {name: self._stacked([each[name] for each in held]) for name in held[0]}
        self.parameters = {name: stacked[name] for name, _ in first.model.named_parameters()}
        self.buffers = {name: stacked[name] for name, _ in first.model.named_buffers()}
        self.copies = {name: tensor.detach().cpu() for name, tensor in stacked.items()}
        if self.device == "cuda":
            self.copies = {name: tensor.pin_memory() for name, tensor in self.copies.items()}
        for row, each in enumerate(held):
            for name, tensor in each.items():
                tensor.data = self.copies[name][row]
        self.loss_sum = self._stacked([lane.loss_sum for lane in lanes])
        self.keys = self._stacked([lane.key for lane in lanes])
        for row, lane in enumerate(lanes):
            lane.key, lane.loss_sum = self.keys[row], lane.loss_sum.cpu()
        streams = [lane.run.streams["dropout"] for lane in lanes]
        self.streams = torch.tensor([*streams, *streams[:1] * (width - len(lanes))], device=self.device)
        self.plan = Plan(width, first)
        self.lr = torch.zeros((), device=self.device) if self.device == "cuda" else None
        self.gradients = vmap(grad_and_value(self._loss, has_aux=True), (0, 0, 0, 0, 0, None), randomness="error")
        self.pieces = self._pieces()
        self.optimizer = self._optimizer()
        self.set_rate(self.recipe.lr)
        self.run = forward(self.recipe.precision, self.device)
        self.compute: Callable[..., dict[str, Tensor]] = self._compute
        self.sums: Callable[..., Tensor] = self._sums
        if self.device == "cpu":  # on a GPU, graphs do the same
            self.compute, self.sums = Traced(self._compute), Traced(self._sums)
        if self.recipe.compile:
            self.compute = torch.compile(self._compute, dynamic=False)

    def _stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        rows = [tensor.detach() for tensor in tensors]
        return torch.stack([*rows, *rows[:1] * (self.width - len(rows))])

    def _pieces(self) -> dict[str, Sequence[Tensor]]:
        """Return the parameters for the optimizer. On a GPU, they are cut into pieces of some rows.

        A fused kernel gives a small part of the device to each tensor, so a few small tensors would use little of it.
        """
        total = sum(leaf.numel() for leaf in self.parameters.values())
        wanted = max(TENSORS, min(4 * TENSORS, total // 8192)) if self.device == "cuda" and total < FULL else 0
        found: dict[str, Sequence[Tensor]] = {}
        for name, leaf in self.parameters.items():
            count = max(1, min(self.width, wanted * leaf.numel() // total))
            found[name] = torch.split(leaf, -(-self.width // count))
        return found

    def _optimizer(self) -> torch.optim.Optimizer:
        """Return an optimizer of all pieces, with the parameter groups of a lane's own optimizer.

        The groups may depend on the shapes of parameters. If the lanes resume from a checkpoint, the state of their
        optimizers is taken.
        """
        pieces = [piece for each in self.pieces.values() for piece in each]
        made = self.recipe.optimizer(pieces, self.recipe.lr if self.lr is None else self.lr)  # type: ignore[arg-type]
        of = dict(zip(map(id, self.lanes[0].parameters), self.pieces.values(), strict=True))
        made.param_groups = [
            {**group, "params": [piece for each in group["params"] for piece in of[id(each)]]}
            for group in self.lanes[0].optimizer.param_groups
        ]
        owned = zip(*(lane.parameters for lane in self.lanes), strict=True)
        for own, held in zip(owned, self.pieces.values(), strict=True):
            states = [lane.optimizer.state.get(each, {}) for lane, each in zip(self.lanes, own, strict=True)]
            for key, value in states[0].items():
                alike = isinstance(value, Tensor) and value.shape == own[0].shape and key != "step"
                rows = torch.split(self._stacked([state[key] for state in states]), len(held[0])) if alike else ()
                for i, piece in enumerate(held):
                    made.state[piece][key] = rows[i].contiguous() if alike else copy.deepcopy(value)
        return made

    @torch.no_grad()
    def show(self) -> None:
        """Copy the rows into the lanes' models."""
        for name, tensor in {**self.parameters, **self.buffers}.items() if self.device == "cuda" else ():
            self.copies[name].copy_(tensor)

    def give(self) -> None:
        """Copy the whole state of the rows into the lanes, for their checkpoints."""
        self.show()
        sums = self.loss_sum.cpu()
        for row, lane in enumerate(self.lanes):
            lane.loss_sum.copy_(sums[row])
            for held, own in zip(self.pieces.values(), lane.parameters, strict=True):
                piece, at = held[row // len(held[0])], row % len(held[0])
                lane.optimizer.state[own] = {
                    key: value[at] if isinstance(value, Tensor) and value.shape == piece.shape else value
                    for key, value in self.optimizer.state.get(piece, {}).items()
                }

    def release(self, row: int) -> None:
        """Give a lane tensors of its own: the memory address of a row could decide the kernels of its evaluation."""
        for _, tensor in tensors_of(self.lanes[row].model):
            tensor.data = tensor.detach().clone().to(self.device)

    def _loss(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, targets: Tensor,
        stream: Tensor, step: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        held = {name: buffer.clone() for name, buffer in buffers.items()}
        with Row(stream, step):
            return self.objective(self._model(parameters, held), inputs, targets), held

    def _model(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Any:
        return lambda inputs: functional_call(self.base, (parameters, buffers), (inputs,))

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the augmented batches (W, batch, ...) at these positions (W, batch), on the device."""
        inputs, targets = self.data.train.at(indices)
        if not alters(self.recipe):
            return inputs, targets
        ids = self.data.train.ids.index_select(0, indices.flatten()).view(indices.shape)
        keys = example_keys(self.keys[:, None], ids)
        return vmap(partial(altered, self.recipe), randomness="error")(inputs, targets, keys)

    def step(self, size: int, brought: tuple[Tensor, Tensor] | None = None) -> None:
        """Do the next step of the plan, of this batch size, for all rows. Nothing is read back from the device.

        brought: the batch of the step, if a loader brings it.
        """
        self.base.train()
        gradients = self.compute(
            self.parameters, self.buffers, self.plan.batches(size), self.plan.position, self.plan.rates, brought,
            self.plan.before, self.streams, self.loss_sum, self.lr,
        )  # fmt: skip
        for name, pieces in self.pieces.items():
            rows = torch.split(gradients[name], len(pieces[0])) if len(pieces) > 1 else (gradients[name],)
            for piece, each in zip(pieces, rows, strict=True):
                piece.grad = each
        self.optimizer.step()
        for piece in (piece for pieces in self.pieces.values() for piece in pieces):
            piece.grad = None

    def _compute(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], batches: Tensor, position: Tensor,
        rates: Tensor, brought: tuple[Tensor, Tensor] | None, before: Tensor, streams: Tensor, loss_sum: Tensor,
        lr: Tensor | None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Return the gradients for the optimizer. Set its rate and the buffers, add the loss, and count the step.

        All tensors that it reads or changes are arguments, so that it is compiled once for all packs.
        """
        if lr is not None:
            lr.copy_(rates.index_select(0, position).view(()))
        if brought is None:
            brought = self.gather(batches[:, 0] if batches.shape[1] == 1 else batches.index_select(1, position)[:, 0])
        gradients: dict[str, Tensor]
        gradients, (losses, held) = self.gradients(parameters, buffers, *brought, streams, before + position[0])
        if self.recipe.gradients is not None:
            changed = vmap(self.recipe.gradients, randomness="error")(list(gradients.values()))
            gradients = dict(zip(gradients, changed, strict=True))
        loss_sum.add_(losses, alpha=brought[1].shape[1])
        position.add_(1)
        for name, buffer in buffers.items():
            buffer.copy_(held[name])
        return gradients

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the optimizer's next step."""
        if self.lr is not None:
            self.lr.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr if self.lr is not None else rate

    @torch.no_grad()
    def validation_sums(self, split: Split) -> Tensor:
        """Return float64 (W, 1 + k) of every row: the summed loss over a split, then the sums of `Scoring.tally`."""
        self.base.eval()
        # If a sum's rows are not a multiple of 16 bytes long, they begin at different places of the kernel's loads.
        even = len(split) - len(split) % 4
        sizes = [min(BATCH, even - at) for at in range(0, even, BATCH)] + [len(split) - even] * (len(split) > even)

        parts = zip(torch.split(split.inputs, sizes), torch.split(split.targets, sizes), strict=True)
        found = [self.sums(self.parameters, self.buffers, inputs.to(self.device), targets) for inputs, targets in parts]
        return torch.stack(found).sum(0)

    def _sums(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, targets: Tensor
    ) -> Tensor:
        def outputs(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return self.run(self._model(parameters, buffers), inputs)

        return vmap(partial(sums_of, self.lanes[0]), (0, None))(vmap(outputs)(parameters, buffers), targets)


class Plan:
    """An epoch in tensors that keep their memory, because graphs of steps read them.

    orders: int64 (W, examples of train). examples: the number of them that the epoch trains on. rates: float32
    (steps,). position: int64 (1,), the next step of the epoch. before: int64, the steps of earlier epochs.
    """

    def __init__(self, width: int, lane: Lane) -> None:
        self.batch_size = lane.recipe.batch_size
        self.examples = min(len(lane.data.train), lane.batches * self.batch_size)
        self.whole = self.examples // self.batch_size
        self.orders = torch.zeros((width, len(lane.data.train)), dtype=torch.int64, device=lane.device)
        self.rates = torch.empty(lane.batches, device=lane.device)
        self.position = torch.zeros(1, dtype=torch.int64, device=lane.device)
        self.before = torch.zeros((), dtype=torch.int64, device=lane.device)

    def begin(self, lane: Lane, orders: Tensor, rates: Sequence[float]) -> None:
        """Take the orders and rates of an epoch. The next step is the one at which the lane is."""
        self.orders.copy_(orders, non_blocking=True)
        self.rates.copy_(torch.tensor(rates))
        self.position.fill_(lane.offset)
        self.before.fill_((lane.epoch - 1) * lane.batches)

    def batches(self, size: int) -> Tensor:
        """Return int64 (W, batches, size): all whole batches, or the last one if `size` is smaller."""
        at = self.whole * self.batch_size
        kept = self.orders[:, :at] if size == self.batch_size else self.orders[:, at : self.examples]
        return kept.view(len(kept), -1, size)


@dataclass
class Pack:
    """Lanes at the same point of training, trained together until each has ended.

    graphs: by number of steps and batch size; None if such a step was done but is not captured yet. places: memory of
    brought batches, by size. ahead: the result of `_drawn` for the next epoch.
    """

    seats: list[Seat]
    stack: Stack
    feed: Feed | None = None
    graphs: dict[tuple[int, int], torch.cuda.CUDAGraph | None] = field(default_factory=dict)
    places: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    throttle: Throttle = field(default_factory=Throttle)
    threads: ThreadPoolExecutor = field(init=False)
    ahead: tuple[Tensor, list[Future[dict[int, Tensor]]]] | None = None

    @property
    def workers(self) -> int:
        """Return the number of threads that draw orders and take digests. On a CPU, its cores have other work."""
        return THREADS if self.stack.device == "cuda" else 1

    def results(self) -> Iterator[tuple[int, Result]]:
        """Train until every lane has ended, and yield the position and result of each lane when it ends.

        Raises: OutOfMemoryError; Interrupted at a stop, after every lane is saved.
        """
        with ThreadPoolExecutor(self.workers) as self.threads:
            while self.seats:
                self._epoch()
                yield from self._end_epoch()
                due = [seat.lane.run.checkpoint_due(epoch_end=True) for seat in self.seats]
                if any(due):
                    self.save()

    def _epoch(self) -> None:
        stack, first = self.stack, self.seats[0].lane
        start, size, steps = first.offset, first.recipe.batch_size, first.batches
        rates, orders = epoch_rates(first), self._orders()
        for seat in self.seats if first.epoch == 1 and start == 0 else ():
            say_first_batch(seat.lane, orders[seat.row, :size])
        stack.plan.begin(first, orders, rates)
        if first.device == "cuda" and first.epoch < first.recipe.epochs:
            self.ahead = self._drawn()  # while the device works
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
        for seat in self.seats:
            seat.lane.order.set_state(seat.lane.order_state)
        orders, drawn = self.ahead or self._drawn()
        self.ahead = None
        states = {row: state for share in drawn for row, state in share.result().items()}
        for seat in self.seats:
            seat.lane.order.set_state(states[seat.row])
            set_key(seat.lane)
        for row in set(range(self.stack.width)) - {seat.row for seat in self.seats}:
            orders[row] = orders[first.row]
        return orders

    def _drawn(self) -> tuple[Tensor, list[Future[dict[int, Tensor]]]]:
        """Return the next orders of the lanes, int64 (W, examples) on the CPU, and the generators' later states by row.

        The generators keep their states. Both results are complete when all futures are.
        """
        size = self.stack.width, len(self.stack.data.train)
        made = torch.empty(size, dtype=torch.int64, pin_memory=self.stack.device == "cuda")

        def draw(seats: Sequence[Seat]) -> dict[int, Tensor]:
            after = {}
            for seat in seats:
                before = seat.lane.order.get_state()
                draw_order(seat.lane, made[seat.row])
                after[seat.row] = seat.lane.order.get_state()
                seat.lane.order.set_state(before)
            return after

        shares = (self.seats[first :: self.workers] for first in range(self.workers))
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


def pace(recipe: Recipe, run: Run, width: int, *, seconds: float) -> float:
    """Return the seconds of a step of this width, measured with temporary lanes on the data of the recipe.

    Raises: SweepError for a recipe that cannot be vectorised or whose batches come from the host.
    """
    setup = set_up(recipe, run, compiled=False)
    if setup.feed is not None:
        raise SweepError("its batches come from the host", where="vectorize")
    with flags(recipe.precision):
        check(setup, replace(run, spec=replace(run.spec, vectorize=width)))
        lanes = [fresh(setup, _other(run, row)) for row in range(width)]
        pack = Pack([Seat(lane, row) for row, lane in enumerate(lanes)], Stack(lanes, width))
        plan, size = pack.stack.plan, min(recipe.batch_size, len(setup.data.train))
        with ThreadPoolExecutor(1) as pack.threads:
            plan.begin(lanes[0], pack._orders(), epoch_rates(lanes[0]))
        whole = max(1, plan.whole)

        def steps(least: int, seconds: float) -> tuple[int, float]:
            """Repeat the steps of an epoch. Return their number, and the seconds until the last is done."""
            done, begun = 0, time.perf_counter()
            while done < least or time.perf_counter() - begun < seconds:
                if done % whole == 0:
                    plan.position.zero_()
                done += pack._act(done % whole, size, recipe.lr, iter(()))
            if run.device == "cuda":
                torch.cuda.synchronize()
            return done, time.perf_counter() - begun

        steps(3 * LOOK if run.device == "cuda" else 1, 0.0)  # then all is compiled, captured and allocated
        done, taken = steps(1, seconds)
        return taken / done


_CHECKED: set[str] = set()  # recipes by their specs: a process often trains several packs of one recipe


def check(setup: Setup, run: Run) -> None:
    """Compare a few steps of temporary packs.

    Weights, buffers, optimizer state, losses and validation sums of every row must be the same in the reverse order of
    rows, with one seed in all rows, and beside rows that hold NaN. On a CPU, they must also be the same when the
    kernels of the first step are run again without its Python code, and that code must not change values that it
    reaches, such as a counter. In fast mode they must agree to a thousandth.
    Raises: SweepError with what differs or cannot be vectorised.
    """
    full = False
    try:
        _compare(setup, run)
    except torch.OutOfMemoryError:
        full = True
    except RuntimeError as error:
        why = str(error).strip().splitlines()[0]
        if "randomness error mode" in why:
            why = "its step draws random numbers other than dropout (nn.MultiheadAttention draws its own)"
        raise SweepError(f"this recipe cannot be vectorised: {why}", where="vectorize", hint=OFF) from error
    if full:  # not in the handler: its traceback would keep the rows alive
        fits = _fitting(setup, run)
        raise SweepError(
            f"{run.spec.vectorize} rows do not fit the device's memory", where="vectorize",
            hint=f"{fits} do: vectorize={fits}, in a directory of its own, for the width is part of the arithmetic"
            if fits
            else OFF,
        )  # fmt: skip


def _fitting(setup: Setup, run: Run) -> int:
    """Return the largest width, halved as often as needed, whose check fits the device's memory, or 0."""
    width = run.spec.vectorize // 2
    while width:
        release()
        try:
            _compare(setup, replace(run, spec=replace(run.spec, vectorize=width)))
        except torch.OutOfMemoryError:
            width //= 2
        else:
            break
    return width


def _compare(setup: Setup, run: Run) -> None:
    recipe, data = setup.recipe, setup.data
    width, exact = run.spec.vectorize, run.deterministic
    lanes = [fresh(setup, _other(run, row)) for row in range(width)]
    stack = Stack(lanes, width)
    if alters(recipe):
        stack.keys.copy_(torch.arange(width) * 0x9E3779B9)
    first = {name: tensor.detach().clone() for name, tensor in _tensors(stack).items()}
    sizes = sorted({len(each) for each in start_epoch(lanes[0])}, reverse=True)
    total, rows = len(data.train), torch.arange(width)

    def after(order: Tensor, poisoned: Tensor | None = None) -> dict[str, Tensor]:
        """Return the state after a few steps of a pack whose row i holds the seed `order[i]`."""
        with torch.no_grad():
            for name, tensor in _tensors(stack).items():
                tensor.copy_(first[name][order.to(tensor.device)])
            for leaf in () if poisoned is None else stack.parameters.values():
                leaf[poisoned] = float("nan")
        stack.optimizer.state.clear()
        stack.set_rate(recipe.lr)
        stack.plan.rates.fill_(recipe.lr)
        for at, size in enumerate([sizes[0]] * STEPS + sizes[1:]):
            batch = (torch.arange(size) + order[:, None] * 7 + at * size) % total
            stack.plan.position.zero_()
            stack.plan.before.fill_(at)
            stack.plan.batches(size)[:, 0] = batch.to(run.device)
            brought = None
            if data.train.inputs.device.type != run.device:  # a loader would bring them
                targets = data.train.targets[batch.to(data.train.targets.device)]
                brought = data.train.inputs[batch].to(run.device), targets
            stack.step(size, brought)
        found = {name: tensor.detach().clone() for name, tensor in _tensors(stack).items()}
        for name, pieces in stack.pieces.items():
            for key, value in stack.optimizer.state[pieces[0]].items():
                if isinstance(value, Tensor) and value.shape == pieces[0].shape:
                    rows = torch.cat([stack.optimizer.state[piece][key] for piece in pieces])
                    found[f"{key} of {name}"] = rows
        return {**found, "the sums over val": stack.validation_sums(data.val)}

    steps = partial(after, rows)
    wanted = _in_python(stack, steps) if isinstance(stack.compute, Traced) else steps()
    few = rows[: width // 2]
    for what, order, kept, poisoned in (
        ("when its first step is repeated", rows, rows, None),
        ("in the reverse order of rows", rows.flip(0), rows, None),
        ("with one seed in every row", rows * 0, rows, None),
        ("beside rows that hold NaN", rows, few, rows[len(few) :]),
    ):
        found = after(order, poisoned)
        for name, value in found.items():
            at = kept.to(value.device)
            if not _alike(value[at], wanted[name][order.to(value.device)][at], exact):
                raise SweepError(
                    f"this recipe cannot be vectorised in width {width}: a seed has another {name} {what}",
                    where="vectorize", hint=OFF,
                )  # fmt: skip


def _in_python(stack: Stack, steps: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the state after steps that run the Python code of a traced stack each time.

    Raises: SweepError if that code changes a value that it reaches.
    """
    traced = stack.compute, stack.sums
    stack.compute, stack.sums = stack._compute, stack._sums
    steps()  # fills caches
    before = _values(stack)
    found = steps()
    if changed := [name for name, value in _values(stack).items() if before.get(name) != value]:
        what = max(changed, key=len).partition(" (")[0]
        raise SweepError(
            f"this recipe cannot be vectorised on a CPU: its Python code changes {what} in each step, but runs in "
            "the first step only",
            where="vectorize", hint="leave `vectorize` off, or keep what changes in a buffer",
        )  # fmt: skip
    stack.compute, stack.sums = traced
    return found


def _values(stack: Stack) -> dict[str, str]:
    """Return the digest of each value that the Python code of a step reaches, by name."""
    stack.base.train()
    parts = {f"model.{path}".rstrip("."): module for path, module in stack.base.named_modules()}
    recipe = stack.recipe
    parts |= {"loss": recipe.loss, "clip": recipe.gradients, "augment": recipe.augment}
    found, _ = values_of(partial(dict, **parts))
    return {name.removeprefix("partial."): value for name, value in found.items()}


def _other(run: Run, row: int) -> Run:
    """Return a stand-in for another seed's run. Nothing is read from its folder or written to it."""
    streams = {name: (stream + row) % (1 << 32) for name, stream in run.streams.items()}
    return replace(run, spec=replace(run.spec, streams=streams))


def _tensors(stack: Stack) -> dict[str, Tensor]:
    held = {"running loss": stack.loss_sum, "augmentation key": stack.keys, "dropout stream": stack.streams}
    return {**stack.parameters, **stack.buffers, **held}


def _alike(a: Tensor, b: Tensor, exact: bool) -> bool:
    near = (0.0, 0.0) if exact or not a.is_floating_point() else (1e-3, 1e-5)
    return torch.allclose(a, b, *near, equal_nan=True)
