"""The Ray that a sweep starts for itself has the servers it needs, and leaves Ray's own code as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from processes import gone, until
from ray import _raylet

from sweep.engine.ray_start import AGENTS, ALONE, PLAIN, PRELOAD, PRELOADING, lean

# The lowest Ray that is allowed lacks the names of these ports. It starts its own agents, a second later.
WHOLE = all(hasattr(_raylet, port) for ports in AGENTS.values() for port in ports)
with_idle_agents = pytest.mark.skipif(not WHOLE, reason="this version of Ray starts its own agents")

# What a Ray with one worker runs and loads, and which idle agents it leaves to themselves when its raylet is killed.
STARTED = """
import json, os, psutil, ray
from sweep.engine.ray_start import lean
settings = dict(address="local", include_dashboard=False, num_cpus=1, log_to_driver=False)
with lean():
    ray.init(**settings)
children = psutil.Process().children(recursive=True)
# What the raylet and the idle agents would start is among their own words.
words = [" ".join(each.cmdline()).partition(" --")[0] for each in children]
words = [each for each in words if "ray::IDLE" not in each and "default_worker" not in each]

@ray.remote
def loaded():
    import sys
    return "sweep.worker.here" in sys.modules

said = {"words": words, "loaded": ray.get(loaded.remote())}
(raylet,) = [each for each in children if "raylet/raylet" in (each.cmdline() or [""])[0]]
agents = [each for each in raylet.children() if any(word.endswith("idle_agent.py") for word in each.cmdline())]
raylet.kill()
print(json.dumps({**said, "agents": [each.pid for each in agents]}), flush=True)
os._exit(0)
"""


def parts() -> list[object]:
    from ray._private import node, parameter, ray_constants, services

    started = services.start_ray_process
    return [parameter.RayParams, node.Node.start_api_server, ray_constants.ENABLE_RAY_CLUSTER, started]


def test_ray_itself_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)  # False where Ray was imported inside `lean`
    before, environment = parts(), dict(os.environ)
    with lean():
        changed = [now is not then for now, then in zip(parts(), before, strict=True)]
        assert changed == [True, True, True, WHOLE]
        assert (os.environ[PRELOADING], os.environ[ALONE]) == (PRELOAD, "0")
    assert parts() == before
    assert dict(os.environ) == environment


def test_a_failed_start_leaves_nothing_behind() -> None:
    before = parts()
    with suppress(RuntimeError), lean():
        raise RuntimeError("no Ray today")
    assert parts() == before
    assert {PRELOADING, ALONE}.isdisjoint(os.environ)


def test_a_variable_of_the_users_leaves_ray_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, environment = parts(), dict(os.environ)
    monkeypatch.setenv(PLAIN, "1")
    with lean():
        assert parts() == before
        assert {name: value for name, value in os.environ.items() if name != PLAIN} == environment


@with_idle_agents
def test_an_inner_part_that_ray_lacks_costs_that_saving_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ray._private import ray_constants

    before = parts()
    monkeypatch.delattr(_raylet, "RUNTIME_ENV_AGENT_PORT_NAME")
    with lean():
        assert ray_constants.ENABLE_RAY_CLUSTER is False
        assert parts()[0] is not before[0]
        assert parts()[-1] is before[-1]
    assert "RUNTIME_ENV_AGENT_PORT_NAME" in caplog.text
    assert parts() == before


@pytest.fixture(scope="module")
def started() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True, timeout=120)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@with_idle_agents
@pytest.mark.ray
def test_nobody_starts_what_nobody_asks(started: dict[str, Any]) -> None:
    for server in ("gcs_server", "raylet"):
        assert any(server in words for words in started["words"])
    for server in (
        "dashboard/dashboard.py",
        "dashboard/agent.py",
        "ray::DashboardAgent",
        "log_monitor.py",
        "monitor.py",
    ):
        # The raylet's own words still name the agent: they are a command, not a process.
        assert not any(server in words for words in started["words"] if "raylet_socket_name" not in words)
    assert started["loaded"], "a worker loads the trainer before its first task"


@with_idle_agents
@pytest.mark.ray
def test_the_idle_agents_leave_with_the_raylet(started: dict[str, Any]) -> None:
    assert len(started["agents"]) == 2
    until(lambda: all(map(gone, started["agents"])), 20)


ASKED = """
import os, ray
from sweep.engine.ray_start import lean
with lean(preload=""):
    ray.init(address="local", include_dashboard=False, num_cpus=1, log_to_driver=False)

@ray.remote
def told():
    return os.environ.get("TOLD")

print(ray.get(told.remote(), timeout=60))
print(ray.get(told.options(runtime_env={"env_vars": {"TOLD": "this"}}).remote(), timeout=60))
"""


@pytest.mark.ray
def test_a_task_with_an_environment_of_its_own_wakes_the_agent_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True, timeout=150)
    assert done.stdout.split() == ["None", "this"]
