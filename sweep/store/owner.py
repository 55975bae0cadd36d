"""Who holds a lock or an attempt, and whether that process still lives."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sweep.store import shape


@dataclass(frozen=True)
class Owner:
    """A process, named so that a reused pid or a rebooted host is not mistaken for it."""

    host: str
    boot: str
    pid: int
    ticks: str  # the process's start, in clock ticks since boot; "" where the system does not tell
    started: str  # ISO UTC, for people only: nothing is decided by a clock
    nonce: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Owner:
        """Raises: ValueError."""
        shape.require(body, {"host": str, "boot": str, "pid": int, "ticks": str, "started": str, "nonce": str})
        if body["pid"] >= 1 << 31:
            raise ValueError("its pid is none")
        return cls(**{field.name: body[field.name] for field in fields(cls)})

    @property
    def here(self) -> bool:
        """Return whether it is on this host, so that its life can be checked."""
        return self.host == socket.gethostname()

    def dead(self) -> bool | None:
        """Return True or False on this host, None on another one, of which nobody here can tell."""
        if not self.here:
            return None
        if self.pid <= 0 or self.boot != _boot_id():
            return True
        stat = _stat(self.pid)
        if not self.ticks and not stat:  # the system does not tell; not imported where it does
            import psutil

            return not psutil.pid_exists(self.pid)
        return stat[:1] in (["Z"], ["X"]) or "".join(stat[19:20]) != self.ticks

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}, started {self.started}"


def this_process() -> Owner:
    """Return this process as an owner, with a fresh nonce."""
    return Owner(
        host=socket.gethostname(), boot=_boot_id(), pid=os.getpid(), ticks="".join(_stat(os.getpid())[19:20]),
        started=now(), nonce=secrets.token_hex(4),
    )  # fmt: skip


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """Return what the kernel says of a process, from its state on; nothing where it does not."""
    try:
        # The command name may hold blanks and brackets; fields are counted after the last one.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
