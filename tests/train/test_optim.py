"""The recipes' optimizers: torch's arithmetic, and torch's hooks for whoever listens."""

from __future__ import annotations

import pytest
import torch
from torch.optim import optimizer

from sweep.train.optim import build
from sweep.train.params import Optimizer

SPECS = [Optimizer(name="adamw", lr=0.01), Optimizer(name="sgd", lr=0.01, momentum=0.9)]


def trained(made: torch.optim.Optimizer, model: torch.nn.Linear) -> torch.Tensor:
    for _ in range(3):
        made.zero_grad()
        model(torch.ones(2, 3)).square().sum().backward()
        made.step()
    return model.weight.detach()


def linear() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_who_listens_hears_every_step_and_changes_none(spec: Optimizer) -> None:
    model = linear()
    alone = trained(build(spec, model.parameters(), 0.01), model)
    heard: list[str] = []
    model = linear()
    made = build(spec, model.parameters(), 0.01)
    handles = [
        optimizer.register_optimizer_step_pre_hook(lambda *_: heard.append("before")),
        optimizer.register_optimizer_step_post_hook(lambda *_: heard.append("after")),
    ]
    own = made.register_step_post_hook(lambda *_: heard.append("its own"))
    try:
        listened = trained(made, model)
    finally:
        for handle in (*handles, own):
            handle.remove()
    assert heard == ["before", "its own", "after"] * 3 or heard == ["before", "after", "its own"] * 3
    assert torch.equal(alone, listened)
    trained(made, model)
    assert len(heard) == 9


def test_the_arithmetic_is_torchs() -> None:
    model, theirs = linear(), linear()
    made = build(SPECS[0], model.parameters(), 0.01)
    weight_decay = made.param_groups[0]["weight_decay"]
    fused = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=weight_decay, fused=True)
    assert torch.equal(trained(made, model), trained(fused, theirs))
