"""--retrain: what is there is trained again as is asked now, its records kept and counted, none of them mixed in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweep.cli.app import main
from sweep.results import run
from sweep.store import Store

PROGRAM = """import json, os, pathlib, sys
kept = pathlib.Path(os.environ["SWEEP_DIR"], "state.txt")
before = kept.read_text() if kept.exists() else "nothing"
kept.write_text("of the first program")
print(json.dumps({"test/accuracy": 0.5 + 0.01 * int(sys.argv[1])}))
if sys.argv[1] == "3" and not pathlib.Path("again").exists():
    os.kill(os.getpid(), 9)
print(json.dumps({"test/seen": 0.0 if before == "nothing" else 1.0}))
"""


def swept(*words: str, seeds: str = "1,2") -> int:
    asked = ["run", "--engine", "inline", "--seeds", seeds, *words, "retries=0", "--out", "out", "--json"]
    return main([*asked, "--", "python", "program.py", "{seed}"])


@pytest.fixture
def program(folder: Path) -> Path:
    (folder / "program.py").write_text(PROGRAM)
    return folder


def test_all_that_is_there_is_trained_again_as_is_asked_now(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert swept() == 0
    (program / "program.py").write_text(PROGRAM.replace("0.5 +", "0.7 +"))
    assert swept() == 2
    assert "--retrain" in capsys.readouterr().err
    assert swept("--retrain", seeds="1,4") == 0  # the seeds that are there stay
    found = json.loads(capsys.readouterr().out)
    members = list(Store.open("out").scan())
    assert [(m.seed, m.status, m.attempts, m.retried) for m in members] == [
        (1, "ok", 2, 1), (2, "ok", 2, 1), (4, "ok", 1, 0),
    ]  # fmt: skip
    assert [m.record.metrics["test/accuracy"] for m in members if m.record] == pytest.approx([0.71, 0.72, 0.74])
    assert any("2 runs trained again, with the earlier record set aside" in each for each in found["warnings"])
    assert found["extensions"] == 0
    assert "extension" not in found["headline"]
    assert swept("--retrain", "--dry-run") == 0
    assert swept(seeds="1,2,4") == 0  # the control: nothing is trained again unasked
    assert [m.attempts for m in Store.open("out").scan()] == [2, 2, 1]


def test_nothing_goes_on_from_what_another_program_left(program: Path) -> None:
    assert swept(seeds="3") == 1
    (program / "again").touch()
    assert swept("--retrain", "name=other", seeds="3") == 0
    (member,) = Store.open("out").scan()
    assert member.record
    assert member.record.metrics["test/seen"] == 0.0


@pytest.mark.usefixtures("unforked")
def test_what_cannot_be_compared_can_be_trained_again(folder: Path) -> None:
    text = "X = (i for i in range(3))\ndef train(run):\n    return {'test/x': 1.0 if X else 0.0}\n"
    (folder / "mine_again.py").write_text(text)
    for retrain in (False, True):
        run({"train": "mine_again:train"}, seeds=[1, 2], out="out", engine="inline", retrain=retrain)
    assert [(m.attempts, m.retried) for m in Store.open("out").scan()] == [(2, 1), (2, 1)]


def test_seeds_that_join_later_count_from_when_all_were_trained_again(program: Path) -> None:
    assert swept() == 0
    assert swept(seeds="1-3") == 1
    assert Store.open("out").manifest.extensions == 1
    (program / "again").touch()
    assert swept("--retrain", seeds="1-3") == 0
    assert Store.open("out").manifest.extensions == 0
    assert swept(seeds="1-4") == 0
    assert Store.open("out").manifest.extensions == 1
