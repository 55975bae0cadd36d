"""The other ways to train many seeds on one GPU, for `benchmarks/lanes.py`: Ray tasks that share it, vmap, JAX."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from lanes import BATCH, MODELS, lane_of, recipe_of

WARM, SECONDS = 20, 3.0  # steps before a task is ready, and how long it is then measured


def case_ray(model: str, data: str, sizes: list[int]) -> list[dict[str, Any]]:
    """The plain loop in 4, 8 or 16 tasks at once, each with that fraction of the GPU.

    What is counted are the steps of all tasks in the same seconds, from when the last of them is warm: starting
    the processes and their CUDA contexts is left out.
    """
    import ray

    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=max(sizes), num_gpus=1)
    rows = []
    for size in sizes:
        task = ray.remote(max_retries=0, num_cpus=1, num_gpus=1 / size)(steps_together)
        with tempfile.TemporaryDirectory() as meeting:
            working = [task.remote(model, data, meeting, i) for i in range(size)]
            while len(list(Path(meeting).glob("warm-*"))) < size:
                ended, _ = ray.wait(working, timeout=0.2)
                ray.get(ended)  # none ends before it is told to, but by an error
            Path(meeting, "go").touch()
            done = ray.get(working)
        rows.append({
            "way": "Ray tasks", "kind": "fp32", "seeds": size, "ms": 1e3 / sum(each["rate"] for each in done),
            "bits": "yes", "gb": sum(each["gb"] for each in done),
        })  # fmt: skip
    ray.shutdown()
    return rows


def steps_together(model: str, data: str, meeting: str, index: int) -> dict[str, float]:
    """Steps of the plain loop a second, once all others have come to the meeting, and gigabytes taken."""
    import torch

    from sweep.train.lane import set_rate, step
    from sweep.train.precision import flags

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, flags("fp32"):
        lane, batches = lane_of(recipe_of(model, data, "fp32", False, 4_000), Path(scratch), "shared")

        def go(steps: int) -> None:
            for i in range(steps):
                set_rate(lane)
                step(lane, batches[i % len(batches)])
            torch.cuda.synchronize()

        go(WARM)
        Path(meeting, f"warm-{index}").touch()
        while not Path(meeting, "go").exists():
            go(1)  # the others are to meet a busy device
        begun, done = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            go(5)
            done += 5
        rate = done / (time.perf_counter() - begun)
        go(WARM)  # nobody may end early and leave the device to the others
        return {"rate": rate, "gb": torch.cuda.max_memory_reserved() / 2**30}


def case_vmap(model: str, data: str, count: int = 64) -> list[dict[str, Any]]:
    import torch
    from torch.func import functional_call, grad_and_value, stack_module_state, vmap

    from sweep import seeding
    from sweep.train import models
    from sweep.train.precision import flags

    seeding.seed_everything(0, deterministic=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    train = recipe_of(model, data, "fp32", False, 4_000).data().to("cuda").train
    nets = [models.build(MODELS[model], (1, 28, 28), 10).to("cuda") for _ in range(count)]
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
        batches = torch.randint(len(train), (13, count, BATCH), device="cuda")
        for rows in batches[:3]:
            step(rows)
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for rows in batches[3:]:
            step(rows)
        torch.cuda.synchronize()
    ms = (time.perf_counter() - begun) / 10 / count * 1e3
    gb = torch.cuda.max_memory_reserved() / 2**30
    return [{"way": "vmap", "kind": "fp32", "seeds": count, "ms": ms, "bits": "no", "gb": gb}]


def case_jax(
    model: str, data: str, precision: str, deterministic: bool, count: int = 64, steps: int = 60
) -> list[dict[str, Any]]:
    """Parameters stacked, all steps in one scan. precision: fp32, or what JAX takes by default (TF32)."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if deterministic:
        os.environ["XLA_FLAGS"] = "--xla_gpu_deterministic_ops=true"
    import jax
    import jax.numpy as jnp
    import numpy as np

    if precision == "fp32":
        jax.config.update("jax_default_matmul_precision", "highest")
    train = recipe_of(model, data, "fp32", False, 4_000).data().train
    images, labels = jnp.asarray(train.inputs.numpy()), jnp.asarray(train.targets.numpy())
    widths = [784, 256, 256, 10] if model == "mlp" else [64 * 49, 128, 10]

    def init(key: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        shapes = [(b, a) for a, b in pairwise(widths)]
        for i, shape in enumerate(shapes):
            key, own = jax.random.split(key)
            made[f"w{i}"] = jax.random.normal(own, shape) / shape[1] ** 0.5
            made[f"b{i}"] = jnp.zeros(shape[0])
        if model == "cnn":
            for i, shape in enumerate([(32, 1, 3, 3), (64, 32, 3, 3)]):
                key, own = jax.random.split(key)
                made[f"c{i}"] = jax.random.normal(own, shape) / (shape[1] * 9) ** 0.5
                made[f"d{i}"] = jnp.zeros((shape[0], 1, 1))
        return made

    def forward(p: Any, x: Any) -> Any:
        if model == "cnn":
            for i in range(2):
                x = jax.lax.conv(x, p[f"c{i}"], (1, 1), "SAME") + p[f"d{i}"]
                x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        x = x.reshape(len(x), -1)
        for i in range(len(widths) - 1):
            x = x @ p[f"w{i}"].T + p[f"b{i}"]
            x = jax.nn.relu(x) if i < len(widths) - 2 else x
        return x

    def loss(p: Any, rows: Any) -> Any:
        logs = jax.nn.log_softmax(forward(p, images[rows]))
        return -jnp.take_along_axis(logs, labels[rows][:, None], 1).mean()

    def step(state: Any, rows: Any) -> Any:
        p, m = state
        value, g = jax.value_and_grad(loss)(p, rows)
        m = jax.tree.map(lambda m, g, p: 0.9 * m + g + 5e-4 * p, m, g, p)
        return (jax.tree.map(lambda p, m: p - 0.05 * m, p, m), m), value

    @jax.jit
    def many(state: Any, rows: Any) -> Any:
        return jax.lax.scan(lambda s, r: jax.vmap(step)(s, r), state, rows)

    p = jax.vmap(init)(jax.random.split(jax.random.key(0), count))
    state = (p, jax.tree.map(jnp.zeros_like, p))
    rows = jnp.asarray(np.random.default_rng(0).integers(0, len(labels), (steps, count, BATCH)))
    jax.block_until_ready(many(state, rows))
    begun = time.perf_counter()
    jax.block_until_ready(many(state, rows))
    ms = (time.perf_counter() - begun) / steps / count * 1e3
    gb = jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**30
    kind = ("fp32" if precision == "fp32" else "JAX's default") + ("" if deterministic else ", not deterministic")
    return [{"way": f"jax {jax.__version__}", "kind": kind, "seeds": count, "ms": ms, "bits": "no", "gb": gb}]
