"""`sweep watch`: a real run, seen from another process that changes nothing and ends with it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from finished import accuracies, sweep_of

from sweep.cli.app import main

SWEEP = [sys.executable, "-c", "from sweep.cli import sweep; sweep()"]


def _start(*words: str) -> subprocess.Popen[str]:
    def restore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell may have started the tests with it ignored

    return subprocess.Popen(
        [*SWEEP, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=restore
    )


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """A run whose first seed trains until it is interrupted."""
    monkeypatch.chdir(tmp_path)
    program = ["sh", "-c", "touch begun; sleep 600 # {seed}"]
    Path("patient.yaml").write_text(json.dumps({"name": "patient", "command": program}))
    with _start("run", "patient.yaml", "--engine", "inline", "--seeds", "1,2") as run:
        give_up = time.monotonic() + 120
        while not Path("begun").exists() and run.poll() is None and time.monotonic() < give_up:
            time.sleep(0.05)
        yield run
        run.kill()


def _read_until(stream, wanted: str) -> str:
    line = ""
    while line := stream.readline():
        if wanted in line:
            break
    return line


def test_it_ends_with_the_run_and_says_how_things_stand(at_work):
    with _start("watch", "runs/patient", "--every", "0.1") as watching:
        assert "Ctrl-C does not stop it" in _read_until(watching.stderr, "watching patient")
        assert watching.poll() is None
        at_work.send_signal(signal.SIGINT)
        out, _ = watching.communicate(timeout=120)
    assert watching.returncode == 0
    assert out.startswith("patient in runs/patient: 2 planned = ")
    assert "next: sweep resume runs/patient " in out


def test_an_interrupt_ends_the_watching_and_not_the_run(at_work):
    before = sorted(str(path) for path in Path("runs").rglob("*"))
    with _start("watch", "runs/patient", "--every", "0.1") as watching:
        _read_until(watching.stderr, "watching patient")
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=120)
    assert watching.returncode == 0
    assert "no longer watching; the sweep continues" in err
    assert at_work.poll() is None
    assert sorted(str(path) for path in Path("runs").rglob("*")) == before


def test_where_nothing_is_at_work_it_says_so_and_ends(tmp_path, capsys):
    sweep_of(tmp_path / "run", accuracies({0: 0.5, 1: 0.6}), seeds=range(3))
    assert main(["watch", str(tmp_path / "run")]) == 0
    assert "3 planned = 2 ok + 0 failed + 0 lost + 1 pending" in capsys.readouterr().out
    assert main(["watch", str(tmp_path / "nowhere")]) == 2


def test_a_zip_is_not_waited_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = sweep_of(tmp_path / "run", accuracies({0: 0.5, 1: 0.6}), seeds=range(2))
    (made.path / "members/seed1/record.json").unlink()  # this process lives, and began that run
    shutil.make_archive(str(tmp_path / "sent"), "zip", made.path)
    signal.alarm(60)  # it waited for as long as this process lives
    assert main(["watch", str(tmp_path / "sent.zip")]) == 0
    signal.alarm(0)
    assert "2 planned = 1 ok" in capsys.readouterr().out
