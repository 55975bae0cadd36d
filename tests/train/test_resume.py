"""A run that was stopped or killed at any step ends with the bits of the run that was left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from training import Killed, dies_at, finish, handle, recipe_of, trained

from sweep.determinism import seeding
from sweep.handle import Run
from sweep.job import Interrupted
from sweep.train import loop
from sweep.train.lane import Lane, state_of
from sweep.train.recipe import Recipe

STEPS = 20
EVERY_STEP = (0, 1e-9)
EVERY_EPOCH = (1, 0)
# Together these use everything that a checkpoint has to carry.
FULL = {
    "optimizer": {"lr": 0.02},
    "model": {"name": "cnn", "channels": [4], "hidden": [16], "dropout": 0.2, "batch_norm": True},
    "augment": {"shift": 1, "flip": True},
    "checkpoint": "best(val/accuracy)",
    "stop_early": {"metric": "val/loss", "patience": 50},
}


def stopping_after(checks: int) -> Callable[[], bool]:
    """Asks for a stop at the n-th look."""
    left = checks

    def stopping() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    return stopping


def resumed(folder: Path, recipe: Recipe, *previous: Run) -> Run:
    run = handle(folder, previous=tuple(p.dir for p in reversed(previous)))
    assert isinstance(finish(recipe, run), dict)
    return run


def differences(run: Run, whole: Run) -> list[str]:
    """What of two runs is not equal: their chains of digests, their histories, their results."""
    histories = [(each.dir / "history.jsonl").read_bytes() for each in (run, whole)]
    pairs = {"chain": (run.chain, whole.chain), "history": histories, "outcome": (run.outcome, whole.outcome)}
    return [name for name, (a, b) in pairs.items() if a != b]


def same(run: Run, whole: Run) -> None:
    assert differences(run, whole) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("whole") / "run", FULL)


def test_stopped_at_every_step(tmp_path: Path, whole: Run) -> None:
    recipe, stops = recipe_of(FULL), 0
    for checks in range(60):
        first = handle(tmp_path / f"first{checks}")
        first.stopping = stopping_after(checks)
        try:
            finish(recipe, first)
        except Interrupted:
            stops += 1
            same(resumed(tmp_path / f"again{checks}", recipe, first), whole)
        else:
            break
    assert stops > STEPS  # every step, and the ends of the epochs


@pytest.mark.parametrize(("workers", "looks"), [(0, 0), (2, 2)])  # three looks come to each batch of an epoch as well
def test_a_new_process_for_every_step(tmp_path: Path, whole: Run, workers: int, looks: int) -> None:
    """Stopped after one step or a few, continued for as many, and so on to the end, with a loader."""
    recipe, runs = recipe_of({**FULL, "loader_workers": workers}), list[Run]()
    for number in range(60):
        run = handle(tmp_path / str(number), previous=tuple(r.dir for r in reversed(runs)))
        run.stopping = stopping_after(looks)
        runs.append(run)
        try:
            finish(recipe, run)
        except Interrupted:
            continue
        break
    assert len(runs) > STEPS / (looks + 1)
    same(runs[-1], whole)


def test_killed_at_every_step(tmp_path: Path, whole: Run) -> None:
    recipe = recipe_of(FULL)
    for step in range(STEPS):
        dead = handle(tmp_path / f"dead{step}", every=EVERY_EPOCH)
        with pytest.raises(Killed):
            finish(dies_at(recipe, step), dead)
        run = resumed(tmp_path / f"again{step}", recipe, dead)
        assert any("resumed from step" in note for note in run.notes) == (step >= 5)
        same(run, whole)


@pytest.mark.walk
@pytest.mark.parametrize(("workers", "steps"), [(0, range(STEPS)), (2, (0, 4, 5, 12, 19))])
def test_killed_at_every_step_with_a_loader(tmp_path: Path, whole: Run, workers: int, steps: Iterable[int]) -> None:
    recipe = recipe_of({**FULL, "loader_workers": workers})
    for step in steps:  # 0 is the first batch of all, 4 the last of its epoch, 5 the first of the next
        dead = handle(tmp_path / f"dead{step}", every=EVERY_STEP)
        with pytest.raises(Killed):
            finish(dies_at(recipe, step), dead)
        run = resumed(tmp_path / f"again{step}", recipe, dead)
        assert any(f"resumed from step {step} " in note for note in run.notes) == (step > 0)
        same(run, whole)


def test_killed_during_validation_and_twice(tmp_path: Path, whole: Run, monkeypatch: Any) -> None:
    recipe = recipe_of(FULL)
    first = handle(tmp_path / "1", every=EVERY_STEP)
    validate = loop.validation_sums
    epochs = iter([False, True])

    def dies(lane: Any) -> torch.Tensor:
        if next(epochs):
            raise Killed
        return validate(lane)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "validation_sums", dies)
        with pytest.raises(Killed):
            finish(recipe, first)
    second = handle(tmp_path / "2", every=EVERY_STEP, previous=(first.dir,))
    with pytest.raises(Killed):
        finish(dies_at(recipe, 4), second)
    same(resumed(tmp_path / "3", recipe, first, second), whole)


def forget(what: str) -> Callable[[Lane], dict[str, Any]]:
    """A state that says of one item what a new run would say."""
    fresh: dict[str, Any] = {
        "epoch": 1, "offset": 0, "order": torch.Generator().manual_seed(0).get_state(), "rate": float("nan"),
        "loss_sum": torch.zeros((), dtype=torch.float64), "seen": 1, "chosen": {}, "record": None, "stale": 0,
    }  # fmt: skip

    def broken(lane: Lane) -> dict[str, Any]:
        state = state_of(lane)
        if what == "buffers":
            weights = {k: torch.ones_like(v) if "running" in k else v for k, v in state["model"].items()}
            return {**state, "model": weights}
        if what == "moments":
            return {**state, "optimizer": {**state["optimizer"], "state": {}}}
        return {**state, what: fresh[what]}

    return broken


ITEMS = ["buffers", "moments", "epoch", "offset", "order", "loss_sum", "seen", "chosen", "record", "stale", "rate"]


@pytest.mark.parametrize("what", ["nothing", *ITEMS])
def test_each_item_of_the_state_is_needed(tmp_path: Path, monkeypatch: Any, what: str) -> None:
    """Negative control: a state without any one of its items does not end with the same bits."""
    # min_delta lets no epoch count as better, so the run stops after patience + 1 of its epochs.
    stop = {"metric": "val/loss", "patience": 2, "min_delta": 1000}
    recipe = recipe_of({**FULL, "stop_early": stop})
    reference = handle(tmp_path / "reference")
    assert isinstance(finish(recipe, reference), dict)
    dead = handle(tmp_path / "dead")
    # 7 looks an epoch. Between the last step of the second epoch and its validation nearly everything counts;
    # the position in an epoch and its permutation do earlier, the epochs without improvement later.
    dead.stopping = stopping_after({"offset": 8, "order": 8, "stale": 15}.get(what, 11))
    with monkeypatch.context() as patched:
        if what != "nothing":
            patched.setattr(loop, "state_of", forget(what))
        with pytest.raises(Interrupted):
            finish(recipe, dead)
    again = handle(tmp_path / "again", previous=(dead.dir,))
    equal = isinstance(finish(recipe, again), dict) and differences(again, reference) == []
    assert equal == (what == "nothing")


def test_the_ambient_stream_is_needed(tmp_path: Path, whole: Run, monkeypatch: Any) -> None:
    """Negative control: dropout draws from torch's global generator."""
    recipe = recipe_of(FULL)
    dead = handle(tmp_path / "dead")
    dead.stopping = stopping_after(12)
    with pytest.raises(Interrupted):
        finish(recipe, dead)
    monkeypatch.setattr(seeding, "set_rng_state", lambda state: None)
    assert "chain" in differences(resumed(tmp_path / "again", recipe, dead), whole)
