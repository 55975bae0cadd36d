"""The examples that are shipped train; the interval for the true accuracy holds the truth where the truth is known."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import sweep
from sweep.cli.app import main

pytestmark = pytest.mark.usefixtures("unforked")

EXAMPLES = Path(__file__).parents[1] / "configs" / "examples"


@pytest.fixture(autouse=True)
def _in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for path in EXAMPLES.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield
    for name in ("gpt", "curves"):
        sys.modules.pop(name, None)


def run(*words: str) -> int:
    return main(["run", *words, "--engine", "inline"])


def test_a_small_gpt_learns_the_text_and_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["params.width=16", "params.heads=2", "params.layers=1", "params.epochs=2", "params.lr=0.01"]
    assert run("recipe=gpt:recipe", "--seeds", "0-1", *small) == 0
    results = sweep.open("runs/gpt")
    data = importlib.import_module("gpt").recipe().data()
    # Characters of one window are alike: windows are what the interval takes for examples.
    assert results.report.spreads[0].examples == len(data.test)
    vocabulary = data.vocabulary
    assert results.frame["test/perplexity"].max() < vocabulary / 2
    served = sweep.load_ensemble("runs/gpt", trust=True)
    assert served(torch.zeros(3, 64, dtype=torch.int64)).mean.shape == (3, 64, vocabulary)


def test_the_interval_for_the_true_accuracy_holds_it() -> None:
    assert run("recipe=curves:recipe", "--seeds", "0-5", "params.examples=1200", "params.epochs=6") == 0
    spread: Any = sweep.open("runs/curves").report.spreads[0]
    served = sweep.load_ensemble("runs/curves", trust=True)
    inputs, kinds = importlib.import_module("curves").draw(20_000, seed=1)
    with torch.no_grad():
        guesses = served.outputs(torch.from_numpy(inputs)).argmax(-1)
    truth = float((guesses == torch.from_numpy(kinds)).double().mean())
    assert spread.true_low < truth < spread.true_high
    assert spread.true_high - spread.true_low < 0.25
    assert not spread.true_low < 0.1 < spread.true_high  # the control: what guessing would reach


def test_an_unmodified_script_balances_a_pole_on_two_tasks() -> None:
    if not find_spec("gymnasium"):
        pytest.skip("needs gymnasium")
    assert run("cartpole.yaml", "--seeds", "0", "params.episodes=10") == 0
    frame = sweep.open("runs/cartpole").frame
    assert len(frame) == 2
    assert frame["task"].nunique() == 2
    assert (frame["return"] > 5).all()
