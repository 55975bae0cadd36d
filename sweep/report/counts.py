"""Counts of runs as text."""

from __future__ import annotations

from sweep.analysis.model import Counts


def counted(found: Counts) -> str:
    """Return "10 planned = 7 ok + 1 failed + 0 lost + 2 pending (1 running)", or the known counts of adopted runs."""
    if found.adopted:
        failed = f", {found.failed} failed" if found.failed else ""
        if not found.pending:
            return f"{found.ok} runs adopted{failed}; whether others failed is unknown"
        unknown = "missing (whether they failed is unknown)"
        return f"{found.planned} named = {found.ok} adopted{failed} + {found.pending} {unknown}"
    of_pending = ", ".join(f"{n} {word}" for n, word in ((found.running, "running"), (found.stopped, "stopped")) if n)
    return (
        f"{found.planned} planned = {found.ok} ok + {found.failed} failed + {found.lost} lost"
        f" + {found.pending} pending{f' ({of_pending})' if of_pending else ''}"
    )
