"""A process that has loaded everything once and forks a `sweep` command for each trial, with a fault in it.

Not imported by tests: they start it (see kit.Nursery) and send one JSON object a line: argv, the folder to work
in, where its output goes, and the fault; or the process of a trial that was only started, to be waited for.

A fault is put between the store and the operating system: the n-th call of the small functions at the top of
sweep/store/atomic.py dies or fails, before or after it did its work.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import io
import json
import locale
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

CALLS = ("_open", "_write", "_fsync", "_replace", "_link", "_truncate")


def place() -> list[str]:
    """Return the lines of the package that led to this call of the store, without those of `atomic` itself."""
    from sweep.store import atomic

    package = Path(atomic.__file__).parents[1]
    frames = [frame for frame in traceback.extract_stack() if package in Path(frame.filename).parents]
    return [f"{frame.filename}:{frame.lineno}" for frame in frames if frame.filename != atomic.__file__]


def left(folder: Path) -> str:
    """Return a digest of the files that a kill would leave now. Temporary files count as equal."""
    from sweep.store import atomic

    out = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        temporary = path.name.startswith(atomic.TEMPORARY)
        name = path.with_name(atomic.TEMPORARY) if temporary else path
        out.update(f"{name}\0{path.stat().st_mode}\0".encode())
        out.update(path.read_bytes() if path.is_file() and not temporary else b"")
    return out.hexdigest()


def inject(fault: dict[str, Any], seen: list[Any], watched: Path | None = None) -> None:
    """Count every call; at number `at`, and with `lasting` at every later one, do what `what` says.

    With a folder to be watched, note of each call its place and what a kill before it would leave.
    """
    from sweep.store import atomic

    def wrapped(name: str, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            seen.append({"name": name, **({"place": place(), "left": left(watched)} if watched else {})})
            now = len(seen) - 1
            due = now >= fault["at"] if fault.get("lasting") else now == fault["at"]
            if due and fault["when"] == "half" and name == "_write":
                real(arguments[0], memoryview(arguments[1])[: len(arguments[1]) // 2])
            elif due and fault["when"] == "after":
                answer = real(*arguments)
            if due:
                if fault["what"] == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                number = getattr(errno, fault["what"])
                if name == "_open" and fault["when"] == "after":
                    os.close(answer)
                raise OSError(number, os.strerror(number))
            return real(*arguments)

        return call

    for name in CALLS:
        setattr(atomic, name, wrapped(name, getattr(atomic, name)))


def child(order: dict[str, Any]) -> None:
    """One command, as the command line would run it."""
    os.chdir(order["folder"])
    out = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if "variables" in order:
        os.environ.update(order["variables"])
        time.tzset()
        with contextlib.suppress(locale.Error):  # one that is not installed
            locale.setlocale(locale.LC_ALL, "")
    if "file_size" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"],) * 2)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    seen: list[Any] = []
    watched = Path(order["folder"]) / order["watched"] if "watched" in order else None
    inject({"at": -1, "when": "", "what": "", **order.get("fault", {})}, seen, watched)
    sys.argv = ["sweep", *order["argv"]]
    from sweep.cli.app import main

    code = main(order["argv"])
    if "calls" in order:
        Path(order["calls"]).write_text(json.dumps(seen))
    sys.stdout.flush()
    os._exit(code)


def main() -> None:
    import torch

    torch.set_num_threads(1)
    # The fault is in this process, and so must the run be: as on a system whose processes cannot be forked.
    from sweep import forkserver

    forkserver.POSSIBLE = False
    from sweep.cli.app import main as command

    # A whole sweep and its report, so that a fork finds everything imported and cached.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        (Path(folder) / "warm.yaml").write_text("name: warm\ntrain: victims:steps\n")
        sys.argv = ["sweep"]
        command(["run", f"{folder}/warm.yaml", "--engine", "inline", "--seeds", "0,1", "--out", f"{folder}/warm"])
    gc.collect()
    gc.freeze()  # or every fork would copy what is loaded at its first collection
    beside: set[int] = set()  # trials that go on beside others
    for line in sys.stdin:
        order = json.loads(line)
        begun = time.monotonic()
        pid = order["finish"] if "finish" in order else forked(order)
        if order.get("beside"):
            beside.add(pid)
            print(json.dumps({"pid": pid}), flush=True)
            continue
        beside.discard(pid)
        code = os.waitstatus_to_exitcode(ended(pid, order.get("kill_after")))
        print(json.dumps({"code": code, "seconds": time.monotonic() - begun}), flush=True)
    for pid in beside:
        os.kill(pid, signal.SIGKILL)


def forked(order: dict[str, Any]) -> int:
    """Fork for a trial and return the id of its process."""
    pid = os.fork()
    if pid == 0:
        try:
            child(order)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(99)
    return pid


def ended(pid: int, seconds: float | None) -> int:
    """Wait for a process, kill it if it still runs after `seconds`, and return its status."""
    if seconds is not None:
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return status
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


main()
