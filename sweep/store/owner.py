"""The process that holds a lock or an attempt, and whether it is still alive."""

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
    """A process, identified so that neither a reused pid nor a rebooted host is mistaken for it."""

    host: str
    boot: str
    pid: int
    ticks: str  # the start of the process, in clock ticks since boot; "" if unknown
    started: str  # ISO UTC, for people only; no decision depends on it
    nonce: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Owner:
        """Return the owner that a JSON object describes. Raises: ValueError."""
        shape.require(body, {"host": str, "boot": str, "pid": int, "ticks": str, "started": str, "nonce": str})
        if body["pid"] >= 1 << 31:
            raise ValueError("its pid is invalid")
        return cls(**{field.name: body[field.name] for field in fields(cls)})

    @property
    def here(self) -> bool:
        """Return whether it is on this host."""
        return self.host == socket.gethostname()

    def dead(self) -> bool | None:
        """Return whether the process has ended, or None on another host, where that is unknown."""
        if not self.here:
            return None
        if self.pid <= 0 or self.boot != _boot_id():
            return True
        stat = _stat(self.pid)
        if not self.ticks and not stat:  # a system without /proc
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
    """Return the fields of /proc/PID/stat from the state on, or none if they cannot be read."""
    try:
        # The command name may hold blanks and brackets, so fields are counted after the last bracket.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
