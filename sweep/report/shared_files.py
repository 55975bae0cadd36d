"""Sentences about files that several runs wrote, and files that changed during runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sweep.errors import some
from sweep.shared_files import Shared
from sweep.store import Member


def sentence(found: Shared) -> str:
    """Return which runs wrote a file side by side, or in turn."""
    who = some(found.runs)
    if found.in_turn:
        what = "a run that reads it before writing it reads what another run wrote"
        return f"{found.path} was written by {who} in turn: {what}"
    return f"shared file: {found.path} was written while {who} were running: one may have read what another wrote"


def remedy(allowed: bool) -> str:
    """Return the next step if runs shared a file."""
    if allowed:
        return "this was allowed"
    return (
        "have the program write into {dir}, put {seed} into the name, or give each run its own folder with "
        "--cwd {dir}; or accept it with --allow-shared"
    )


def mixed(members: Iterable[Member]) -> str:
    """Return which runs a change of the program or its data may have affected; "" if it affected none."""
    return two_programs({m.key: m.record.files.get("changed") or () for m in members if m.record is not None})


def two_programs(changed: Mapping[str, Sequence[str]]) -> str:
    """Return `mixed` for run keys and the files that changed during each."""
    reached = [key for key, names in changed.items() if names]
    if not reached:
        return ""
    names = dict.fromkeys(name for its in changed.values() for name in its)
    before = some([key for key, its in changed.items() if not its]) or "no run"
    return (
        f"{some([*names])} changed during {some(reached)}: {before} ran with the files as planned, "
        f"{some(reached)} with the old or the new ones"
    )
