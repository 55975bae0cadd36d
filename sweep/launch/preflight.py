"""Checks before a launch on a cluster: each node has the same packages, and sees the run directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from sweep.engine import RayEngine
from sweep.errors import EnvironmentRefused
from sweep.job import Job
from sweep.prepare import versions
from sweep.store.parcel import shared

PATIENCE = 60.0  # seconds: a node may have to start its first worker
OF_THE_BITS = ("torch", "numpy")


def sight(path: str, launch: str) -> tuple[bool, Mapping[str, str]]:
    """Return whether this process sees the directory of a launch, and the versions of its packages."""
    return shared(path, launch), versions()


def preflight(engine: RayEngine, job: Job, *, deterministic: bool) -> Iterator[str]:
    """Yield a line for every node whose runs will differ from those of the others.

    Raises: EnvironmentRefused if a node cannot run this package or has another version of it, and in deterministic mode
    if it has another torch or NumPy.
    """
    ours = versions()
    for node, answer in engine.everywhere(partial(sight, job.path, job.launch), PATIENCE):
        if isinstance(answer, TimeoutError):
            yield f"node {node} was not checked: {answer}"
        elif isinstance(answer, tuple):
            sees, theirs = answer
            yield from _differences(node, ours, sees, theirs, deterministic)
        else:
            raise EnvironmentRefused(
                f"cannot run sweep ({type(answer).__name__}: {_last_line(answer)})", where=f"node {node}",
                hint="install the same packages on every node",
            )  # fmt: skip


def _differences(
    node: str, ours: Mapping[str, str], sees: bool, theirs: Mapping[str, str], deterministic: bool
) -> Iterator[str]:
    unlike = {
        name: f"{name} {theirs.get(name, 'missing')} (here {ours.get(name, 'missing')})"
        for name in ("seed-sweep", *OF_THE_BITS)
        if theirs.get(name) != ours.get(name)
    }
    if unlike and (deterministic or "seed-sweep" in unlike):
        raise EnvironmentRefused(
            f"has {', '.join(unlike.values())}", where=f"node {node}", hint="install the same packages on every node"
        )
    if unlike:
        yield f"node {node} has {', '.join(unlike.values())}, so this sweep will have mixed environments"
    if not sees:
        yield f"node {node} cannot see the run directory, so it sends the files of its runs to this machine"


def _last_line(error: Any) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"
