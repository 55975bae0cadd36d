"""The other ways to train many seeds on one GPU, for `benchmarks/lanes.py`: Ray tasks that share it, and vmap."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from subject import BATCHES, MODELS, lane_of, recipe_of

WARM, SECONDS = 20, 3.0  # steps before a task is ready, and how long it is then measured


def case_ray(model: str, data: str, sizes: list[int]) -> list[dict[str, Any]]:
    """Time the plain loop in this many tasks at once, each with that fraction of the GPU.

    The steps of all tasks in the same seconds count, from when the last of them is warm; `start` are the seconds until
    then, in which processes, CUDA contexts and data are made. The first size has to be 1: its
    bits are those that the others are compared with.
    """
    import ray

    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=max(sizes), num_gpus=1)
    rows: list[dict[str, Any]] = []
    alone = ""
    for size in sizes:
        task = ray.remote(max_retries=0, num_cpus=1, num_gpus=1 / size)(steps_together)
        with tempfile.TemporaryDirectory() as meeting:
            begun = time.perf_counter()
            working = [task.remote(model, data, meeting, i) for i in range(size)]
            while len(list(Path(meeting).glob("warm-*"))) < size:
                ended, _ = ray.wait(working, timeout=0.2)
                ray.get(ended)  # a task ends before the signal only by an error
            start = time.perf_counter() - begun
            Path(meeting, "go").touch()
            done = ray.get(working)
        alone = alone or done[0]["bits"]
        same = "yes" if all(each["bits"] == alone for each in done) else "NO"
        rows.append({
            "way": "Ray tasks", "kind": "fp32", "seeds": size, "ms": 1e3 / sum(each["rate"] for each in done),
            "bits": same, "gb": sum(each["gb"] for each in done), "start": start,
        })  # fmt: skip
    ray.shutdown()
    return rows


def steps_together(model: str, data: str, meeting: str, index: int) -> dict[str, Any]:
    """Steps of the plain loop a second, once all others have come to the meeting, gigabytes taken, and bits: the
    digest of the weights after the first WARM steps."""
    import torch

    from sweep.determinism import digest
    from sweep.train.lane import step
    from sweep.train.precision import flags

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, flags("fp32"):
        lane, batches = lane_of(recipe_of(model, data, "fp32", False, 4_000), Path(scratch), "shared")

        def go(steps: int) -> None:
            for i in range(steps):
                step(lane, batches[i % len(batches)])
            torch.cuda.synchronize()

        go(WARM)
        bits = digest.module(lane.model)
        Path(meeting, f"warm-{index}").touch()
        while not Path(meeting, "go").exists():
            go(1)  # keeps the device busy for the others
        begun, done = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            go(5)
            done += 5
        rate = done / (time.perf_counter() - begun)
        go(WARM)  # no task may end early and leave the device to the others
        return {"rate": rate, "bits": bits, "gb": torch.cuda.max_memory_reserved() / 2**30}


def case_vmap(model: str, data: str, deterministic: bool, count: int = 64) -> list[dict[str, Any]]:
    """Time stacked parameters. Batch norm keeps no running statistics: that much less work than in lanes."""
    import torch
    from torch.func import functional_call, grad_and_value, replace_all_batch_norm_modules_, stack_module_state, vmap

    from sweep.determinism import seeding
    from sweep.train import models
    from sweep.train.precision import flags

    seeding.fill_memory(False)
    seeding.seed_everything(0, deterministic=deterministic)
    train = recipe_of(model, data, "fp32", False, 4_000).data().to("cuda").train
    nets = [models.build(MODELS[model], (1, 28, 28), 10).to("cuda") for _ in range(count)]
    for net in nets:
        replace_all_batch_norm_modules_(net)
    for layer in nets[0].modules():
        if isinstance(layer, torch.nn.Conv2d):  # torch's own gradients: vmap knows them
            layer.forward = partial(torch.nn.Conv2d.forward, layer)
    params, _ = stack_module_state(nets)
    params = {name: p.detach() for name, p in params.items()}
    momentum = {name: torch.zeros_like(p) for name, p in params.items()}

    def loss(each: Any, x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(functional_call(nets[0], each, (x,)), y)

    gradients = vmap(grad_and_value(loss), randomness="different")

    def step(rows: Any) -> None:
        found, _ = gradients(params, train.inputs[rows], train.targets[rows])
        for name, p in params.items():
            momentum[name].mul_(0.9).add_(found[name] + 5e-4 * p)
            p.sub_(momentum[name], alpha=0.05)

    with flags("fp32"), torch.no_grad():
        batches = torch.randint(len(train), (13, count, BATCHES[model]), device="cuda")
        for rows in batches[:3]:
            step(rows)
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for rows in batches[3:]:
            step(rows)
        torch.cuda.synchronize()
    ms = (time.perf_counter() - begun) / 10 / count * 1e3
    gb = torch.cuda.max_memory_reserved() / 2**30
    kind = "fp32" + ("" if deterministic else ", not deterministic")
    return [{"way": "vmap", "kind": kind, "seeds": count, "ms": ms, "bits": "no", "gb": gb}]
