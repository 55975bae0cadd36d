"""Real Ray, real signals: workers and drivers die, and no child, seed or listener is left over."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kit
import psutil
import pytest
from processes import gone, until

from sweep.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.walk]


def configured(folder: Path, *, pause: float = 0.1, epochs: int = 4, **more: Any) -> Path:
    """A config of `victims.steps` in `folder`, and the folder where every start leaves a file."""
    tally = folder / "tally"
    tally.mkdir(exist_ok=True)
    body = {"name": "faults", "train": "victims:steps", **more,
            "params": {"epochs": epochs, "pause": pause, "tally": str(tally)}}  # fmt: skip
    (folder / "faults.yaml").write_text(json.dumps(body))
    return tally


def starts(tally: Path) -> dict[int, list[int]]:
    """The processes in which each seed was started, in order."""
    found: dict[int, list[int]] = {}
    for name in sorted(os.listdir(tally), key=lambda n: int(n.split("-")[2])):
        seed, pid, _ = map(int, name.split("-"))
        found.setdefault(seed, []).append(pid)
    return found


def descendants(pid: int) -> set[int]:
    """Every process below `pid`, as the system tells it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return {each.pid for each in psutil.Process(pid).children(recursive=True)}
    return set()


def nobody_left(pids: set[int]) -> bool:
    return all(gone(pid) for pid in pids)


def end_soon(pids: set[int], seconds: float = 5.0) -> None:
    """Fail, with their command lines, unless all of them end within the seconds the README promises."""
    give_up = time.monotonic() + seconds
    while left := [pid for pid in pids if not gone(pid)]:
        assert time.monotonic() < give_up, f"still there after {seconds:g} s: {[*map(command_line, left)]}"
        time.sleep(0.02)


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def run(folder: Path, seeds: str, out: str, *more: str, jobs: int = 2) -> subprocess.Popen[str]:
    return kit.start("run", "faults.yaml", "--seeds", seeds, "--out", out, "--jobs", str(jobs), *more, folder=folder)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out + err


@pytest.fixture
def undisturbed(tmp_path: Path, nursery: kit.Nursery) -> Callable[[str], dict[str, str]]:
    """The tree of the same seeds trained in one process, by nobody disturbed."""

    def make(seeds: str) -> dict[str, str]:
        words = ["run", "faults.yaml", "--engine", "inline", "--seeds", seeds, "--out", "calm"]
        trial = nursery.run(words, tmp_path)
        assert trial.code == 0, trial.output
        return kit.tree(tmp_path / "calm")

    return make


def kill_workers(out: Path, tally: Path, kills: int, at_random: random.Random, over: threading.Event) -> Iterator[int]:
    """Kill workers at random, none of their seeds three times: that would be its failure.

    Whom a kill hit is known once the launch has logged it: a worker may have moved on to a seed that left no sign.
    """
    last, struck = 0.0, 0
    while struck < kills and not over.wait(at_random.uniform(0.1, 0.6)):
        lost = losses(out)
        unknown = struck > sum(lost.values()) and time.monotonic() - last < 10  # an idle worker is nobody's loss
        again = [n for key, n in lost.items() if not (out / "members" / key / "record.json").exists()]
        if max(again, default=0) + unknown >= 2:
            continue
        candidates = sorted({pids[-1] for pids in starts(tally).values() if not gone(pids[-1])})
        if candidates:
            pid = at_random.choice(candidates)
            os.kill(pid, signal.SIGKILL)
            last, struck = time.monotonic(), struck + 1
            yield pid


def losses(out: Path) -> Counter[str]:
    """How often each run was lost, as the launch has logged it."""
    try:
        lines = (out / "events.jsonl").read_text().splitlines()
    except OSError:
        return Counter()
    return Counter(event["key"] for event in map(json.loads, lines) if event["kind"] == "lost")


def workers_killed(folder: Path, seeds: int, kills: int, number: int) -> int:
    tally = configured(folder)
    out = f"killed{number}"
    process = run(folder, f"0-{seeds - 1}", out)
    over = threading.Event()
    struck: list[int] = []
    killer = threading.Thread(
        target=lambda: struck.extend(kill_workers(folder / out, tally, kills, random.Random(number), over))
    )
    killer.start()
    code, said = finish(process)
    over.set()
    killer.join()
    assert code == 0, said
    assert f"{seeds} planned = {seeds} ok + 0 failed + 0 lost + 0 pending" in said
    kit.whole(folder / out, range(seeds))
    assert kit.leftovers(folder / out) == []
    for path in tally.iterdir():
        path.unlink()
    return len(struck)


def test_cases_1_15_workers_killed_at_random_change_nothing(
    tmp_path: Path, undisturbed: Callable[[str], dict[str, str]]
) -> None:
    configured(tmp_path)
    want = undisturbed("0-5")
    assert workers_killed(tmp_path, 6, 3, 0) == 3
    assert kit.tree(tmp_path / "killed0") == want


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 50, 5))
def test_case_1_workers_killed_at_random_in_fifty_sweeps(
    tmp_path: Path, undisturbed: Callable[[str], dict[str, str]], first: int
) -> None:
    configured(tmp_path)
    want = undisturbed("0-19")
    struck = 0
    for number in range(first, first + 5):
        struck += workers_killed(tmp_path, 20, 8, number)
        assert kit.tree(tmp_path / f"killed{number}") == want
    print(f"{struck} workers killed in 5 sweeps of 20 seeds, 0 seeds lost, 0 counted twice")


def test_cases_10_12_108_110_the_driver_killed_leaves_no_child_and_its_ray_listened_on_loopback_only(
    tmp_path: Path, undisturbed: Callable[[str], dict[str, str]]
) -> None:
    tally = configured(tmp_path)
    want = undisturbed("0-4")
    for path in tally.iterdir():
        path.unlink()
    process = run(tmp_path, "0-4", "killed")
    until(lambda: len(starts(tally)) >= 3)
    below = descendants(process.pid)
    assert len(below) >= 4  # its Ray and two workers
    on_loopback_without_a_dashboard(below | {process.pid})
    process.kill()
    process.communicate()
    until(lambda: all(nobody_left(set(pids)) for pids in starts(tally).values()), 30)
    code, said = finish(run(tmp_path, "0-4", "killed"))
    assert code == 0, said
    kit.whole(tmp_path / "killed", range(5))
    assert kit.tree(tmp_path / "killed") == want
    until(lambda: nobody_left(below))  # they look for their parent now and then only


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)], ids=str
)
def test_cases_11_12_13_a_signal_stops_at_a_checkpoint_and_leaves_no_child(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    tally = configured(tmp_path, pause=0.3, epochs=40)
    process = run(tmp_path, "0-5", "stopped")
    until(lambda: len(starts(tally)) >= 2)
    below = descendants(process.pid)
    process.send_signal(number)
    got, said = finish(process)
    assert got == code, said
    assert "To resume: sweep resume stopped --" in said
    assert "Traceback" not in said
    end_soon(below)
    members = list(Store.open(tmp_path / "stopped").scan())
    assert {m.status for m in members} == {"stopped", "pending"}
    assert len([m for m in members if m.status == "stopped"]) == 2
    kept = [p for m in members if m.folder for p in m.folder.glob("checkpoint-*.pt")]
    assert len(kept) >= 2
    assert kit.leftovers(tmp_path / "stopped") == []


def test_case_12_a_second_interrupt_cancels_at_once(tmp_path: Path) -> None:
    tally = configured(tmp_path, pause=25.0, epochs=4)  # no checkpoint within the patience of a test
    process = run(tmp_path, "0-3", "cancelled")
    until(lambda: len(starts(tally)) >= 2)
    below = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None  # the first one waits for a checkpoint
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    code, said = finish(process)
    assert time.monotonic() - asked < 15
    assert code == 130, said
    assert "cancelled" in said
    assert "Traceback" not in said
    end_soon(below)
    assert set(kit.credible(tmp_path / "cancelled").values()) <= {"lost", "stopped", "pending"}


def listeners(pids: set[int]) -> dict[str, int]:
    """Addresses on which these processes listen: from /proc/net, by the inodes of their sockets."""
    inodes: dict[str, int] = {}
    for pid in pids:
        try:
            entries = list(os.scandir(f"/proc/{pid}/fd"))
        except OSError:
            continue
        for entry in entries:
            try:
                name = os.readlink(entry.path)
            except OSError:
                continue
            if name.startswith("socket:["):
                inodes[name[8:-1]] = pid
    out: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                out[words[1]] = inodes[words[9]]
    return out


LOOPBACK = ("0100007F:", "0000000000000000FFFF00000100007F:", "00000000000000000000000001000000:")


def on_loopback_without_a_dashboard(pids: set[int]) -> None:
    found = listeners(pids)
    assert len(found) >= 4, "Ray's own servers were not found: this test sees nothing"
    assert [address for address in found if not address.startswith(LOOPBACK)] == []
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids if not gone(pid)]
    assert all(b"--disable-frontend" in command for command in commands if b"dashboard.py" in command)
    assert not any(int(address.rpartition(":")[2], 16) == 8265 for address in found)
    settings = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in pids if not gone(pid))
    assert b"RAY_AUTH_MODE=disabled" not in settings


def test_the_search_for_listeners_sees_one_on_every_address() -> None:
    """The negative control of the test above."""
    import socket

    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        found = listeners({os.getpid()})
        assert any(not address.startswith(LOOPBACK) for address in found)
