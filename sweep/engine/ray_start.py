"""The local Ray of a sweep: it listens on this host only, and runs without the servers that are not needed."""

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

PLAIN = "SWEEP_PLAIN_RAY"  # set by the user: nothing in Ray is replaced
# Ray replaces a loopback address by that of the host, so that other hosts can join, unless this setting for laptops is
# made before its import.
ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# A Ray of one host and one user needs neither the autoscaler nor the log monitor (a run's log is kept beside its
# record). `ray start` has an option for each of these, but `ray.init` has none.
UNASKED: dict[str, Any] = {"no_monitor": True, "include_log_monitor": False}
# Ray starts its workers before the first task, and they import this in the meantime.
PRELOADING = "RAY_preload_python_modules"
PRELOAD = "sweep.worker.here,sweep.train.recipes"
FORKING = "sweep.engine.ahead"  # for workers that fork and do not train themselves
LATER = "--runtime_env_agent_command="  # the agent that is needed only by a task with a `runtime_env`
# The raylet's options for starting its agents, and the ports that it waits for each of them to announce.
AGENTS = {
    "--dashboard_agent_command=": (
        "METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME",
    ),
    LATER: ("RUNTIME_ENV_AGENT_PORT_NAME",),
}  # fmt: skip


@contextmanager
def lean(preload: str = PRELOAD) -> Iterator[None]:
    """Make a local Ray that is started in the block listen on the loopback address and start only the needed servers.

    preload: the modules that its workers import, separated by commas. With SWEEP_PLAIN_RAY=1, nothing is changed.

    Measured on two cores: from `import ray` to the end of `ray.shutdown`, with a first task that imports torch, 7.1 s
    instead of 11.0 s. Idle agents also shorten `ray.init` from 2.1 s to 1.2 s.
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
    """Yield private parts of Ray with their replacements: (owner, name, value, replacement).

    If a Ray version lacks one, a warning is logged, and this and the later ones are not replaced.
    """
    try:
        from ray import _raylet
        from ray._private import node, parameter, ray_constants, services

        # The effect of ALONE, in case Ray was imported before.
        yield ray_constants, "ENABLE_RAY_CLUSTER", ray_constants.ENABLE_RAY_CLUSTER, False
        inspect.signature(parameter.RayParams).bind_partial(**UNASKED)
        made = functools.partial(parameter.RayParams, **UNASKED)
        yield parameter, "RayParams", parameter.RayParams, made
        yield node.Node, "start_api_server", node.Node.start_api_server, _not_started
        names = {word: [getattr(_raylet, port) for port in ports] for word, ports in AGENTS.items()}
        started = services.start_ray_process
        yield services, "start_ray_process", started, _with_idle_agents(started, names)
    except (ImportError, AttributeError, TypeError) as error:
        logging.getLogger("sweep").warning(
            "this version of Ray starts all of its servers, which takes longer: %s", error
        )


def _not_started(*_: Any, **__: Any) -> None:
    """Replace the start of the dashboard server, for which Ray would wait two seconds even without a dashboard."""


def _with_idle_agents(start: Callable[..., Any], names: Mapping[str, Sequence[str]]) -> Callable[..., Any]:
    """Return `start` with idle agents: for the dashboard, and for tasks with a `runtime_env` until there is one.

    Loading a real one takes a second of a core, and no worker starts before that.
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
    # -I and -S: only the standard library, because the start-up files of installed packages would take time.
    script = [sys.executable, "-I", "-S", idle_agent.__file__, options["session-dir"], options["node-id"]]
    return agent + subprocess.list2cmdline([*script, *names[agent], *(["--", *asked] if agent == LATER else [])])
