"""Stack: the parameters, buffers and optimizer state of W lanes along a new first dimension, and their step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from sweep.train.augment import altered, alters, example_keys
from sweep.train.data import Split
from sweep.train.evaluate import BATCH, sums_of
from sweep.train.lane import Lane, tensors_of
from sweep.train.precision import forward
from sweep.train.traced import Traced
from sweep.train.vector.row import Row

TENSORS, FULL = 36, 1 << 23  # tensors of one kernel of torch's fused optimizers; parameters that fill a GPU anyway


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
