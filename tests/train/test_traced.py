"""A traced function gives what the function gives, and runs its Python once for arguments of the same shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap

from sweep.train.traced import Traced


class Counted:
    """A function that counts its calls and, in one of its tensors, the steps."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, state: dict[str, Tensor], steps: Tensor, brought: tuple[Tensor, ...] | None) -> dict[str, Any]:
        self.calls += 1
        batch = state["x"] if brought is None else brought[0]
        steps.add_(1)
        return {"slope": vmap(grad(lambda w, x: ((x * w).tanh() * steps[0]).sum()))(state["w"], batch)}


def state(rows: int) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(rows)
    return {"w": torch.rand(rows, 3, generator=made), "x": torch.rand(rows, 3, generator=made)}


def test_every_call_does_its_work_once_and_the_python_runs_once_for_some_shapes() -> None:
    plain, counted = Counted(), Counted()
    traced, steps, wanted_steps = Traced(counted), torch.zeros(1), torch.zeros(1)
    brought = (torch.rand(2, 3),)
    for rows, given in [(2, None), (2, None), (5, None), (2, None), (2, brought), (5, None)]:
        wanted, found = plain(state(rows), wanted_steps, given), traced(state(rows), steps, given)
        assert torch.equal(found["slope"], wanted["slope"])
        assert torch.equal(steps, wanted_steps)  # the call that was noted down had changed it as well, once
    assert (plain.calls, counted.calls) == (6, 3)


def test_what_a_function_reads_beside_its_arguments_stays_as_it_was() -> None:
    factor = [2.0]
    traced = Traced(lambda x: x * factor[0])
    assert traced(torch.ones(2)).tolist() == [2, 2]
    factor[0] = 3.0
    assert traced(torch.ones(2)).tolist() == [2, 2]  # why a recipe whose Python counts is refused
    assert traced(torch.ones(3)).tolist() == [3, 3, 3]
