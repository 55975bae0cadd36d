"""The Ray that a sweep starts for itself: reached from this host alone, and no server in it that nobody asks."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sweep.engine import idle_agent

PLAIN = "SWEEP_PLAIN_RAY"  # a variable of the user's: nothing of Ray is replaced
# Ray replaces a loopback address by that of the host, so that others could join, except where it was told before its
# import that there are no others: its setting for laptops.
ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# A Ray of one host and one user needs neither a server that adds machines nor one that forwards logs (a run's log is
# kept beside its record). `ray start` has an option for each of these; `ray.init` has none.
UNASKED: dict[str, Any] = {"no_monitor": True, "include_log_monitor": False}
# Ray starts its workers before the first task is there, and they import this meanwhile.
PRELOADING = "RAY_preload_python_modules"
PRELOAD = "sweep.worker.here,sweep.train.recipes"
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
    """Let a local Ray that is imported and started inside listen on the loopback address, with the needed servers only.

    preload: the modules that its workers import, with commas. With SWEEP_PLAIN_RAY=1 all is left as Ray has it.

    Measured on two cores, before the agents were idle: 7.1 s from `import ray` to the end of `ray.shutdown` with a
    first task that imports torch, against 11.0 s; since then `ray.init` takes 1.2 s instead of 2.1 s.
    """
    if os.environ.get(PLAIN, "0") != "0":
        yield
        return
    ours = {name: value for name, value in ((ALONE, "0"), (PRELOADING, preload)) if name not in os.environ}
    theirs: list[tuple[Any, str, Any]] = []
    os.environ.update(ours)
    try:
        for owner, name, their, our in _savings():
            theirs.append((owner, name, their))
            setattr(owner, name, our)
        yield
    finally:
        for change in theirs:
            setattr(*change)
        for name in ours:
            del os.environ[name]


def _savings() -> Iterator[tuple[Any, str, Any, Any]]:
    """Yield inner parts of Ray (owner, name, value) with what stands in for them.

    A version that lacks one is left as it is from there on, with a note in the log.
    """
    try:
        from ray import _raylet
        from ray._private import node, parameter, ray_constants, services

        # What ALONE says, where Ray had been imported before.
        yield ray_constants, "ENABLE_RAY_CLUSTER", ray_constants.ENABLE_RAY_CLUSTER, False
        inspect.signature(parameter.RayParams).bind_partial(**UNASKED)
        made = functools.partial(parameter.RayParams, **UNASKED)
        yield parameter, "RayParams", parameter.RayParams, made
        yield node.Node, "start_api_server", node.Node.start_api_server, _not_started
        names = {word: [getattr(_raylet, port) for port in ports] for word, ports in AGENTS.items()}
        started = services.start_ray_process
        yield services, "start_ray_process", started, _with_idle_agents(started, names)
    except (ImportError, AttributeError, TypeError) as error:
        logging.getLogger("sweep").warning("this version of Ray starts with all its servers, seconds later: %s", error)


def _not_started(*_: Any, **__: Any) -> None:
    """Stand in for the server behind the dashboard, for which Ray would wait two seconds even without a dashboard."""


def _with_idle_agents(start: Callable[..., Any], names: Mapping[str, Sequence[str]]) -> Callable[..., Any]:
    """Return `start`, with an idle agent in place of the dashboard's, and of the one for tasks with a
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
