"""A command that only reads scans a directory once, and reads each history and each file of predictions once."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import normal, sweep_of
from predicted import classes, saved

from sweep.cli.app import main
from sweep.results import Results
from sweep.store import Reading, Store

A, B = "lr-0.1-aaaaaa", "lr-0.01-bbbbbb"


def made(path: Path) -> Store:
    probs, targets = classes()

    def outcome(spec: Any) -> dict[str, Any]:
        accuracy = float((probs[spec.seed].argmax(axis=1) == targets).mean())
        return {
            "metrics": {"test/accuracy": accuracy, "test/nll": normal(spec.seed)},
            "predictions": {"test": saved(probs[spec.seed], targets)},
            "history": [{"step": step, "val/loss": normal(step)} for step in (1, 2)],
        }

    return sweep_of(path, outcome, seeds=range(4), variants=(A, B))


_opened: Counter[str] = Counter()


def _seen(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and str(args[0]).endswith((".npz", ".jsonl", "record.json")):
        _opened[str(args[0])] += 1


@pytest.fixture(scope="module")
def hook() -> None:
    """Count from now on; Python takes no hook away again."""
    sys.addaudithook(_seen)


@pytest.fixture
def opened(hook: None) -> Counter[str]:
    """How often each record, each history and each file of predictions is opened."""
    _opened.clear()
    return _opened


@pytest.mark.parametrize("words", [["report"], ["report", "--json"], ["compare"], ["report", "--html", "page.html"]])
def test_a_command_reads_each_file_once(
    words: list[str], tmp_path: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "d")
    opened.clear()
    assert main([words[0], "d", *words[1:]]) == 0
    assert sum(name.endswith("record.json") for name in opened) == 8
    assert any(name.endswith(".npz") for name in opened)
    assert sum(name.endswith(".jsonl") for name in opened) == (8 if "--html" in words else 0)
    assert set(opened.values()) == {1}


def test_results_read_each_file_once_whatever_is_asked(tmp_path: Path, opened: Counter[str]) -> None:
    found = Results(made(tmp_path / "d"))
    opened.clear()
    assert found.frame is not None
    assert found.summary() is not None
    assert str(found)
    assert found._repr_html_()
    assert found.plot("seeds").axes
    assert found.plot("differences").axes
    assert found.plot("curves").axes
    assert found.compare().pairs
    assert sum(name.endswith("record.json") for name in opened) == 8
    assert any(name.endswith(".npz") for name in opened)
    assert set(opened.values()) == {1}


def test_a_store_still_follows_what_changes(tmp_path: Path, opened: Counter[str]) -> None:
    store = made(tmp_path / "d")
    opened.clear()
    assert len(list(store.scan())) == len(list(store.scan())) == 8
    assert set(opened.values()) == {2}  # the negative control
    assert len(list(Reading.of(store).scan())) == 8


def test_predictions_that_do_not_fit_together_are_read_once_too(tmp_path: Path, opened: Counter[str]) -> None:
    probs, targets = classes()

    def outcome(spec: Any) -> dict[str, Any]:
        ids = np.arange(len(targets)) + spec.seed  # each seed has a test set of its own
        return {"metrics": {"test/accuracy": 0.9}, "predictions": {"test": saved(probs[0], targets, ids)}}

    sweep_of(tmp_path / "d", outcome, seeds=range(3))
    opened.clear()
    assert main(["report", str(tmp_path / "d"), "--html", str(tmp_path / "page.html")]) == 0
    assert set(opened.values()) == {1}
