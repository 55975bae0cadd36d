"""`sweep resume`: what a directory keeps is enough to go on with it, and nothing of a stranger's runs unasked."""

from __future__ import annotations

import json
import shlex
import tarfile
from pathlib import Path
from typing import Any

import pytest
import toys
from finished import accuracies, sweep_of
from markupsafe import escape

import sweep
from sweep.cli.app import main
from sweep.config import load, to_dict, to_yaml
from sweep.errors import StoreError, TargetError
from sweep.launch.start import kept, ready
from sweep.prepare import manifest_of, prepare
from sweep.report.commands import resume
from sweep.report.html import page
from sweep.results import _config
from sweep.store import Manifest, Store
from sweep.store.manifest import changes


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("noisy.py").write_text("")


ASKED = [
    (None, {}),
    (None, {"deterministic": True, "params": {"epochs": 1}, "vary": ["order"]}),
    (None, {"checkpoint": "best(val/loss)", "timeout": "30m", "primary": "test/nll"}),
    (None, {"grid": {"params.optimizer.lr": [0.1, 0.01], "params.epochs": [1, 2]}}),
    (toys.line, {"params": {"lr": 0.5}, "name": "mine", "goals": {"x": "max"}}),
    (toys.line, {"grid": {"params.lr": [0.1, 0.3]}, "seed": 7, "repeats": 2}),
    ({"train": "toys:line"}, {"tasks": {"a": {"params": {"lr": 1}}, "b": {}}}),
    ({"command": ["python", "noisy.py", "{seed}"]}, {"collect": {"regex": "(?P<a>[0-9.]+), *x"}}),
    ({"command": ["python", "noisy.py", "{seed}", "{params.x}"]}, {"grid": {"params.x": ["1e-3", 'b: {c} "d"']}}),
]


@pytest.mark.parametrize("form", ["sweep.json", "yaml"])
@pytest.mark.parametrize(("config", "settings"), ASKED, ids=range(len(ASKED)))
def test_what_is_kept_asks_for_the_same_experiment(config: Any, settings: dict[str, Any], form: str) -> None:
    asked = _config(config, (), {**settings, "seeds": "1,2"}, config if callable(config) else None)
    store = manifest_of(ready(asked, "d")[0])
    Store.create("d", store)
    if form == "yaml":  # what the page shows to be saved
        Path("sweep.yaml").write_text(to_yaml(store.config))
        again = load("sweep.yaml")
    else:
        again = kept("d", trust=True)
    made = manifest_of(prepare(again))
    assert changes(store, made) == []
    assert made.seeds == (1, 2)
    assert made.name == store.name
    Store.check(Path("d"), made)


def test_more_seeds_join_those_that_are_planned() -> None:
    Store.create("d", manifest_of(ready(load(None, seeds="1,2"))[0]))
    assert kept("d", seeds="2,5").seeds == (1, 2, 5)
    assert kept("d", until="test/accuracy +- 0.1", max_seeds=9).max_seeds == 9


def test_failed_seeds_are_trained_again_and_no_other_is_added(capsys: pytest.CaptureFixture[str]) -> None:
    """A config that names no seeds means 42: typed without --seeds, the command of before added it."""
    results = sweep.run(toys.line, seeds=[1, 2, 3], engine="inline", out="runs/mine", params={"fail": 2})
    (again,) = results.report.next
    assert again == "sweep resume runs/mine --retry-failed"
    assert main([*shlex.split(again)[1:], "--engine", "inline", "--trust"]) == 1
    assert "3 planned = 2 ok + 1 failed" in capsys.readouterr().out
    assert sweep.open("runs/mine").store.manifest.seeds == (1, 2, 3)


@pytest.mark.parametrize(
    "config",
    [{"train": "toys:line"}, {"command": ["touch", "harm-{seed}"]}, {"recipe": "toys:recipe"}],
    ids=lambda config: next(iter(config)),
)
def test_nothing_of_a_strangers_directory_runs_unasked(
    config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    target = {"kind": "function", "reference": "toys:line", "argv": [], "digest": ""}
    if "command" in config:
        target = {"kind": "command", "reference": "", "argv": config["command"], "digest": ""}
    if "recipe" in config:
        target = {**target, "kind": "recipe", "reference": "toys:recipe"}
    cells = [{"variant": "", "task": "", "params": {}, "data": ""}]
    experiment = {
        "target": target, "cells": cells, "repeats": 1, "deterministic": False, "device": "cpu", "threads": 1,
        "vary": [],
    }  # fmt: skip
    Store.create("sent", Manifest("sent", {"name": "sent", **config}, experiment, (1,)))
    assert main(["resume", "sent", "--engine", "inline"]) == 2
    said = capsys.readouterr().err
    assert "--trust" in said
    assert (config.get("command") or [target["reference"]])[0] in said
    assert not Path("harm-1").exists()
    assert not (Path("sent") / "members").exists()
    if "command" in config:  # the control: what was held back would have run
        main(["resume", "sent", "--engine", "inline", "--trust"])
        assert Path("harm-1").exists()


@pytest.mark.parametrize("more", [(), ("--retrain",)])
@pytest.mark.parametrize(
    "way",
    [{"train": "harm:train"}, {"recipe": "harm:train"}, {"command": ["sh", "-c", "touch ran", "{seed}"]}],
    ids=["function", "recipe", "command"],
)
def test_a_config_that_names_other_code_than_the_plan_is_refused_unread(
    way: dict[str, Any], more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("harm.py").write_text("open('ran', 'w').close()\ndef train(run): return {'test/accuracy': 1.0}\n")
    made = manifest_of(ready(load(None, seeds="1,2"))[0])  # of a built-in recipe, which needs no trust
    config = {**made.config, "recipe": None, "params": {}, **way}
    Store.create("sent", Manifest(made.name, config, made.experiment, made.seeds))
    assert main(["resume", "sent", "--engine", "inline", *more]) == 2
    assert "different code" in capsys.readouterr().err
    assert not Path("ran").exists()
    assert not Path("sent/members").exists()


def test_a_hidden_value_is_refused_with_the_way_out() -> None:
    shown = to_dict(load(None, seeds="1,2"))
    made = manifest_of(prepare(load(None, seeds="1,2")))
    secret = Manifest(made.name, {**shown, "params": {"api_key": "***"}}, made.experiment, made.seeds)
    Store.create("d", secret)
    with pytest.raises(StoreError) as refused:
        kept("d")
    assert "sweep run ... --out d --seeds 1,2" in str(refused.value)


def test_a_function_of_a_notebook_is_called_again() -> None:
    def train(run: Any, *, fail: int = 1) -> dict[str, float]:
        if run.seed == fail:
            raise ValueError("unlucky")
        return {"test/accuracy": run.seed / 10}

    results = sweep.run(train, seeds=[1, 2, 3], engine="inline", out="runs/mine")
    call = "sweep.run(train, ..., out='runs/mine', seeds='1-3', retry_failed=True)"
    assert results.report.next == (call,)
    text = page(results.store)
    assert "sweep reproduce" not in text  # it would refuse: only the text of the function was recorded
    assert escape("sweep run sweep.yaml") not in text
    with pytest.raises(StoreError, match=r"sweep\.run\(train, \.\.\., out='runs/mine'"):
        kept("runs/mine", trust=True)


def test_a_strangers_words_are_words_and_nothing_else() -> None:
    store = sweep_of(Path("d"), accuracies({5: 0.5}), seeds=[5])
    target = {**store.manifest.experiment["target"], "reference": "__main__:f\x1b]0;x(open('y'))"}
    sent = Manifest("d", {}, {**store.manifest.experiment, "target": target}, (5,))
    assert resume(sent, "d;e", until="a; b\x1b") == "sweep.run(train, ..., out='d;e', seeds='5', until='a; b\\x1b')"
    assert resume(store.manifest, "d;e", until="a; b\x1b") == r"sweep resume 'd;e' --until $'a; b\x1b'"


def test_directories_of_an_earlier_version_go_on() -> None:
    with tarfile.open(Path(__file__).parents[1] / "golden" / "directories.tar.xz") as archive:
        archive.extractall(".", filter="data")
    before = json.loads(Path("trained/sweep.json").read_text())
    assert list(kept("trained").seeds) == before["seeds"]
    ready(kept("trained"), "trained")  # nothing of it differs
    with pytest.raises(TargetError, match="--trust"):
        kept("command")
