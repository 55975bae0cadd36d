"""A command's folder is the same for all attempts at its run: what a dead one left is found, and no metric of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from sweep.results import run
from sweep.store import Member, Store

PROGRAM = """
import json, os, pathlib, signal, sys
folder, attempt, ending = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4]
kept = folder / "deep" / "checkpoint.json"
(attempt / "seen.json").write_text(json.dumps({"dir": str(folder), "variable": os.environ["SWEEP_DIR"]}))
if not kept.exists():
    kept.parent.mkdir()
    kept.write_text("0.25")
    (folder / "metrics.json").write_text('{"test/accuracy": 0.1')
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit("failed")
(folder / "done.txt").write_text("done")
if ending == "killed":
    print(json.dumps({"test/accuracy": float(kept.read_text())}))
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(PROGRAM)


def trained(ending: str, **options: bool) -> Member:
    command = [sys.executable, "-S", "train.py", "{seed}", "{dir}", "{attempt_dir}", ending]
    run({"command": command}, seeds=[1], out="out", engine="inline", **options)
    (member,) = Store.open("out").scan(verify=True)
    return member


def test_a_program_finds_its_checkpoint_after_a_death_and_no_metrics_of_the_dead_attempt() -> None:
    member = trained("killed")
    assert member.record is not None
    assert (member.status, member.attempts) == ("ok", 2)
    assert member.record.metrics == {"test/accuracy": 0.25}
    said = " ".join(member.record.notes)
    assert "2 files of an earlier attempt" in said
    assert "saves no checkpoint" not in said
    folder = member.folder
    assert folder is not None
    (first,) = (each for each in member.path.glob("attempt-*") if each != folder)
    seen = [json.loads((each / "seen.json").read_text()) for each in (first, folder)]
    assert seen[0] == seen[1] == {"dir": os.fspath((member.path / "dir").resolve()), "variable": seen[0]["dir"]}
    # Each attempt keeps what it wrote, and the record answers for its own.
    assert "done.txt" in member.record.artifacts
    assert "metrics.json" not in member.record.artifacts
    assert (first / "metrics.json").exists()
    assert (first / "deep" / "checkpoint.json").exists()
    assert not (member.path / "dir").exists()


def test_a_failed_run_that_is_tried_again_starts_with_an_empty_folder() -> None:
    assert trained("raises").status == "failed"
    member = trained("raises", retry_failed=True)
    assert member.status == "failed"  # the control: with its checkpoint it would have ended well, without metrics
    assert member.record is not None
    assert member.record.failure is not None
    assert member.record.failure.kind == "raised"
    assert member.retried == 1
