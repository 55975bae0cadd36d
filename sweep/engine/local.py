"""The Ray that a sweep starts for itself: reached from this host alone, and no server in it that nobody asks."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# A Ray of one host and one user needs neither who adds machines nor who forwards logs (a run's log is kept beside
# its record). `ray start` has an option for each of these; `ray.init` has none.
UNASKED: dict[str, Any] = {"no_monitor": True, "include_log_monitor": False}
# Ray starts its workers before the first task is there, and they import this meanwhile.
PRELOADING = "RAY_preload_python_modules"
PRELOAD = "sweep.worker,sweep.train.recipes"


@contextmanager
def lean() -> Iterator[None]:
    """While a local Ray starts: its servers listen on the loopback address, and only the needed ones are there.

    Measured on two cores: 7.1 s from `import ray` to the end of `ray.shutdown` with a first task that imports torch,
    against 11.0 s. Where a version of Ray has no such inner part, that saving is left out.
    """
    from ray._private import node, parameter, ray_constants

    # Ray replaces a loopback address by that of the host, so that others could join, except where it was told that
    # there are no others: its setting for laptops.
    ours: list[tuple[Any, str, Any]] = [(ray_constants, "ENABLE_RAY_CLUSTER", False)]
    if UNASKED.keys() <= inspect.signature(parameter.RayParams).parameters.keys():
        ours.append((parameter, "RayParams", functools.partial(parameter.RayParams, **UNASKED)))
    if hasattr(node.Node, "start_api_server"):
        ours.append((node.Node, "start_api_server", _not_started))
    theirs = [(owner, name, getattr(owner, name)) for owner, name, _ in ours]
    preloading = os.environ.setdefault(PRELOADING, PRELOAD) == PRELOAD
    try:
        for change in ours:
            setattr(*change)
        yield
    finally:
        for change in theirs:
            setattr(*change)
        if preloading:
            del os.environ[PRELOADING]


def _not_started(node: Any, **_: Any) -> None:
    """In place of the server behind the dashboard, for which Ray would wait two seconds even without a dashboard."""
