"""What the tests of faults share: commands with a fault in them, and what a directory holds in the end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sweep as package
from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM
from sweep.store import Store, atomic
from sweep.store.names import ABOUT, ATTEMPT, CORRUPT, LOG, MANIFEST, RECORD

HERE = Path(__file__).parent
# Of a record: who made it and when. All else must be equal, to the byte.
OF_THE_ATTEMPT = ("attempt", "attempts", "context", "seconds", "notes", "files", "checksum")


def environment(**more: str) -> dict[str, str]:
    """The variables of a command that finds the training functions of this folder."""
    # First the package that these tests import: another one may be installed.
    path = os.pathsep.join([str(Path(package.__file__).parents[1]), str(HERE), str(HERE.parent)])
    return {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", **ENVIRONMENT_FOR_DETERMINISM, **more}


def sweep(*words: str, folder: Path, timeout: float = 240, **more: str) -> subprocess.CompletedProcess[str]:
    """`sweep …` in a new process."""
    return subprocess.run(
        [sys.executable, "-m", "sweep.cli", *words], cwd=folder, env=environment(**more), text=True,
        capture_output=True, timeout=timeout,
    )  # fmt: skip


def start(*words: str, folder: Path, **more: str) -> subprocess.Popen[str]:
    """`sweep …` in a new process, not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "sweep.cli", *words], cwd=folder, env=environment(**more), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


@dataclass
class Trial:
    """How a command ended: its exit code (negative: by that signal), its output, its time."""

    code: int
    output: str
    seconds: float


class Nursery:
    """Runs a command in a fork of a process that has loaded everything: a trial costs a tenth of a second."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "nursery.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1"),
        )  # fmt: skip

    def run(self, argv: Sequence[str], folder: Path, **order: Any) -> Trial:
        output = folder / "output.txt"
        answer = self._answer(argv=list(argv), folder=str(folder), output=str(output), **order)
        return Trial(answer["code"], output.read_text(errors="replace"), answer["seconds"])

    def start(self, argv: Sequence[str], folder: Path) -> Beside:
        """Run a command beside those that follow."""
        output = folder / "beside.txt"
        answer = self._answer(argv=list(argv), folder=str(folder), output=str(output), beside=True)
        return Beside(self, answer["pid"], output)

    def _answer(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass
class Beside:
    """A command that runs beside others."""

    nursery: Nursery
    pid: int
    output: Path

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def finish(self) -> Trial:
        """Wait for its end."""
        answer = self.nursery._answer(finish=self.pid)
        return Trial(answer["code"], self.output.read_text(errors="replace"), answer["seconds"])


def whole(path: Path, seeds: Sequence[int]) -> dict[int, dict[str, str]]:
    """The digest chains of a finished sweep, after checking that each seed is there once, ok and verifiable."""
    members = list(Store.open(path).scan(verify=True))
    assert [m.seed for m in members] == sorted(seeds)
    assert [(m.seed, m.status, m.note) for m in members] == [(s, "ok", "") for s in sorted(seeds)]
    return {m.seed: dict(m.record.digests) for m in members if m.record is not None}


def credible(path: Path) -> Mapping[int, str]:
    """What became of each seed, after checking that whatever counts as complete is verifiable."""
    if not Store.exists(path):
        return {}
    out = {}
    for member in Store.open(path).scan(verify=True):
        assert member.status in ("ok", "lost", "stopped", "pending", "running"), (member.key, member.record)
        assert not member.note, member.note
        assert (member.record is not None) == (member.status == "ok")
        out[member.seed] = member.status
    return out


def tree(path: Path) -> dict[str, str]:
    """sha256 of all that counts in a run directory: losing attempts dropped, the winner's name made one."""
    out: dict[str, str] = {}
    for file in sorted(path.rglob("*")):
        if not file.is_file() or file.parent == path or file.name.startswith(CORRUPT):
            continue
        parts = file.relative_to(path).parts
        member = file.parent if file.name == RECORD else file.parent.parent
        record = atomic.loads((member / RECORD).read_bytes())
        if file.name == RECORD:
            kept = {k: v for k, v in record.items() if k not in OF_THE_ATTEMPT}
            out["/".join(parts)] = hashlib.sha256(atomic.dumps(kept).encode()).hexdigest()
        elif file.parent.name == f"{ATTEMPT}{record['attempt']}" and file.name not in (LOG, ABOUT):
            out["/".join([*parts[:-2], "winner", file.name])] = atomic.file_digest(file)
    manifest = atomic.loads((path / MANIFEST).read_bytes())
    kept = {k: v for k, v in manifest.items() if k not in ("seed_log", "checksum")}
    return {**out, MANIFEST: hashlib.sha256(atomic.dumps(kept).encode()).hexdigest()}


def leftovers(path: Path) -> list[str]:
    """Temporary files and requests to stop, which a finished command must not leave."""
    return [p.name for p in path.rglob("*") if p.name.startswith((atomic.TEMPORARY, "stop-"))]
