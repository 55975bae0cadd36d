"""A training function's result is taken where its meaning is plain, and refused before the start where it is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sweep
from sweep.cli.app import main
from sweep.errors import ConfigError, SweepError, TargetError
from sweep.handle import as_result
from sweep.results import Results
from sweep.store import Store


@pytest.mark.parametrize(
    ("returned", "metrics"),
    [
        ({"test": {"acc": 0.5, "top": {"5": 1}}}, {"test/acc": 0.5, "test/top/5": 1.0}),
        (0.25, {"score": 0.25}),
        (np.float32(0.25), {"score": 0.25}),
        (torch.tensor(0.25), {"score": 0.25}),
        ({"acc": 0.5, "model": "resnet"}, {"acc": 0.5}),
    ],
)
def test_what_is_plain_is_taken(returned: Any, metrics: dict[str, float]) -> None:
    found, notes = as_result(returned, where="f")
    assert found == metrics
    assert bool(notes) == ("model" in str(returned))


@pytest.mark.parametrize("returned", [None, "0.5", True, [0.5], {"acc": "high"}, {"acc": [1, 2]}, np.ones(3)])
def test_what_is_not_is_refused(returned: Any) -> None:
    with pytest.raises(SweepError):
        as_result(returned, where="f")


def returns_a_number(run: sweep.Run) -> float:
    return 0.5 + run.seed / 10


def takes_a_seed(seed: int, lr: float = 0.1) -> dict[str, float]:
    return {"acc": seed * lr}


def test_a_bare_number_is_a_score(tmp_path: Path) -> None:
    results: Results = sweep.run(returns_a_number, seeds=[1, 2], out=tmp_path / "o", engine="inline")
    assert [m.record.metrics for m in results.store.scan() if m.record] == [{"score": 0.6}, {"score": 0.7}]


def test_a_function_that_takes_a_seed_is_refused_before_the_start_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as refused:
        sweep.run(takes_a_seed, seeds=[1], out=tmp_path / "o", engine="inline")
    assert "takes_a_seed(run.seed" in str(refused.value)
    assert not (tmp_path / "o").exists()


def test_one_number_of_seeds_is_asked_for_as_a_range(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        sweep.run(returns_a_number, seeds=3, out=tmp_path / "o", engine="inline")  # type: ignore[arg-type]
    assert "seeds=range(3)" in str(refused.value)


def test_a_script_that_reads_its_seed_from_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.py").write_text("import os, json; print(json.dumps({'acc': int(os.environ['MY_SEED'])}))")
    words = ["run", "--engine", "inline", "--seeds", "1,2", "--out", "o", "--seed-env", "MY_SEED", "--"]
    assert main([*words, sys.executable, "t.py"]) == 0
    assert [m.record.metrics for m in Store.open("o").scan() if m.record] == [{"acc": 1.0}, {"acc": 2.0}]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("import random\n\nrandom.seed(42)\nprint(7)", 3, "random.seed(42)"),
        ("import torch\nSEED = 7\ntorch.manual_seed(SEED)\nf(random_state=0)", 2, "SEED = 7"),
        ("model = RandomForestClassifier(\n    random_state=0)", 2, "random_state=0"),
    ],
)
def test_a_seed_that_is_a_constant_of_the_script_is_shown_with_what_to_write_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, line: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.py").write_text(text)
    words = ["run", "--engine", "inline", "--seeds", "1,2", "--out", "o", "--", sys.executable, "t.py"]
    assert main(words) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"line {line} of t.py sets the seed to a constant ({said})" in told
    asked = told.partition("write ")[2].partition(" instead")[0]
    Path("t.py").write_text(f"import os, random\nrandom.seed({asked})\nprint({{'acc': random.random()}})\n")
    assert main(words) == 0, "what it said to write"
    first, second = (m.record.metrics["acc"] for m in Store.open("o").scan() if m.record)
    assert first != second


def test_runs_that_end_at_different_steps_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.py").write_text(
        "import json, sys\nfor e in range(1, 3 + (sys.argv[1] != '2')): print(json.dumps({'epoch': e, 'acc': e}))"
    )
    main(["run", "--engine", "inline", "--seeds", "1-3", "--out", "o", "--", sys.executable, "t.py", "{seed}"])
    warnings = json.dumps(sweep.open("o").report.warnings)
    assert "seed2 at 2" in warnings
