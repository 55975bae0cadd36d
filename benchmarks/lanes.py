"""What lanes are worth: the same recipe, data and seeds by every way to train many seeds on one GPU.

    python benchmarks/lanes.py [--data FOLDER] [--models mlp,cnn,resnet] [--out benchmarks/results/lanes]

Every case is a process of its own. In deterministic mode, batch 128, SGD with momentum and weight decay:

    eager      the plain loop, one seed after the other
    processes  the plain loop in 4, 8 and 16 processes that share the GPU, as fractional-GPU tasks of Ray do
    vmap       parameters of 64 seeds stacked, torch.func
    jax        parameters of 64 seeds stacked, steps in a scan; in float32 and in what JAX takes by default
    lanes      1, 4, 16 and 64 seeds; as they are, compiled, and with TF32

ms: milliseconds per seed and step, once the steps are graphs. seeds/h: of 3 epochs, from that. bits: of a short
run, all digests equal to those of the plain loop. GB: reserved on the device. FLOP and traffic: the share of the
device's own measured rates (a large product in the same precision, a large copy) that the arithmetic of the
step and an estimate of what it must move come to.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
HERE = Path(__file__).resolve()
FASHION = "/usr/share/datasets/fashion-mnist"
BATCH, EPOCHS, WHOLE = 128, 3, 430  # steps of an epoch of all 55,000 examples
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "hidden": [256, 256]},
    "cnn": {"name": "cnn", "channels": [32, 64], "hidden": [128]},
    "resnet": {"name": "resnet", "channels": [16, 32, 64], "blocks": 2},
}
EXAMPLES = {"mlp": 60_000, "cnn": 16_000, "resnet": 12_000}  # fewer steps an epoch where they are longer
LANES = 1, 4, 16, 64
SHARING = 4, 8, 16


def recipe_of(model: str, data: str, precision: str, compiled: bool, limit: int) -> Any:
    from sweep.target import bind, check_params
    from sweep.train.recipes import classifier

    params = {
        "model": MODELS[model], "data": {"name": "idx", "folder": data, "limit": limit},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        "epochs": EPOCHS, "batch_size": BATCH, "precision": precision, "compile": compiled,
    }  # fmt: skip
    return classifier(**bind(classifier, check_params(classifier, params, kind="recipe"), kind="recipe"))


def runs_of(count: int, folder: Path, label: str) -> list[Any]:
    from sweep.handle import Run
    from sweep.plan import STREAMS, RunSpec, Target, stream_seed
    from sweep.store import Attempt
    from sweep.store.owner import this_process

    runs = []
    for seed in range(count):
        spec = RunSpec(
            target=Target("recipe", "sweep.train.recipes:classifier"), params={"label": label}, variant="",
            task="", seed=seed, streams={name: stream_seed(seed, name) for name in STREAMS}, repeat=0,
            deterministic=True, device="cuda", threads=1, data="",
        )  # fmt: skip
        path = folder / f"{label}-{seed}"
        path.mkdir(parents=True)
        runs.append(Run(spec, Attempt(path, spec.id, this_process(), number=1)))
    return runs


def chains(trainer: Callable[..., Iterator[Any]], recipe: Any, runs: Sequence[Any]) -> dict[int, Any]:
    from sweep import seeding

    seeding.set_threads(1)
    seeding.seed_everything(runs[0].seed, deterministic=True)
    for index, _ in trainer(recipe, runs):
        runs[index].attempt.close()
    return {run.seed: dict(run.chain) for run in runs}


def case_torch(model: str, data: str, precision: str, compiled: bool) -> list[dict[str, Any]]:
    """The plain loop, then lanes of every size, in one process."""
    import torch

    from sweep.train import lanes, loop
    from sweep.train.pack import Pack

    rows: list[dict[str, Any]] = []
    kind = f"{precision}{', compiled' if compiled else ''}"
    short = recipe_of(model, data, precision, compiled, 2_000)
    whole = recipe_of(model, data, precision, compiled, EXAMPLES[model])
    packs: list[Any] = []
    results = Pack.results

    def watched(self: Any) -> Any:
        packs.append(self)
        return results(self)

    Pack.results = watched  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as scratch:
        wanted = chains(loop.train, short, runs_of(4, Path(scratch), "solo"))
        rows.append({"way": "eager", "kind": kind, "seeds": 1, "ms": eager(whole, Path(scratch)), "bits": "it is"})
        sizes = LANES if precision == "fp32" else (1, 64)
        for count in sizes:
            found = chains(lanes.train, short, runs_of(count, Path(scratch), f"short{count}"))
            same = all(found[seed] == wanted[seed] for seed in found if seed in wanted)
            torch.cuda.reset_peak_memory_stats()
            begun = time.perf_counter()
            chains(lanes.train, whole, runs_of(count, Path(scratch), f"whole{count}"))
            rows.append({
                "way": "lanes", "kind": kind, "seeds": count, "ms": packs[-1].pace / count * 1e3,
                "bits": "yes" if same else "NO", "gb": torch.cuda.max_memory_reserved() / 2**30,
                "form": "one graph" if packs[-1].form else "graph a stream",
                "whole_seconds": time.perf_counter() - begun,
            })  # fmt: skip
            packs.clear()
    rows[0].update(cost_of(whole))
    return rows


def eager(recipe: Any, scratch: Path, steps: int = 100) -> float:
    """Median milliseconds of a step of the plain loop, the device waited for every ten."""
    import torch

    lane, batches = lane_of(recipe, scratch, "eager")
    from sweep.train.lane import set_rate, step
    from sweep.train.precision import flags

    taken = []
    with flags(recipe.precision):
        for i in range(20 + steps):
            if i >= 20 and i % 10 == 0:
                torch.cuda.synchronize()
                taken.append(time.perf_counter())
            set_rate(lane)
            step(lane, batches[i % len(batches)])
        torch.cuda.synchronize()
    taken.append(time.perf_counter())
    return statistics.median((b - a) / 10 * 1e3 for a, b in pairwise(taken))


def lane_of(recipe: Any, scratch: Path, label: str) -> tuple[Any, list[Any]]:
    from sweep import seeding
    from sweep.train.lane import fresh, start_epoch
    from sweep.train.precision import objective

    (run,) = runs_of(1, scratch, label)
    seeding.seed_everything(0, deterministic=True)
    data = recipe.data().to("cuda")
    loss = objective(recipe.loss, recipe.precision, "cuda", compiled=recipe.compile)
    lane = fresh(recipe, run, data, loss)
    return lane, [b.to("cuda") for b in start_epoch(lane) if len(b) == BATCH]


def cost_of(recipe: Any) -> dict[str, float]:
    """Floating-point operations of a step, and bytes it moves at the least: weights, gradients and momentum of
    SGD six times, what is kept for the backward pass four times (written and read, and so its gradient)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with tempfile.TemporaryDirectory() as scratch:
        lane, batches = lane_of(replace(recipe, compile=False), Path(scratch), "cost")
        from sweep.train.lane import gather

        kept: dict[int, int] = {}

        def pack(tensor: Any) -> Any:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = lane.objective(lane.model, *gather(lane, batches[0]))
            loss.backward()
        weights = {p.untyped_storage().data_ptr(): p.numel() * 4 for p in lane.model.parameters()}
        saved = sum(size for place, size in kept.items() if place not in weights)
        return {"flop": counter.get_total_flops(), "bytes": 6 * sum(weights.values()) + 4 * saved}


def case_ceilings() -> list[dict[str, Any]]:
    import torch

    def rate(work: Callable[[], Any], amount: float) -> float:
        times = []
        for _ in range(12):
            begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begun.record()
            work()
            ended.record()
            torch.cuda.synchronize()
            times.append(begun.elapsed_time(ended) / 1e3)
        return amount / statistics.median(times[4:])

    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    row: dict[str, Any] = {"way": "ceilings", "copy": rate(lambda: target.copy_(source), 2 * source.nbytes)}
    n = 8192
    for precision in ("fp32", "tf32"):
        torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        a, b = torch.randn(n, n, device="cuda"), torch.randn(n, n, device="cuda")
        row[precision] = rate(lambda a=a, b=b: a @ b, 2 * n**3)
    row["device"] = torch.cuda.get_device_name()
    row["torch"] = torch.__version__
    row["cuda"], row["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return [row]


def shared(model: str, data: str, index: int, most: int, start: Any, ended: Any, counts: Any) -> None:
    """One of several processes: steps for some seconds in every phase that it takes part in."""
    import torch

    torch.set_num_threads(1)
    from sweep.train.lane import set_rate, step
    from sweep.train.precision import flags

    with tempfile.TemporaryDirectory() as scratch, flags("fp32"):
        lane, batches = lane_of(recipe_of(model, data, "fp32", False, 4_000), Path(scratch), "shared")
        for i in range(20):
            step(lane, batches[i % len(batches)])
        torch.cuda.synchronize()
        for phase, size in enumerate(SHARING):
            start.wait()
            begun, done = time.perf_counter(), 0
            while index < size and time.perf_counter() - begun < 3:
                set_rate(lane)
                for _ in range(5):
                    step(lane, batches[done % len(batches)])
                    done += 1
                torch.cuda.synchronize()
            if done:
                counts[phase * most + index] = done / (time.perf_counter() - begun)
            ended.wait()


def case_processes(model: str, data: str) -> list[dict[str, Any]]:
    import multiprocessing

    spawn = multiprocessing.get_context("spawn")
    most = max(SHARING)
    start, ended = spawn.Barrier(most), spawn.Barrier(most)
    counts = spawn.Array("d", len(SHARING) * most)
    workers = [spawn.Process(target=shared, args=(model, data, i, most, start, ended, counts)) for i in range(most)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rows = []
    for phase, size in enumerate(SHARING):
        total = sum(counts[phase * most : (phase + 1) * most])
        rows.append({"way": "processes", "kind": "fp32", "seeds": size, "ms": 1e3 / total, "bits": "yes"})
    return rows


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


def case_jax(model: str, data: str, precision: str, count: int = 64, steps: int = 60) -> list[dict[str, Any]]:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
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
    kind = "fp32" if precision == "fp32" else "JAX's default"
    return [{"way": f"jax {jax.__version__}", "kind": kind, "seeds": count, "ms": ms, "bits": "no", "gb": gb}]


def cases(models: Sequence[str]) -> list[tuple[str, ...]]:
    """The words of each case, the longest-awaited first."""
    found: list[tuple[str, ...]] = [("ceilings", "")]
    plain = [model for model in models if model != "resnet"]  # batch norm under vmap is another program
    found += [("torch", model, "fp32", "0") for model in models]
    found += [("torch", model, "fp32", "1") for model in plain]
    found += [("processes", model) for model in models]
    found += [("jax", model, precision) for precision in ("fp32", "default") for model in plain]
    found += [("torch", model, "tf32", compiled) for compiled in ("0", "1") for model in plain]
    found += [("vmap", model) for model in plain]
    found += [("torch", model, "fp32", "1") for model in models if model not in plain]
    return found


def run_case(words: Sequence[str], data: str) -> list[dict[str, Any]]:
    what, model, *rest = words
    if what == "ceilings":
        return case_ceilings()
    if what == "torch":
        return case_torch(model, data, rest[0], rest[1] == "1")
    if what == "processes":
        return case_processes(model, data)
    return case_vmap(model, data) if what == "vmap" else case_jax(model, data, rest[0])


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--data", default=FASHION)
    asked.add_argument("--models", default="mlp,cnn,resnet")
    asked.add_argument("--out", type=Path, default=HERE.parent / "results" / "lanes")
    asked.add_argument("--limit", type=float, default=100.0, help="seconds of a case")
    asked.add_argument("--seconds", type=float, default=3600.0, help="after which no case is begun")
    asked.add_argument("--case", nargs="+")
    options = asked.parse_args()
    if options.case:
        print("RESULT " + json.dumps(run_case(options.case, options.data)))
        return
    begun, rows = time.perf_counter(), []
    for words in cases(options.models.split(",")):
        if time.perf_counter() - begun > options.seconds:
            print("not run:", *words, file=sys.stderr)
            continue
        rows += in_a_process(words, options)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    text = table(rows)
    options.out.with_suffix(".md").write_text(text)
    print(text)


def in_a_process(words: Sequence[str], options: Any) -> list[dict[str, Any]]:
    command = [sys.executable, str(HERE), "--data", options.data, "--case", *words]
    begun = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit)
        found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        why = (done.stderr.strip().splitlines() or ["no result"])[-1]
    except subprocess.TimeoutExpired:
        found, why = [], f"no result within {options.limit:g} s"
    print(f"{' '.join(words)}: {time.perf_counter() - begun:.0f} s {'' if found else why}", file=sys.stderr)
    rows = json.loads(found[0].removeprefix("RESULT ")) if found else [{"way": words[0], "failed": why}]
    return [{"model": words[1] if len(words) > 1 else "", **row} for row in rows]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: the device, then a row for each way of each model."""
    top: dict[str, Any] = next((r for r in rows if r["way"] == "ceilings" and "copy" in r), {})
    lines = []
    if top:
        lines += [
            f"{top['device']}, torch {top['torch']}, CUDA {top['cuda']}, cuDNN {top['cudnn']}. Measured ceilings: copy "
            f"{top['copy'] / 1e12:.2f} TB/s, product in fp32 {top['fp32'] / 1e12:.0f} TFLOP/s, "
            f"in TF32 {top['tf32'] / 1e12:.0f} TFLOP/s.",
            "",
        ]
    lines += [
        "| model | way | arithmetic | seeds at once | ms | speed-up | seeds/h | bits of solo | GB | FLOP | traffic |",
        "|---|---|---|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        if row["way"] == "ceilings":
            continue
        if "failed" in row:
            lines.append(f"| {row['model']} | {row['way']} | failed: {row['failed'][:80]} |||||||||")
            continue
        base = next((r for r in rows if r.get("model") == row["model"] and r["way"] == "eager" and "ms" in r), None)
        cost = next((r for r in rows if r.get("model") == row["model"] and "flop" in r), None)
        precision = row["kind"].partition(",")[0]
        shares = ["", ""]
        if cost and top and row["way"] == "lanes":
            shares = [
                f"{cost['flop'] / (row['ms'] / 1e3) / top[precision]:.0%}",
                f"{cost['bytes'] / (row['ms'] / 1e3) / top['copy']:.0%}",
            ]
        speed = f"{base['ms'] / row['ms']:.1f}" if base else ""
        memory = f"{row['gb']:.1f}" if "gb" in row else ""
        lines.append(
            f"| {row['model']} | {row['way']} | {row['kind']} | {row['seeds']} | {row['ms']:.4f} | {speed} "
            f"| {3.6e6 / (row['ms'] * EPOCHS * WHOLE):,.0f} | {row['bits']} | {memory} | {' | '.join(shares)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
