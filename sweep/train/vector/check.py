"""Check, before the first pack of a recipe, that a seed's bits depend neither on its row nor on the other rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from sweep.errors import SweepError
from sweep.handle import Run
from sweep.target.values import values_of
from sweep.train.augment import alters
from sweep.train.lane import Setup, fresh, start_epoch
from sweep.train.lanes import release
from sweep.train.traced import Traced
from sweep.train.vector.stack import Stack

STEPS = 3  # of a check


OFF = "leave `vectorize` off: lanes on a GPU train any recipe"


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
            why = "its step draws random numbers other than those of dropout (nn.MultiheadAttention draws its own)"
        raise SweepError(f"this recipe cannot be vectorised: {why}", where="vectorize", hint=OFF) from error
    if full:  # not in the handler: its traceback would keep the rows alive
        fits = _fitting(setup, run)
        raise SweepError(
            f"{run.spec.vectorize} rows do not fit in the memory of the device", where="vectorize",
            hint=f"set vectorize={fits} and use a new directory: the width affects the results"
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
    lanes = [fresh(setup, other(run, row)) for row in range(width)]
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
                    f"this recipe cannot be vectorised in width {width}: a seed gets a different {name} {what}",
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
            where="vectorize", hint="leave `vectorize` off, or keep the changing value in a buffer",
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


def other(run: Run, row: int) -> Run:
    """Return a stand-in for another seed's run. Nothing is read from its folder or written to it."""
    streams = {name: (stream + row) % (1 << 32) for name, stream in run.streams.items()}
    return replace(run, spec=replace(run.spec, streams=streams))


def _tensors(stack: Stack) -> dict[str, Tensor]:
    held = {"running loss": stack.loss_sum, "augmentation key": stack.keys, "dropout stream": stack.streams}
    return {**stack.parameters, **stack.buffers, **held}


def _alike(a: Tensor, b: Tensor, exact: bool) -> bool:
    near = (0.0, 0.0) if exact or not a.is_floating_point() else (1e-3, 1e-5)
    return torch.allclose(a, b, *near, equal_nan=True)
