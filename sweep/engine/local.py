"""The Ray that a sweep starts for itself: reached from this host alone, and no server in it that nobody asks."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sweep.engine import idle_agent

# A Ray of one host and one user needs neither who adds machines nor who forwards logs (a run's log is kept beside
# its record). `ray start` has an option for each of these; `ray.init` has none.
UNASKED: dict[str, Any] = {"no_monitor": True, "include_log_monitor": False}
# Ray starts its workers before the first task is there, and they import this meanwhile.
PRELOADING = "RAY_preload_python_modules"
PRELOAD = "sweep.worker,sweep.train.recipes"
AGENT = "--dashboard_agent_command="  # the word with which the raylet is told how to start its agent
AGENT_PORTS = "METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME"


@contextmanager
def lean() -> Iterator[None]:
    """While a local Ray starts: its servers listen on the loopback address, and only the needed ones are there.

    Measured on two cores: 7.1 s from `import ray` to the end of `ray.shutdown` with a first task that imports torch,
    against 11.0 s. Where a version of Ray has no such inner part, that saving is left out.
    """
    from ray import _raylet
    from ray._private import node, parameter, ray_constants, services

    # Ray replaces a loopback address by that of the host, so that others could join, except where it was told that
    # there are no others: its setting for laptops.
    ours: list[tuple[Any, str, Any]] = [(ray_constants, "ENABLE_RAY_CLUSTER", False)]
    if UNASKED.keys() <= inspect.signature(parameter.RayParams).parameters.keys():
        ours.append((parameter, "RayParams", functools.partial(parameter.RayParams, **UNASKED)))
    if hasattr(node.Node, "start_api_server"):
        ours.append((node.Node, "start_api_server", _not_started))
    if all(hasattr(_raylet, port) for port in AGENT_PORTS) and hasattr(services, "start_ray_process"):
        ports = [getattr(_raylet, port) for port in AGENT_PORTS]
        ours.append((services, "start_ray_process", _with_idle_agent(services.start_ray_process, ports)))
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


def _with_idle_agent(start: Callable[..., Any], ports: Sequence[str]) -> Callable[..., Any]:
    """`start`, with an agent that does nothing in place of the dashboard's.

    Without a dashboard it has nothing to serve, but to load it takes a second of a core, and as long no worker starts.
    """

    def started(command: Sequence[str], *rest: Any, **named: Any) -> Any:
        return start([_idle(word, ports) if word.startswith(AGENT) else word for word in command], *rest, **named)

    return started


def _idle(word: str, ports: Sequence[str]) -> str:
    options = (each[2:].partition("=") for each in shlex.split(word.removeprefix(AGENT)) if each.startswith("--"))
    asked = {name: value for name, _, value in options}
    if not {"session-dir", "node-id"} <= asked.keys():
        return word
    # -I and -S: nothing but the standard library, or Python would look for what all packages want at every start.
    script = [sys.executable, "-I", "-S", idle_agent.__file__]
    return AGENT + subprocess.list2cmdline([*script, asked["session-dir"], asked["node-id"], *ports])
