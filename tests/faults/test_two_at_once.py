"""Two commands, one directory: one proceeds, readers see whole snapshots, a dead owner's lock is free."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import kit
import pytest
from kit import Nursery
from processes import gone, until
from test_on_ray import configured, finish, starts

from sweep.errors import StoreError
from sweep.store import Store, atomic

RACE = """
import os, sys, time
from pathlib import Path
from sweep.errors import StoreError
from sweep.store import Store
racers = int(sys.argv[1])
for folder in sys.argv[2:]:
    root = Path(folder)
    go, done = root / "go", root / "done"
    children = []
    for number in range(racers):
        pid = os.fork()
        if pid == 0:
            while not go.exists():
                time.sleep(0.001)
            try:
                with Store.lock(root / "runs"):
                    os.write(1, b"in\\n")
                    while not done.exists():
                        time.sleep(0.01)
            except StoreError as error:
                os.write(1, b"refused %d\\n" % (f"pid " in str(error) or "owner unknown" in str(error)))
            os._exit(0)
        children.append(pid)
    go.touch()
    for pid in children:
        os.waitpid(pid, 0)
"""


def races(folders: list[Path], racers: int) -> Iterator[list[str]]:
    """Start `racers` launches at once in each folder in turn, and yield what each of them says.

    The one that gets the lock keeps it until all have spoken.
    """
    for folder in folders:
        (folder / "runs").mkdir(parents=True)
    words = [sys.executable, "-c", RACE, str(racers), *map(str, folders)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for folder in folders:
            yield [process.stdout.readline().strip() for _ in range(racers)]
            (folder / "done").touch()


def test_cases_53_54_of_a_hundred_simultaneous_starts_one_proceeds(tmp_path: Path) -> None:
    said = list(races([tmp_path / str(number) for number in range(3)], 100))
    assert [sorted(each) for each in said] == [["in", *["refused 1"] * 99]] * 3


def test_case_53_a_second_command_names_the_first_and_touches_nothing(nursery: Nursery, tmp_path: Path) -> None:
    tally = configured(tmp_path, pause=0.2, epochs=200)
    words = ["run", "faults.yaml", "--engine", "inline", "--seeds", "0-2", "--out", "runs"]
    first = nursery.start(words, tmp_path)
    try:
        until(lambda: starts(tally))
        started = json.loads((tmp_path / "runs" / "lock").read_text())["started"]
        before = sorted(p for p in (tmp_path / "runs").rglob("*"))
        trial = nursery.run(words, tmp_path)
        assert trial.code == 2
        assert f"pid {first.pid} on {os.uname().nodename}, started {started}" in trial.output
        assert "--break-lock" in trial.output
        # Breaking a lock whose owner lives on this host is refused: it would be two at once.
        trial = nursery.run([*words, "--break-lock"], tmp_path)
        assert trial.code == 2
        assert {p.name for p in before} <= {p.name for p in (tmp_path / "runs").rglob("*")}
        assert len(list((tmp_path / "runs").rglob("attempt-*"))) == 1
    finally:
        first.send(signal.SIGINT)
        assert first.finish().code == 130


def test_case_14_a_stopped_process_is_not_dead(nursery: Nursery, tmp_path: Path) -> None:
    """SIGSTOP, as of a laptop that sleeps: nobody takes its lock, and it goes on afterwards."""
    tally = configured(tmp_path, pause=0.1)
    words = ["run", "faults.yaml", "--engine", "inline", "--seeds", "0-1", "--out", "runs"]
    first = nursery.start(words, tmp_path)
    until(lambda: starts(tally))
    first.send(signal.SIGSTOP)
    assert nursery.run(words, tmp_path).code == 2
    first.send(signal.SIGCONT)
    ended = first.finish()
    assert ended.code == 0, ended.output
    kit.whole(tmp_path / "runs", [0, 1])
    assert {seed: len(pids) for seed, pids in starts(tally).items()} == {0: 1, 1: 1}


def test_cases_30_55_a_killed_owners_lock_is_taken_over_and_its_run_is_lost(nursery: Nursery, tmp_path: Path) -> None:
    tally = configured(tmp_path, pause=0.2, epochs=100)
    first = nursery.start(["run", "faults.yaml", "--engine", "inline", "--seeds", "0", "--out", "runs"], tmp_path)
    until(lambda: starts(tally))
    assert [m.status for m in Store.open(tmp_path / "runs").scan()] == ["running"]
    first.send(signal.SIGKILL)
    assert first.finish().code == -signal.SIGKILL
    assert [m.status for m in Store.open(tmp_path / "runs").scan()] == ["lost"]
    with Store.lock(tmp_path / "runs") as owner:
        assert owner.pid == os.getpid()


def test_case_28_no_clock_decides_anything(tmp_path: Path) -> None:
    """An owner that says it started in a year's time, or in 1970, is alive or dead by its process alone."""
    path = tmp_path / "runs"
    path.mkdir()
    with Store.lock(path):
        body = json.loads((path / "lock").read_text())
        for started in ("2999-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "not a time"):
            (path / "lock").write_text(json.dumps({**body, "started": started}))
            with pytest.raises(StoreError), Store.lock(path, break_lock=True):
                pass
    (path / "lock").write_text(json.dumps({**body, "ticks": "1", "started": "2999-01-01T00:00:00Z"}))
    with Store.lock(path):
        pass


@pytest.mark.walk
def test_case_56_status_and_report_while_running_are_whole_snapshots(nursery: Nursery, tmp_path: Path) -> None:
    configured(tmp_path, pause=0.2, epochs=5)
    first = nursery.start(["run", "faults.yaml", "--engine", "inline", "--seeds", "0-9", "--out", "runs"], tmp_path)
    until(lambda: Store.exists(tmp_path / "runs"))
    looks, done = 0, []
    while not gone(first.pid):
        status = nursery.run(["status", "runs", "--json"], tmp_path)
        assert status.code == 0, status.output
        counts = json.loads(status.output)["counts"]
        assert counts["planned"] == 10 == sum(counts[k] for k in ("ok", "failed", "lost", "pending"))
        assert (counts["failed"], counts["lost"]) == (0, 0), status.output
        done.append(counts["ok"])
        report = nursery.run(["report", "runs"], tmp_path)
        assert report.code == 0, report.output
        assert "10 planned = " in report.output
        looks += 1
    assert first.finish().code == 0
    assert looks >= 3
    assert done == sorted(done)
    kit.whole(tmp_path / "runs", range(10))


def test_case_42_a_directory_deleted_while_running_is_loud_and_not_made_again(tmp_path: Path) -> None:
    import shutil

    tally = configured(tmp_path, pause=0.1, epochs=8)
    first = kit.start("run", "faults.yaml", "--engine", "inline", "--seeds", "0-2", "--out", "runs", folder=tmp_path)
    until(lambda: starts(tally))
    shutil.rmtree(tmp_path / "runs")
    code, said = finish(first)
    assert code not in (0, None), said
    assert "Traceback" not in said
    assert not (tmp_path / "runs" / "members" / "seed1").exists()


@pytest.mark.walk
def test_case_13_a_reader_that_goes_away_ends_the_command_quietly(nursery: Nursery, tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text("name: many\ntrain: victims:brief\n")
    words = ["run", "many.yaml", "--engine", "inline", "--seeds", "0-9", "--out", "runs"]
    assert nursery.run(words, tmp_path).code == 0
    for words in ("status runs --json", "report runs", "report runs --format json"):
        line = f"set -o pipefail; {sys.executable} -m sweep.cli {words} | head -c 10 > /dev/null"
        piped = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=kit.environment(), text=True, capture_output=True
        )
        assert piped.returncode in (0, 141), piped.stderr
        assert piped.stderr == ""


def test_a_directory_that_another_command_is_just_making_is_not_somebodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two `ml-train`s enter one new directory: whenever one has looked, the other writes a file on its way in."""
    path, listed = tmp_path / "runs", Path.iterdir
    path.mkdir()

    def meanwhile(folder: Path) -> Iterator[Path]:
        found = list(listed(folder))
        if folder == path:
            (path / f"{atomic.TEMPORARY}{secrets.token_hex(4)}").touch()
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", meanwhile)
    for _ in range(3):
        Store.check(path, None)
    (path / f"{atomic.TEMPORARY}notours").touch()
    with pytest.raises(StoreError, match="holds other files"):
        Store.check(path, None)


def test_a_race_that_nobody_refuses_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the race: without the kernel's lock several are in."""
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda fd, how: None)
    (tmp_path / "runs").mkdir()
    inside = []
    barrier = threading.Barrier(2)

    def enter() -> None:
        with Store.lock(tmp_path / "runs"):
            barrier.wait(10)
            inside.append(1)

    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 2
