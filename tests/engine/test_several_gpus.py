"""Several GPUs for each seed: which ones, a port for each run, and nothing left behind. Ray is told of GPUs here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import until
from training import handle

import sweep
from sweep.cli.app import main
from sweep.config import load
from sweep.engine import Done, RayEngine
from sweep.errors import ConfigError
from sweep.job import Job
from sweep.launch import start
from sweep.prepare import prepare
from sweep.worker import ports
from sweep.worker.command import environment

# Two processes of torchrun that add up what each has, and wait until another seed is at work as well.
SCRIPT = """\
import json, os, sys, time
from pathlib import Path
import torch, torch.distributed as dist

seed = sys.argv[sys.argv.index("--seed") + 1]
wait = "--alone" not in sys.argv
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
told = {"port": os.environ["MASTER_PORT"], "pid": os.getpid()}
Path(f"begun-{seed}-{dist.get_rank()}").write_text(json.dumps(told))
until = time.monotonic() + 120
while wait and len(list(Path().glob("begun-*-0"))) < 2 and time.monotonic() < until:
    time.sleep(0.05)
if seed == "3":
    time.sleep(600)
if dist.get_rank() == 0:
    print(json.dumps({"total": total.item(), "world": dist.get_world_size()}))
dist.destroy_process_group()
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]


@pytest.fixture(scope="module")
def four() -> Iterator[None]:
    """A Ray that was told of four GPUs, which need not be there."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        ray.init(address="local", num_cpus=4, num_gpus=4, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def gpus(four: None, folder: Path) -> Path:
    (folder / "train.py").write_text(SCRIPT)
    return folder


def begun(seed: int) -> list[dict[str, Any]]:
    return [json.loads(Path(f"begun-{seed}-{rank}").read_text()) for rank in (0, 1)]


def test_runs_at_once_hold_unlike_ports() -> None:
    with ExitStack() as held:
        found = [held.enter_context(ports.reserved()) for _ in range(50)]
    assert len(set(found)) == 50
    assert ports.variables(7)["MASTER_PORT"] == "7"


@pytest.mark.ray
@pytest.mark.walk
def test_two_seeds_at_once_have_a_port_of_their_own(gpus: Path) -> None:
    command = [*TORCHRUN, "2", "train.py", "--seed", "{seed}"]
    results = sweep.run({"command": command, "resources": {"gpus": 2}}, seeds=[1, 2])
    assert results.frame["status"].tolist() == ["ok", "ok"], str(results)
    assert results.frame["total"].tolist() == [3.0, 3.0]
    told = [begun(seed) for seed in (1, 2)]
    assert told[0][0]["port"] != told[1][0]["port"]


@pytest.mark.ray
@pytest.mark.walk
def test_two_tasks_at_once_see_unlike_gpus(gpus: Path) -> None:
    def work(task: tuple[int, ...]) -> list[str]:
        import os
        import time
        from pathlib import Path

        (here / f"at work {task[0]}").touch()
        until = time.monotonic() + 60
        while len(list(Path(here).glob("at work *"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        return os.environ["CUDA_VISIBLE_DEVICES"].split(",")

    here = Path.cwd()
    engine = RayEngine()
    tasks = iter([(1,), (2,)])
    events = list(engine(lambda: next(tasks, None), work, Job(gpus=2)))
    engine.close()
    seen = [device for event in events if isinstance(event, Done) for device in event.answer]
    assert sorted(seen) == ["0", "1", "2", "3"]


def test_a_program_sees_the_gpus_of_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    run = handle(tmp_path / "run")
    assert environment(run, tmp_path)["CUDA_VISIBLE_DEVICES"] == ""  # its record says cpu
    gpu = replace(run, spec=replace(run.spec, device="cuda"))
    assert environment(gpu, tmp_path)["CUDA_VISIBLE_DEVICES"] == "2,3"


@pytest.mark.ray
@pytest.mark.walk
def test_a_seed_that_is_ended_takes_its_processes_with_it_and_no_other(gpus: Path) -> None:
    command = [*TORCHRUN, "2", "train.py", "--seed", "{seed}"]
    results = sweep.run({"command": command, "resources": {"gpus": 2}, "timeout": 60}, seeds=[1, 3])
    assert results.frame["status"].tolist() == ["ok", "failed"]
    until(lambda: not any(psutil.pid_exists(told["pid"]) for told in begun(3)), 10)


def test_a_command_on_one_machine_can_ask_for_a_port(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train.py").write_text(SCRIPT)
    command = [*TORCHRUN, "1", "--master-port", "{port}", "train.py", "--alone", "--seed", "{seed}"]
    assert main(["run", "--engine", "inline", "--seeds", "1", "--json", "--", *command]) == 0
    assert int(json.loads(Path("begun-1-0").read_text())["port"]) > 0


def test_functions_with_a_port_each_are_forked_from_one_interpreter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(run: Any) -> dict[str, float]:
        return {"test/port": int(os.environ["MASTER_PORT"]), "test/parent": os.getppid()}

    monkeypatch.setattr(start, "gpus_here", lambda: 2)
    frame = sweep.run(train, seeds=[1, 2], engine="inline", resources={"gpus": 2}).frame
    assert frame["test/port"].gt(0).all()
    assert frame["test/parent"].nunique() == 1


def test_what_several_gpus_are_not_for_is_refused() -> None:
    assert load(None, ["resources.gpus=4"]).resources.gpus == 4
    with pytest.raises(ConfigError, match="whole GPUs"):
        load(None, ["resources.gpus=1.5"])
    with pytest.raises(ConfigError, match="one GPU"):
        prepare(load(None, ["resources.gpus=2"]))


def test_the_address_of_a_ray_client_is_refused_before_anything_starts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--address", "ray://head:10001", "params.epochs=1"]) == 2
    said = capsys.readouterr().err
    assert "ray job submit" in said
    assert not (folder / "runs").exists()
