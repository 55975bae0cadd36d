"""Helpers in this folder are importable from every test below it."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sweep import forkserver
from sweep.store import atomic
from sweep.verify import canary
from sweep.worker import forked

# Under nohup, or in the background of a script, these would be ignored here, and so by every command that is started
# here to be stopped by them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine must fail no property.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A launch ends what it forked from; here the next test goes on with it, two seconds earlier.
forkserver.dismiss, end_nurseries = (lambda: None), forkserver.dismiss
# A module of tests imports these: loaded once, they cost no second of each run of a function that stands in it.
forked.PRELOAD = ("pandas", "scipy.special", "pytest", "sweep.results", "sweep.cli.app", *forked.PRELOAD)


# A machine that loses its power loses its tests as well. What other processes write here still waits for the disk.
atomic._fsync = lambda fd: None


class Loud(logging.Handler):
    """Raises what a part of a report caught, so that no test passes by its note."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            raise record.exc_info[1]


LOUD = Loud()
logging.getLogger("sweep.analysis").addHandler(LOUD)
logging.getLogger("sweep.analysis").setLevel(logging.DEBUG)

# What the person who runs the tests has called themselves is not theirs to change.
STATE = tempfile.mkdtemp(prefix="sweep-state-")
os.environ["XDG_STATE_HOME"] = STATE
atexit.register(shutil.rmtree, STATE, ignore_errors=True)

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of a user, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def unforked() -> Iterator[None]:
    """User code runs in this process, as where no process can be forked: for tests that it makes no difference to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forkserver, "POSSIBLE", False)
        yield


@pytest.fixture
def no_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deterministic sweeps train no run again to prove it: for tests that do not look at the stamp."""
    for check in ("before", "after"):
        monkeypatch.setattr(canary.Canary, check, lambda *_: iter(()))


@pytest.fixture
def quiet() -> Iterator[None]:
    """A report made as for a user: a part that fails is a note."""
    logger = logging.getLogger("sweep.analysis")
    logger.removeHandler(LOUD)
    yield
    logger.addHandler(LOUD)


@pytest.fixture
def snapshot() -> Callable[[str, str], None]:
    """`snapshot("cli/help.txt", text)` compares with tests/snapshots; UPDATE_SNAPSHOTS=1 writes instead."""

    def compare(name: str, text: str) -> None:
        path = SNAPSHOTS / name
        text = text.rstrip("\n") + "\n"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no snapshot {name}: UPDATE_SNAPSHOTS=1 writes it"
        assert text == path.read_text(encoding="utf-8")

    return compare
