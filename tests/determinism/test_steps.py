"""The weights of training code that says nothing of them: in its chain, and not kept longer than they are needed."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sweep
from sweep import Run
from sweep.determinism import digest
from sweep.determinism.steps import MOST, Steps


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, times: int = 1) -> None:
    for _ in range(times):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()


def quiet(run: Run, *, reseed: bool = False, noise: bool = False) -> dict[str, float]:
    """Keeps nothing of its model."""
    if reseed:
        torch.manual_seed(0)
    model = nn.Linear(3, 1)
    stepped(model, torch.optim.SGD(model.parameters(), 0.1), 3)
    return {"test/loss": float(run.seed) if noise else 0.5}


def chains(function: Any, out: Path, **params: Any) -> dict[int, dict[str, str]]:
    found = sweep.run(function, seeds=[1, 2], engine="inline", out=out, params=params)
    return {m.seed: dict(m.record.digests) for m in found.store.scan() if m.record is not None}


def test_a_function_that_keeps_no_model_has_its_weights_in_the_chain(tmp_path: Path) -> None:
    once, again = chains(quiet, tmp_path / "once"), chains(quiet, tmp_path / "again")
    assert once == again
    assert set(once[1]) == {"initial", "final"}
    assert len({*once[1].values(), *once[2].values()}) == 4
    torch.manual_seed(1)
    model = nn.Linear(3, 1)
    names = {f"0/0/{i}": p.detach() for i, p in enumerate(model.parameters())}
    assert once[1]["initial"] == digest.tensors(names)


def test_a_seed_without_effect_is_told_though_the_metrics_differ(tmp_path: Path) -> None:
    chains(quiet, tmp_path / "out", reseed=True, noise=True)
    (warning,) = sweep.open(tmp_path / "out").report.warnings
    assert warning == "seed1, seed2 gave identical results: the program seems to ignore its seed"


def test_what_the_code_says_itself_stands(tmp_path: Path) -> None:
    def train(run: Run) -> dict[str, float]:
        model = nn.Linear(3, 1)
        run.digest("initial", "mine")
        stepped(model, torch.optim.SGD(model.parameters(), 0.1))
        run.save_model(model)
        run.digest("final", digest.module(model) + "!")
        return {"a": 1.0}

    found = chains(train, tmp_path / "out")[1]
    assert found["initial"] == "mine"
    assert found["final"].endswith("!")


def test_code_without_an_optimizer_has_no_such_links(tmp_path: Path) -> None:
    assert chains(lambda run: {"a": 1.0}, tmp_path / "out") == {1: {}, 2: {}}


def test_weights_without_plain_bytes_fail_no_run(tmp_path: Path) -> None:
    def train(run: Run) -> dict[str, float]:
        table = nn.Parameter(torch.eye(2).to_sparse())
        optimizer = torch.optim.SGD([table], 0.1)
        optimizer.step()
        return {"a": 1.0}

    assert chains(train, tmp_path / "out") == {1: {}, 2: {}}


@pytest.fixture
def steps() -> Iterator[Steps]:
    with Steps(lambda name, value: None) as made:
        yield made


def pair() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), 0.1)


def test_one_model_after_the_other_is_let_go_and_still_counts(steps: Steps) -> None:
    def folds(change: float = 0.0) -> tuple[str, int]:
        alive = []
        with Steps(lambda name, value: None) as seen:
            for fold in range(4):
                torch.manual_seed(fold)
                model, optimizer = pair()
                if fold == 1:
                    with torch.no_grad():
                        next(iter(model.parameters())).add_(change)
                stepped(model, optimizer, 2)
                alive.append(weakref.ref(model.weight))  # type: ignore[arg-type]
                del model, optimizer
                gc.collect()
            return seen.weights(), sum(ref() is not None for ref in alive)

    gc.freeze()  # collect only what is made here
    try:
        first, kept = folds()
        assert kept == 1
        assert folds()[0] == first
        assert folds(0.5)[0] != first
    finally:
        gc.unfreeze()


def test_two_optimizers_in_turns_are_both_kept(steps: Steps) -> None:
    (a, first), (b, second) = pair(), pair()
    for _ in range(3):
        stepped(a, first)
        stepped(b, second)
    names = {f"0/0/{i}": p.detach() for i, p in enumerate(a.parameters())}
    names |= {f"1/0/{i}": p.detach() for i, p in enumerate(b.parameters())}
    assert steps.weights() == digest.tensors(names)


def test_of_code_that_makes_an_optimizer_for_every_step_nothing_is_said(steps: Steps) -> None:
    model = nn.Linear(3, 1)
    for _ in range(MOST + 1):
        stepped(model, torch.optim.SGD(model.parameters(), 0.1))
    assert steps.weights() == ""


def test_a_resumed_run_does_not_call_its_weights_initial(tmp_path: Path) -> None:
    def train(run: Run) -> dict[str, float]:
        model, optimizer = pair()
        state = run.restore()
        if state is not None:
            model.load_state_dict(state["model"])
        stepped(model, optimizer, 2)
        if state is None:
            run.checkpoint({"model": model.state_dict()}, step=2)
            os.kill(os.getpid(), signal.SIGKILL)
        return {"a": 1.0}

    found = sweep.run(train, seeds=[1], engine="inline", out=tmp_path / "out")
    (member,) = found.store.scan()
    assert member.record is not None
    assert member.attempts == 2
    torch.manual_seed(1)
    model = nn.Linear(3, 1)
    names = {f"0/0/{i}": p.detach() for i, p in enumerate(model.parameters())}
    assert member.record.digests["initial"] == digest.tensors(names)  # of the first attempt, out of its checkpoint


def test_a_function_without_checkpoints_says_that_it_began_again(tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    def train(run: Run) -> dict[str, float]:
        if not tries.exists():
            tries.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"a": 1.0}

    found = sweep.run(train, seeds=[1], engine="inline", out=tmp_path / "out")
    assert found.report.notes == ("attempt 2 started from zero: the training code saves no checkpoints (seed1)",)
