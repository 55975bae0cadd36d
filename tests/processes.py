"""Wait for what other processes do, and for their end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def until(true: Callable[[], Any], seconds: float = 120) -> Any:
    """Return the first answer that counts as true; fail where none comes in time."""
    give_up = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.02)
    return answer


def gone(pid: int) -> bool:
    """Return whether a process has ended, though its parent may not have asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
