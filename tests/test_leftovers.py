"""Whatever a program starts ends with its run, in whatever group or session; whatever it did not start stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import gone, until

from sweep.forkserver import client
from sweep.results import run
from sweep.store import Store

# What each leaves: a child in its own session, one whose parent has gone as well, one that knows nothing of its origin.
PROGRAM = r"""
import os, subprocess, sys, time
deaf = "trap '' TERM; sleep 600"
subprocess.Popen(["setsid", "sh", "-c", "echo $$ >a; " + deaf])
subprocess.Popen(["sh", "-c", "(setsid sh -c 'echo $$ >b; sleep 600' &) &"], start_new_session=True)
if sys.argv[2] == "unmarked":
    subprocess.Popen(["setsid", "env", "-i", "PATH=" + os.environ["PATH"], "sh", "-c", "echo $$ >c; sleep 600 & wait"])
names = "abc" if sys.argv[2] == "unmarked" else "ab"
while not all(os.path.exists(name) and open(name).read().strip() for name in names):
    time.sleep(0.01)
with open("own.part", "w") as own:
    own.write(f"{os.getpid()} {os.getppid()}")
os.rename("own.part", "own")
if sys.argv[3] == "stay":
    time.sleep(600)
print({"acc": 0.5})
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(PROGRAM)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """The negative control: a process of another run, in a session of its own, below none of ours."""
    other = {**os.environ, "SWEEP_RUN": "other"}
    with subprocess.Popen(["sleep", "600"], start_new_session=True, env=other) as process:
        yield process
        assert process.poll() is None, "a process was ended that does not belong to the run"
        process.kill()


def left() -> list[int]:
    return [int(Path(name).read_text().split()[0]) for name in ("a", "b", "c", "own") if Path(name).exists()]


def test_nothing_that_a_program_started_outlives_it(stranger: subprocess.Popen[bytes]) -> None:
    words = [sys.executable, "-S", "program.py", "{seed}", "unmarked", "go"]
    results = run({"command": words}, seeds=[1], out="out", engine="inline")
    assert list(results.frame.status) == ["ok"]
    assert len(left()) == 4
    assert all(map(gone, left()))


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "SIGKILL of its parent"])
def test_nothing_outlives_the_end_of_a_launch(how: str, stranger: subprocess.Popen[bytes]) -> None:
    words = [sys.executable, "-S", "program.py", "{seed}", "marked", "stay"]
    launch = subprocess.Popen(
        [sys.executable, "-m", "sweep.cli", "run", "--engine", "inline", "--seeds", "1", "--out", "out", "retries=0",
         "--", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: Path("own").exists() or launch.poll() is not None)
        parent = int(Path("own").read_text().split()[1])
        os.kill(parent if "parent" in how else launch.pid, getattr(signal, how.split()[0]))
        if "parent" in how:
            until(lambda: all(map(gone, left())) or launch.poll() is not None)
            launch.kill()
        launch.wait(120)
        until(lambda: all(map(gone, left())), 30)
    finally:
        launch.kill()
        launch.wait()
    assert [member.status for member in Store.open("out").scan()] != ["ok"]


def test_nothing_outlives_a_fork_server_that_has_to_be_killed(
    monkeypatch: pytest.MonkeyPatch, stranger: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(client, "GRACE", 0.1)
    program = client.Program(["sh", "-c", "echo $$; setsid sleep 600 & echo $!; wait"], dict(os.environ))
    pids = [int(program.stdout.readline()) for _ in range(2)]
    os.kill(program._forkserver._process.pid, signal.SIGSTOP)
    program.close()
    until(lambda: all(map(gone, pids)), 30)
