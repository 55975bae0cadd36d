"""What lanes are worth: the same recipe, data and seeds by every way to train many seeds on one GPU.

    python benchmarks/lanes.py [--data FOLDER] [--models mlp,cnn,resnet] [--ways torch,ray,vmap,jax] [--add]
                               [--out benchmarks/results/lanes]

Every case is a process of its own. In deterministic mode, batch 128, SGD with momentum and weight decay:

    eager      the plain loop, one seed after the other
    lanes      1, 4, 16 and 64 seeds; as they are, compiled, and with TF32; 16 in fast mode, and 16 whose batches
               a loader brings from the host
    Ray tasks  the plain loop in 4, 8 and 16 tasks at once, each with that fraction of the GPU
    vmap       parameters of 64 seeds stacked, torch.func
    jax        parameters of 64 seeds stacked, steps in a scan; in float32 and in what JAX takes by default

--add keeps the rows that are there. ms: milliseconds per seed and step, once the steps are graphs; evaluation and
files are not in it, nor deterministic mode's fill of new memory, which a sweep leaves out where its canary allows.
seeds/h: of 3 epochs, from that. bits: of a short run, all digests equal to those of the plain loop. GB: reserved on
the device. FLOP and traffic: the share of the device's own measured rates (a large product in the same precision, a
large copy) that the arithmetic of the step and an estimate of what it must move come to.
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
EXAMPLES = {"mlp": 60_000, "cnn": 16_000, "resnet": 13_000}  # fewer steps an epoch where they are longer
LANES = 1, 4, 16, 64
SHARING = 4, 8, 16
SOME = 16  # lanes of the rows that ask one thing more


def recipe_of(model: str, data: str, precision: str, compiled: bool, limit: int, epochs: int = EPOCHS) -> Any:
    from sweep.target import bind, check_params
    from sweep.train.recipes import classifier

    params = {
        "model": MODELS[model], "data": {"name": "idx", "folder": data, "limit": limit},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        "epochs": epochs, "batch_size": BATCH, "precision": precision, "compile": compiled,
    }  # fmt: skip
    return classifier(**bind(classifier, check_params(classifier, params, kind="recipe"), kind="recipe"))


def runs_of(count: int, folder: Path, label: str, deterministic: bool = True) -> list[Any]:
    from sweep.handle import Run
    from sweep.plan import STREAMS, RunSpec, Target, stream_seed
    from sweep.store import Attempt
    from sweep.store.owner import this_process

    runs = []
    for seed in range(count):
        spec = RunSpec(
            target=Target("recipe", "sweep.train.recipes:classifier"), params={"label": label}, variant="",
            task="", seed=seed, streams={name: stream_seed(seed, name) for name in STREAMS}, repeat=0,
            deterministic=deterministic, device="cuda", threads=1, data="",
        )  # fmt: skip
        path = folder / f"{label}-{seed}"
        path.mkdir(parents=True)
        runs.append(Run(spec, Attempt(path, spec.id, this_process(), number=1)))
    return runs


def chains(trainer: Callable[..., Iterator[Any]], recipe: Any, runs: Sequence[Any]) -> dict[int, Any]:
    from sweep import seeding

    seeding.set_threads(1)
    seeding.seed_everything(runs[0].seed, deterministic=runs[0].deterministic)
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
    whole = recipe_of(model, data, precision, compiled, EXAMPLES[model], epochs=2)  # in the second all are graphs
    packs: list[Any] = []
    results = Pack.results

    def watched(self: Any) -> Any:
        packs.append(self)
        return results(self)

    Pack.results = watched  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as scratch:
        wanted = chains(loop.train, short, runs_of(4, Path(scratch), "solo"))
        rows.append({"way": "eager", "kind": kind, "seeds": 1, "ms": eager(whole, Path(scratch)), "bits": "it is"})
        host = {"loader_workers": 0}
        asked: list[tuple[str, int, bool, dict[str, Any]]] = [("lanes", count, True, {}) for count in LANES]
        if precision != "fp32":
            asked = [("lanes", count, True, {}) for count in (1, SOME)]
        else:
            asked.append(("lanes, fast mode", SOME, False, {}))
            asked += [] if compiled else [("lanes, batches from the host", SOME, True, host)]
        for i, (way, count, deterministic, parts) in enumerate(asked):
            same = "not promised"
            if deterministic:
                found = chains(lanes.train, replace(short, **parts), runs_of(count, Path(scratch), f"short{i}"))
                same = "yes" if all(found[seed] == wanted[seed] for seed in found if seed in wanted) else "NO"
            torch.cuda.reset_peak_memory_stats()
            chains(lanes.train, replace(whole, **parts), runs_of(count, Path(scratch), f"whole{i}", deterministic))
            rows.append({
                "way": way, "kind": kind, "seeds": count, "ms": packs[-1].pace / count * 1e3, "bits": same,
                "gb": torch.cuda.max_memory_reserved() / 2**30,
                "form": "one graph" if packs[-1].form else "graph a stream",
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
    seeding.seed_everything(0, deterministic=True, fill_memory=False)
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


def cases(models: Sequence[str], ways: Sequence[str]) -> list[tuple[str, ...]]:
    """The words of each case, the longest-awaited first."""
    plain = [model for model in models if model != "resnet"]  # batch norm under vmap is another program
    found: list[tuple[str, ...]] = [("ceilings", "")] if "torch" in ways else []
    found += [("torch", model, "fp32", compiled) for compiled in ("0", "1") for model in models]
    found += [("torch", model, "tf32", compiled) for compiled in ("1", "0") for model in models if model != "mlp"]
    found += [("ray", model, *map(str, SHARING)) for model in models]
    found += [("vmap", model) for model in plain]
    found += [("jax", model, *how) for how in (("fp32", "1"), ("fp32", "0"), ("default", "0")) for model in plain]
    return [words for words in found if words[0] in (*ways, "ceilings")]


def run_case(words: Sequence[str], data: str) -> list[dict[str, Any]]:
    what, model, *rest = words
    if what == "ceilings":
        return case_ceilings()
    if what == "torch":
        return case_torch(model, data, rest[0], rest[1] == "1")
    import rivals

    if what == "ray":
        return rivals.case_ray(model, data, [int(size) for size in rest])
    return rivals.case_vmap(model, data) if what == "vmap" else rivals.case_jax(model, data, rest[0], rest[1] == "1")


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--data", default=FASHION)
    asked.add_argument("--models", default="cnn,mlp,resnet")
    asked.add_argument("--ways", default="torch,ray,vmap,jax")
    asked.add_argument("--add", action="store_true", help="to the rows that are there")
    asked.add_argument("--run", default="1", help="what the rows of this run are called")
    asked.add_argument("--out", type=Path, default=HERE.parent / "results" / "lanes")
    asked.add_argument("--limit", type=float, default=150.0, help="seconds of a case")
    asked.add_argument("--seconds", type=float, default=3600.0, help="after which no case is begun")
    asked.add_argument("--case", nargs="+")
    options = asked.parse_args()
    if options.case:
        print("RESULT " + json.dumps(run_case(options.case, options.data)))
        return
    begun, kept = time.perf_counter(), options.out.with_suffix(".json")
    rows = json.loads(kept.read_text()) if options.add else []
    for words in cases(options.models.split(","), options.ways.split(",")):
        if time.perf_counter() - begun > options.seconds:
            print("not run:", *words, file=sys.stderr)
            continue
        rows += in_a_process(words, options)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(rows, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(table(rows))
    print(table(rows))


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
    return [{"run": options.run, "model": words[1] if len(words) > 1 else "", **row} for row in rows]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: the device, then a row for each way; speed-ups are over the plain loop of their run."""
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
        "| run | model | way | arithmetic | seeds | ms | speed-up | seeds/h | bits of solo | GB | FLOP | traffic |",
        "|---|---|---|---|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        if row["way"] == "ceilings":
            continue
        if "failed" in row:
            lines.append(f"| {row['run']} | {row['model']} | {row['way']} | failed: {row['failed'][:80]} |||||||||")
            continue
        beside = [r for r in rows if r["run"] == row["run"] and r.get("model") == row["model"]]
        base = next((r for r in beside if r["way"] == "eager" and "ms" in r), None)
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
            f"| {row['run']} | {row['model']} | {row['way']} | {row['kind']} | {row['seeds']} | {row['ms']:.4f} "
            f"| {speed} "
            f"| {3.6e6 / (row['ms'] * EPOCHS * WHOLE):,.0f} | {row['bits']} | {memory} | {' | '.join(shares)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
