"""The Ray that a sweep starts for itself: reached from this host alone, and no server in it that nobody asks."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sweep.engine import idle_agent

# A Ray of one host and one user needs neither who adds machines nor who forwards logs (a run's log is kept beside
# its record). `ray start` has an option for each of these; `ray.init` has none.
UNASKED: dict[str, Any] = {"no_monitor": True, "include_log_monitor": False}
# Ray starts its workers before the first task is there, and they import this meanwhile.
PRELOADING = "RAY_preload_python_modules"
PRELOAD = "sweep.worker,sweep.train.recipes"
FORKING = "sweep.engine.ahead"  # where they train nothing themselves
LATER = "--runtime_env_agent_command="  # of the agent that a task with a `runtime_env` may ask
# The words with which the raylet is told how to start its agents, and what it waits for each of them to say.
AGENTS = {
    "--dashboard_agent_command=": (
        "METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME",
    ),
    LATER: ("RUNTIME_ENV_AGENT_PORT_NAME",),
}  # fmt: skip


@contextmanager
def lean(preload: str = PRELOAD) -> Iterator[None]:
    """While a local Ray starts: its servers listen on the loopback address, and only the needed ones are there.

    preload: the modules that its workers import, with commas.

    Measured on two cores, before the agents were idle: 7.1 s from `import ray` to the end of `ray.shutdown` with a
    first task that imports torch, against 11.0 s; since then `ray.init` takes 1.2 s instead of 2.1 s. Where a version
    of Ray has no such inner part, that saving is left out.
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
    names = {word: [getattr(_raylet, port, "") for port in ports] for word, ports in AGENTS.items()}
    if all(map(all, names.values())) and hasattr(services, "start_ray_process"):
        ours.append((services, "start_ray_process", _with_idle_agents(services.start_ray_process, names)))
    theirs = [(owner, name, getattr(owner, name)) for owner, name, _ in ours]
    preloading = os.environ.setdefault(PRELOADING, preload) == preload
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


def _with_idle_agents(start: Callable[..., Any], names: Mapping[str, Sequence[str]]) -> Callable[..., Any]:
    """`start`, with an agent that does nothing in place of the dashboard's, and of the one for tasks with a
    `runtime_env` until there is such a task.

    To load them takes a second of a core each, and as long no worker starts.
    """

    def started(command: Sequence[str], *rest: Any, **named: Any) -> Any:
        return start([_idle(word, names) for word in command], *rest, **named)

    return started


def _idle(word: str, names: Mapping[str, Sequence[str]]) -> str:
    agent = next(filter(word.startswith, names), None)
    if agent is None:
        return word
    asked = shlex.split(word.removeprefix(agent))
    options = {name: value for name, _, value in (each[2:].partition("=") for each in asked if each.startswith("--"))}
    if not {"session-dir", "node-id"} <= options.keys():
        return word
    # -I and -S: nothing but the standard library, or Python would look for what all packages want at every start.
    script = [sys.executable, "-I", "-S", idle_agent.__file__, options["session-dir"], options["node-id"]]
    return agent + subprocess.list2cmdline([*script, *names[agent], *(["--", *asked] if agent == LATER else [])])
