"""Vectorised lanes: one step trains W seeds at once, their parameters stacked along a new first dimension.

The width is part of the arithmetic: other widths give other bits. At one width a seed has the same bits whatever
stands in the other rows and in whichever row it stands. That is not taken on trust: before a recipe's first pack a
few steps are compared (see `check`), and a recipe whose rows touch each other is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sweep.determinism import seeding
from sweep.errors import SweepError
from sweep.handle import Run
from sweep.store import Failure
from sweep.train.augment import altered, alters, example_keys
from sweep.train.capture import LOOK, Throttle, capture
from sweep.train.data import Split
from sweep.train.evaluate import BATCH, sums_of
from sweep.train.feed import Feed
from sweep.train.lane import (
    Lane,
    Setup,
    begin,
    epoch_rates,
    fresh,
    order_of,
    recipe_id,
    set_up,
    start_epoch,
    tensors_of,
)
from sweep.train.loop import Metrics, conclude, guarded, save_all, say_first_batch, turn
from sweep.train.precision import flags, forward
from sweep.train.recipe import Recipe

Result = Metrics | Failure
STEPS = 3  # of a check
OFF = "leave `vectorize` off: lanes on a GPU train any recipe"


def train(recipe: Recipe, runs: Sequence[Run]) -> Iterator[tuple[int, Result]]:
    """Train the runs in packs of the width that their specs name; yields a run's position with its result.

    Runs that stand at unlike checkpoints are trained as a pack for each point. A pack that is not full has rows that
    repeat its first run, so a run alone has the bits it has in company.
    Raises: SweepError for a recipe that cannot be vectorised, naming why; Interrupted at a stop, once all are saved.
    """
    device, width = runs[0].device, runs[0].spec.vectorize
    setup = set_up(recipe, device, compiled=False)
    with flags(recipe.precision):
        key = recipe_id(runs[0])
        if key not in _CHECKED:
            check(setup, runs[0])
            _CHECKED.add(key)
        yield from _packs(setup, runs, width)


def _packs(setup: Setup, runs: Sequence[Run], width: int) -> Iterator[tuple[int, Result]]:
    for first in range(0, len(runs), width):
        points: dict[tuple[bool, int, int], list[Seat]] = {}
        for index in range(first, min(first + width, len(runs))):
            run = runs[index]
            seeding.seed_everything(run.seed, deterministic=run.deterministic)
            lane = begin(setup, run)
            seats = points.setdefault(lane.point, [])
            seats.append(Seat(index, lane, len(seats)))
        for (over, _, _), seats in points.items():
            if over:
                yield from ((seat.index, guarded(conclude, seat.lane)) for seat in seats)
            else:
                yield from Pack(seats, Stack([seat.lane for seat in seats], width), setup.feed).results()


@dataclass(frozen=True)
class Seat:
    """A run of the task, by its position; its lane, and the row of it."""

    index: int
    lane: Lane
    row: int


class Masks(TorchFunctionMode):
    """Dropout by a hash of (seed, step, layer, element) instead of a random stream, which would know the row.

    key: int64, of the seed and the step; one for each row under `vmap`.
    """

    def __init__(self, key: Tensor) -> None:
        super().__init__()
        self.key, self.layer = key, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
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
        """Attend as it is defined, where weights are dropped: the fused kernels draw their own masks."""
        if not dropout_p:
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


# The function, and how many leading dimensions have numbers of their own; None: all.
_DROPOUTS: dict[Any, int | None] = {
    F.dropout: None, torch.dropout: None, F.dropout1d: 2, F.dropout2d: 2, F.dropout3d: 2,
}  # fmt: skip


def hashed(z: Tensor) -> Tensor:
    """Return 32 well-mixed bits of an int64, by the best two-round hash of Wellons's search (2018), bias 0.11.

    Products stay below 2**63, so that the arithmetic is the same in every kernel.
    """
    z = z & 0xFFFFFFFF
    z = (z ^ (z >> 16)) * 0x21F0AAAD & 0xFFFFFFFF
    z = (z ^ (z >> 15)) * 0x735A2D97 & 0xFFFFFFFF
    return z ^ (z >> 15)


class Stack:
    """The state of W lanes, stacked. The lanes' own models are views of rows of a copy on the CPU (see `show`).

    parameters, buffers: by name, (W, ...). Rows beyond the lanes repeat the first. copies: of both, on the CPU, where
    weights are digested and saved; on a CPU they are the stacked tensors themselves.
    loss_sum: float64 (W,). keys: of augmentation, streams: of dropout, int64 (W,). step: int64, of the whole run.
    """

    def __init__(self, lanes: Sequence[Lane], width: int) -> None:
        first = lanes[0]
        self.recipe, self.width, self.device, self.data = first.recipe, width, first.device, first.data
        self.lanes = lanes
        self.base = copy.deepcopy(first.model)
        held = [dict(tensors_of(lane.model)) for lane in lanes]
        stacked = {name: self._stacked([each[name] for each in held]) for name in held[0]}
        self.parameters = {name: stacked[name].requires_grad_() for name, _ in first.model.named_parameters()}
        self.buffers = {name: stacked[name] for name, _ in first.model.named_buffers()}
        self.copies = {name: tensor.detach().cpu() for name, tensor in stacked.items()}
        for row, each in enumerate(held):
            for name, tensor in each.items():
                tensor.data = self.copies[name][row]
        self.loss_sum = self._stacked([lane.loss_sum for lane in lanes])
        self.keys = self._stacked([lane.key for lane in lanes])
        for row, lane in enumerate(lanes):
            lane.key, lane.loss_sum = self.keys[row], lane.loss_sum.cpu()
        streams = [lane.run.streams["dropout"] for lane in lanes]
        self.streams = torch.tensor([*streams, *streams[:1] * (width - len(lanes))], device=self.device)
        self.step = torch.zeros((), dtype=torch.int64, device=self.device)
        self.lr = torch.zeros((), device=self.device) if self.device == "cuda" else None
        leaves: list[Any] = list(self.parameters.values())
        self.optimizer = self.recipe.optimizer(leaves, self.recipe.lr if self.lr is None else self.lr)
        self._take_optimizers()
        self.gradients = vmap(grad_and_value(self._loss, has_aux=True), randomness="error")
        if self.recipe.compile:
            self.gradients = torch.compile(self.gradients, dynamic=False)
        self.run = forward(self.recipe.precision, self.device)

    def _stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        rows = [tensor.detach() for tensor in tensors]
        return torch.stack([*rows, *rows[:1] * (self.width - len(rows))])

    def _take_optimizers(self) -> None:
        """Stack what the lanes' optimizers know, where they came from a checkpoint."""
        own_of = zip(*(lane.parameters for lane in self.lanes), strict=True)
        for leaf, own in zip(self.parameters.values(), own_of, strict=True):
            states = [lane.optimizer.state.get(p, {}) for lane, p in zip(self.lanes, own, strict=True)]
            if not states[0]:
                continue
            self.optimizer.state[leaf] = {
                key: self._stacked([state[key] for state in states])
                if isinstance(value, Tensor) and value.shape == own[0].shape and value.dim()
                else copy.deepcopy(value)
                for key, value in states[0].items()
            }

    @torch.no_grad()
    def show(self) -> None:
        """Let the lanes' models hold what their rows hold now."""
        for name, tensor in {**self.parameters, **self.buffers}.items() if self.device == "cuda" else ():
            self.copies[name].copy_(tensor)

    def give(self) -> None:
        """Let the lanes hold all that their rows hold, as their checkpoints are to have it."""
        self.show()
        sums = self.loss_sum.cpu()
        for row, lane in enumerate(self.lanes):
            lane.loss_sum.copy_(sums[row])
            for leaf, own in zip(self.parameters.values(), lane.parameters, strict=True):
                lane.optimizer.state[own] = {
                    key: value[row] if isinstance(value, Tensor) and value.shape == leaf.shape else value
                    for key, value in self.optimizer.state.get(leaf, {}).items()
                }

    def release(self, row: int) -> None:
        """Give a lane tensors of its own: where a row lies could decide the kernels of its evaluation."""
        for _, tensor in tensors_of(self.lanes[row].model):
            tensor.data = tensor.detach().clone().to(self.device)

    def _loss(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, targets: Tensor, key: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        held = {name: buffer.clone() for name, buffer in buffers.items()}
        with Masks(key):
            return self.lanes[0].objective(self._model(parameters, held), inputs, targets), held

    def _model(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Any:
        return lambda inputs: functional_call(self.base, (parameters, buffers), (inputs,))

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batches (W, batch, ...) at these positions (W, batch), augmented; all of it on the device."""
        inputs, targets = self.data.train.at(indices)
        if not alters(self.recipe):
            return inputs, targets
        ids = self.data.train.ids.index_select(0, indices.flatten()).view(indices.shape)
        keys = example_keys(self.keys[:, None], ids)
        return vmap(partial(altered, self.recipe), randomness="error")(inputs, targets, keys)

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        """Do the step of all rows: gradients, optimizer, running loss; reads nothing back from the device."""
        self.base.train()
        keys = hashed(self.streams ^ hashed(self.step))
        leaves = {name: leaf.detach() for name, leaf in self.parameters.items()}
        gradients, (losses, held) = self.gradients(leaves, self.buffers, inputs, targets, keys)
        if self.recipe.gradients is not None:
            changed = vmap(self.recipe.gradients, randomness="error")(list(gradients.values()))
            gradients = dict(zip(gradients, changed, strict=True))
        for name, leaf in self.parameters.items():
            leaf.grad = gradients[name]
        self.optimizer.step()
        for leaf in self.parameters.values():
            leaf.grad = None
        for name, buffer in self.buffers.items():
            buffer.copy_(held[name])
        self.loss_sum.add_(losses.detach(), alpha=targets.shape[1])
        self.step.add_(1)

    def set_rate(self, rate: float | Tensor) -> None:
        """Let the optimizer's next step have this learning rate."""
        if self.lr is not None:
            self.lr.copy_(rate) if isinstance(rate, Tensor) else self.lr.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr if self.lr is not None else rate

    @torch.no_grad()
    def validation_sums(self, split: Split) -> Tensor:
        """Return float64 (W, 1 + k) of every row: the summed loss over a split, then the sums of `Scoring.tally`."""
        self.base.eval()
        # Rows of a sum that are no multiple of 16 bytes long begin at unlike places of the kernel's loads.
        even = len(split) - len(split) % 4
        sizes = [min(BATCH, even - at) for at in range(0, even, BATCH)] + [len(split) - even] * (len(split) > even)
        leaves = {name: leaf.detach() for name, leaf in self.parameters.items()}

        def outputs(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
            return self.run(self._model(parameters, buffers), inputs)

        found = []
        for inputs, targets in zip(torch.split(split.inputs, sizes), torch.split(split.targets, sizes), strict=True):
            out = vmap(outputs, (0, 0, None))(leaves, self.buffers, inputs.to(self.device))
            found.append(vmap(partial(sums_of, self.lanes[0]), (0, None))(out, targets))
        return torch.stack(found).sum(0)


@dataclass
class Pack:
    """Lanes at the same point of training, stepped together until each has ended."""

    seats: list[Seat]
    stack: Stack
    feed: Feed | None = None
    graphs: dict[int, Any] = field(default_factory=dict)  # by batch size: what a step of it reads, and its graph
    throttle: Throttle = field(default_factory=Throttle)

    def results(self) -> Iterator[tuple[int, Result]]:
        """Train until every lane has ended; yields a lane's result as soon as it has one.

        Raises: OutOfMemoryError; Interrupted at a stop, once every lane is saved.
        """
        while self.seats:
            self._epoch()
            yield from self._end_epoch()
            due = [seat.lane.run.checkpoint_due(epoch_end=True) for seat in self.seats]
            if any(due):
                self.save()

    def _epoch(self) -> None:
        stack, first = self.stack, self.seats[0].lane
        start, size = first.offset, first.recipe.batch_size
        rates = epoch_rates(first)
        orders = order_of(first).repeat(stack.width, 1)
        for seat in self.seats:
            orders[seat.row] = order_of(seat.lane)
            if first.epoch == 1 and start == 0:
                say_first_batch(seat.lane, orders[seat.row, :size])
        stack.step.fill_((first.epoch - 1) * first.batches + start)
        on_device = torch.tensor(rates, dtype=torch.float32).to(first.device)
        steps = torch.split(orders if self.feed is not None else orders.to(first.device), size, dim=1)
        fed = iter(()) if self.feed is None else self._fed(self.feed, first, steps[start:])
        done = first.seen
        for position in range(start, len(steps)):
            stack.set_rate(on_device[position] if stack.lr is not None else rates[position])
            batch = (steps[position],) if self.feed is None else next(fed)
            self._step(batch)
            done += steps[position].shape[1]
            if len(self.seats) > 1 and position % LOOK and position != len(steps) - 1:
                continue
            for seat in self.seats:
                seat.lane.offset, seat.lane.rate, seat.lane.seen = position + 1, rates[position], done
            if first.device == "cuda":
                self.throttle.look()
            if first.run.checkpoint_due(epoch_end=False):
                self.save()

    def _fed(self, feed: Feed, first: Lane, steps: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        streams = [lane.run.streams["augment"] for lane in self.stack.lanes]
        streams += streams[:1] * (self.stack.width - len(streams))
        for inputs, targets in feed.batches(first.epoch, streams, steps):
            yield inputs.to(first.device, non_blocking=True), targets.to(first.device, non_blocking=True)

    def _step(self, batch: tuple[Tensor, ...]) -> None:
        """Do the step of a batch: on a GPU the second of each size is captured, and replayed from then on."""
        stack = self.stack

        def act(*what: Tensor) -> None:
            stack.update(*(stack.gather(*what) if self.feed is None else what))

        size = batch[0].shape[1]
        if stack.device == "cpu":
            act(*batch)
        elif size not in self.graphs:
            self.graphs[size] = tuple(each.clone() for each in batch), None
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # cuBLAS's memory has to be there before the capture
                act(*self.graphs[size][0])
            torch.cuda.current_stream().wait_stream(stream)
        else:
            static, graph = self.graphs[size]
            for mine, given in zip(static, batch, strict=True):
                mine.copy_(given)
            if graph is None:
                stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
                stream.wait_stream(torch.cuda.current_stream())
                graph = capture(stream, [torch.Generator("cuda")], lambda: act(*static))  # draws nothing
                torch.cuda.current_stream().wait_stream(stream)
                self.graphs[size] = static, graph
            graph.replay()

    def _end_epoch(self) -> Iterator[tuple[int, Result]]:
        """Measure all rows, read them at once, and let go of the lanes that have ended: their rows go on idle."""
        stack = self.stack
        sums = torch.cat([stack.loss_sum[:, None], stack.validation_sums(stack.data.val)], 1).tolist()
        stack.loss_sum.zero_()
        stack.show()
        for seat in list(self.seats):
            lane = seat.lane
            failure = guarded(turn, lane, sums[seat.row])
            if failure is None and not lane.over:
                continue
            self.seats.remove(seat)
            stack.release(seat.row)
            yield seat.index, failure or guarded(conclude, lane)

    def save(self) -> None:
        """Save a checkpoint of every lane. Raises: Interrupted when a stop was asked for, after the last."""
        self.stack.give()
        save_all((seat.lane, nullcontext()) for seat in self.seats)


_CHECKED: set[str] = set()  # recipes by their specs: a process often trains pack after pack of one


def check(setup: Setup, run: Run) -> None:
    """Compare a few steps of throwaway packs.

    Every row's weights, buffers, optimizer state, losses and validation sums have to be the same in the reverse order
    of rows, with one seed in all of them, and beside rows that hold NaN. Fast mode has to agree to a thousandth.
    Raises: SweepError naming what differs, or what cannot be vectorised.
    """
    try:
        _compare(setup, run)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise SweepError(
                f"{run.spec.vectorize} rows do not fit the device's memory", where="vectorize",
                hint="choose a smaller width, in a directory of its own: the width is part of the arithmetic",
            ) from error  # fmt: skip
        why = str(error).strip().splitlines()[0]
        if "randomness error mode" in why:
            why = "its step draws random numbers other than dropout (nn.MultiheadAttention draws its own)"
        raise SweepError(f"this recipe cannot be vectorised: {why}", where="vectorize", hint=OFF) from error


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
        """Return the state after a few steps of a pack whose row i holds what `order[i]` names."""
        with torch.no_grad():
            for name, tensor in _tensors(stack).items():
                tensor.copy_(first[name][order.to(tensor.device)])
            for leaf in () if poisoned is None else stack.parameters.values():
                leaf[poisoned] = float("nan")
        stack.optimizer.state.clear()
        stack.step.zero_()
        stack.set_rate(recipe.lr)
        for at, size in enumerate([sizes[0]] * STEPS + sizes[1:]):
            batch = (torch.arange(size) + order[:, None] * 7 + at * size) % total
            if data.train.inputs.device.type != run.device:  # a loader would bring them
                inputs = data.train.inputs[batch].to(run.device)
                stack.update(inputs, data.train.targets[batch.to(data.train.targets.device)])
            else:
                stack.update(*stack.gather(batch.to(run.device)))
        found = {name: tensor.detach().clone() for name, tensor in _tensors(stack).items()}
        for leaf, name in zip(stack.parameters.values(), stack.parameters, strict=True):
            for key, value in stack.optimizer.state[leaf].items():
                if isinstance(value, Tensor) and value.shape == leaf.shape:
                    found[f"{key} of {name}"] = value.clone()
        return {**found, "the sums over val": stack.validation_sums(data.val)}

    wanted = after(rows)
    few = rows[: width // 2]
    for what, order, kept, poisoned in (
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


def _other(run: Run, row: int) -> Run:
    """Return a stand-in for another seed's run: nothing is read from or written to its folder."""
    streams = {name: (stream + row) % (1 << 32) for name, stream in run.streams.items()}
    return replace(run, spec=replace(run.spec, streams=streams))


def _tensors(stack: Stack) -> dict[str, Tensor]:
    held = {"running loss": stack.loss_sum, "augmentation key": stack.keys, "dropout stream": stack.streams}
    return {**stack.parameters, **stack.buffers, **held}


def _alike(a: Tensor, b: Tensor, exact: bool) -> bool:
    near = (0.0, 0.0) if exact or not a.is_floating_point() else (1e-3, 1e-5)
    return torch.allclose(a, b, *near, equal_nan=True)
