"""`sweep init` and `sweep completion`: what they write is run, in real shells where they are installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.cli.app import COMMANDS, main
from sweep.config import Config

pytestmark = pytest.mark.usefixtures("unforked")


def test_what_init_writes_runs_and_its_seeds_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "first try"]) == 0
    assert "next: cd 'first try' && sweep run experiment.yaml" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "first try")
    written = Path("experiment.yaml").read_text()
    assert "# arguments of recipe or train; those left out keep their defaults" in written
    assert "e.g." not in written  # the values are examples
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["run", "experiment.yaml", "--engine", "inline", "params.epochs=5"]) == 0
    out = capsys.readouterr().out
    assert "3 planned = 3 ok + 0 failed" in out
    assert "ensemble" in out  # predictions were kept
    assert "same test/accuracy" not in out


def test_the_recipe_that_init_writes_trains_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["init", "--recipe"]) == 0
    assert "sweep run recipe=my_recipe:recipe --seeds 0-9" in capsys.readouterr().out
    assert main(["run", "recipe=my_recipe:recipe", "--seeds", "0-2", "--engine", "inline", "params.epochs=3"]) == 0
    out = capsys.readouterr().out
    assert "3 planned = 3 ok + 0 failed" in out
    assert "sweep ensemble runs/my_recipe" in out
    assert Path("runs/my_recipe/sweep.json").is_file()


def test_init_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_training.py").write_text("mine")
    assert main(["init"]) == 2
    assert "my_training.py already exists" in capsys.readouterr().err
    assert Path("my_training.py").read_text() == "mine"
    assert not Path("experiment.yaml").exists()


def test_every_key_is_explained_once_for_the_command_and_for_the_first_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "--json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert {*Config.model_fields, "checkpoint.keep", "collect.json"} <= set(rows)
    assert all(row["meaning"] for row in rows.values())
    assert (rows["retries"]["default"], rows["checkpoint.keep"]["default"]) == ("2", "final")
    assert main(["init"]) == 0
    written = Path("experiment.yaml").read_text()
    for key in ("seeds", "threads", "timeout"):
        assert f"# {rows[key]['meaning']}\n" in written
    assert "#\n" not in written


def test_one_key_is_explained_with_those_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "checkpoint"]) == 0
    out = capsys.readouterr().out
    assert "checkpoint.every_epochs" in out
    assert "retries" not in out
    assert main(["config", "checkpont"]) == 2
    assert "did you mean checkpoint?" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_what_its_shell_can_read(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_SWEEP_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script.encode(), check=True)


def completions(words: str) -> list[str]:
    """What bash would be offered for the last of `words`."""
    variables = {"_SWEEP_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "from sweep.cli import sweep; import sys; sys.argv[0] = 'sweep'; sweep()"
    made = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    return [line.partition(",")[2] for line in made.stdout.splitlines()]


def test_commands_and_options_are_completed() -> None:
    assert "report" in completions("sweep re")
    assert "--seeds" in completions("sweep run --se")
    assert set(completions("sweep ")) >= set(COMMANDS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rum"], "did you mean `sweep run`?"),
        (["run", "--sead", "1"], "'--seeds'"),
        (["run", "sedes=1"], "did you mean"),
        (["run", "params.optimiser.lr=1"], "did you mean"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert said in capsys.readouterr().err
