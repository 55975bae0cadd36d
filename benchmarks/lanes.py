"""Benefit of lanes: the same recipe, data and seeds by every way to train many seeds on one GPU.

    python benchmarks/lanes.py [--data FOLDER] [--models cnn,mlp,resnet,small,tabular,gpt] [--add]
                               [--ways torch,vector,ray,vmap,jax] [--out benchmarks/results/lanes]
    python benchmarks/lanes.py --case price cnn 0        # what deterministic lanes cost over fast ones, in turns

Every case is a process of its own, in deterministic mode. mlp, cnn, resnet: the built-in classifier, batch 128, SGD
with momentum and weight decay; small, tabular, gpt: recipes such as a user writes, with AdamW (`own` in subject.py).

    eager      the plain loop, one seed after the other
    lanes      1, 4, 16 and 64 seeds; as they are, compiled, and with TF32; 16 in fast mode, and 16 whose batches
               a loader brings from the host
    vectorised 16, 64 and 256 seeds in one step of that width, one seed alone in it, and four packs side by side, as
               in a sweep; as it is and compiled. The time is that of whole epochs, orders of examples included; bits:
               of a short run in the other order of rows, alone, and side by side, against the rows as they are
    Ray tasks  the plain loop in 1, 4, 8 and 16 tasks at once, each with that fraction of the GPU
    vmap       parameters of 64 seeds stacked, torch.func; in fast mode too
    jax        parameters of 64 seeds stacked, steps in a scan; in float32 and in what JAX takes by default

--add keeps the rows of other models that are there. ms: milliseconds per seed and step, once the steps are graphs (of
several epochs the median); evaluation and files are not in it, nor deterministic mode's fill of new memory, which a
sweep leaves out where its canary allows. seeds/h: of 3 epochs, from that. bits: of a short run, all digests equal to
those of the plain loop (Ray tasks: of the weights after 20 steps, to those of a task alone). GB: reserved on the
device. FLOP and traffic: the share of the device's own measured rates (a large product in the same precision, a
large copy) that the arithmetic of the step and an estimate of what it must move come to.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from subject import EPOCHS, MODELS, WHOLE, lane_of, recipe_of, runs_of

HERE = Path(__file__).resolve()
FASHION = "/usr/share/datasets/fashion-mnist"
EXAMPLES = {  # fewer steps an epoch where they are longer
    "mlp": 60_000, "cnn": 16_000, "resnet": 13_000, "small": 16_000, "tabular": 32_000, "gpt": 0,
}  # fmt: skip
LANES = 1, 4, 16, 64
SHARING = 1, 4, 8, 16
WIDTHS = "16x16", "64x64", "64x1", "64x256", "256x256", "256x1024"  # of vectorised steps, and seeds
SOME = 16  # lanes of the rows that vary one thing more


def chains(trainer: Callable[..., Iterator[Any]], recipe: Any, runs: Sequence[Any]) -> dict[int, Any]:
    from sweep.determinism import seeding

    seeding.set_threads(1)
    seeding.fill_memory(False)
    seeding.seed_everything(runs[0].seed, deterministic=runs[0].deterministic)
    for index, _ in trainer(recipe, runs):
        runs[index].attempt.close()
    return {run.seed: dict(run.chain) for run in runs}


def epochs_of(pack: Any) -> list[tuple[float, bool | None]]:
    """Filled by every pack from now on: for each epoch its seconds per step, and whether all lanes are one graph."""
    import torch

    seen: list[tuple[float, bool | None]] = []
    epoch = pack._epoch

    def timed(self: Any) -> None:
        steps = self.lanes[0].batches
        torch.cuda.synchronize()
        begun = time.perf_counter()
        epoch(self)
        torch.cuda.synchronize()
        seen.append(((time.perf_counter() - begun) / steps, self.together))

    pack._epoch = timed
    return seen


def case_torch(model: str, data: str, precision: str, compiled: bool) -> list[dict[str, Any]]:
    """The plain loop, then lanes of every size, in one process."""
    import torch

    from sweep.train import lanes, loop
    from sweep.train.pack import Pack

    rows: list[dict[str, Any]] = []
    kind = f"{precision}{', compiled' if compiled else ''}"
    short = recipe_of(model, data, precision, compiled, 2_000)
    whole = recipe_of(model, data, precision, compiled, EXAMPLES[model])
    epochs = epochs_of(Pack)
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
            lanes.release()
            torch.cuda.reset_peak_memory_stats()
            epochs.clear()
            # In the first epoch steps are captured and fast mode looks for its kernels, in the second follows the
            # capture of the smaller last batch.
            some = replace(whole, epochs=3 if count > SOME else 4, **parts)
            chains(lanes.train, some, runs_of(count, Path(scratch), f"whole{i}", deterministic))
            rows.append({
                "way": way, "kind": kind, "seeds": count, "bits": same,
                "ms": statistics.median(pace for pace, _ in epochs[2:]) / count * 1e3,
                "gb": torch.cuda.max_memory_reserved() / 2**30,
                "form": "one graph" if epochs[-1][1] else "graph a stream",
            })  # fmt: skip
    rows[0].update(cost_of(whole))
    return rows


def case_vector(
    model: str, data: str, precision: str, compiled: bool, asked: Sequence[str] = WIDTHS
) -> list[dict[str, Any]]:
    """Vectorised steps, by width and number of seeds: one seed alone, a full pack, several packs side by side."""
    import torch

    from sweep.train import vector

    short = recipe_of(model, data, precision, compiled, 2_000)
    whole = recipe_of(model, data, precision, compiled, EXAMPLES[model])
    rows = []
    with tempfile.TemporaryDirectory() as scratch:

        def runs(count: int, width: int) -> list[Any]:
            return runs_of(count, Path(tempfile.mkdtemp(dir=scratch)), str(width), vectorize=width)

        for width, count in (tuple(map(int, each.split("x"))) for each in asked):
            wanted = chains(vector.train, short, runs(width, width))
            again = chains(vector.train, short, runs(count, width)[::-1])
            torch.cuda.reset_peak_memory_stats()
            way = "vectorised" if count > 1 else f"vectorised, alone of {width}"
            rows.append({
                "way": way + (f", {count // width} packs" if count > width else ""), "seeds": count,
                "kind": f"{precision}{', compiled' if compiled else ''}",
                "ms": statistics.median(vector_epochs(whole, runs(count, width), width)[2:]) / count * 1e3,
                "bits": "yes" if all(again[seed] == wanted[seed] for seed in again if seed in wanted) else "NO",
                "gb": torch.cuda.max_memory_reserved() / 2**30,
            })  # fmt: skip
    return rows


def vector_epochs(recipe: Any, runs: Sequence[Any], width: int, epochs: int = 6) -> list[float]:
    """Seconds per step of each epoch of packs that train side by side, without what is done after an epoch."""
    import torch

    from sweep.determinism import seeding
    from sweep.train.lane import begin, set_up
    from sweep.train.precision import flags
    from sweep.train.vector.pack import THREADS, Pack
    from sweep.train.vector.stack import Stack

    seeding.set_threads(1)
    seeding.fill_memory(False)
    recipe = replace(recipe, epochs=epochs)
    setup = set_up(recipe, runs[0], compiled=False)
    taken = []
    with flags(recipe.precision), ThreadPoolExecutor(THREADS) as threads:
        packs = []
        for first in range(0, len(runs), width):
            lanes = [begin(setup, run) for run in runs[first : first + width]]
            packs.append((torch.cuda.Stream(), Pack(Stack(lanes, width), threads)))
        for _ in range(epochs):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            active = deque((stream, pack._epoch()) for stream, pack in packs)
            while active:
                stream, steps = active.popleft()
                with torch.cuda.stream(stream):
                    if next(steps, "over") is None:
                        active.append((stream, steps))
            torch.cuda.synchronize()
            taken.append((time.perf_counter() - begun) / packs[0][1].seats[0].lane.batches)
            for lane in (seat.lane for _, pack in packs for seat in pack.seats):
                lane.epoch, lane.offset, lane.seen, lane.order = lane.epoch + 1, 0, 0, lane.drawn
    for run in runs:
        run.attempt.close()
    return taken


def case_price(model: str, data: str, compiled: bool, rounds: int = 5) -> list[dict[str, Any]]:
    """Deterministic lanes and lanes in fast mode, in turns: the times of one and of the other, and their ratios.

    In fast mode cuDNN looks for its kernels anew in every round, as it does in every process.
    """
    from sweep.train import lanes
    from sweep.train.pack import Pack

    whole = replace(recipe_of(model, data, "fp32", compiled, EXAMPLES[model]), epochs=4)
    epochs = epochs_of(Pack)
    taken: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(2 * rounds):
            deterministic = i % 2 == 0
            lanes.release()
            epochs.clear()
            chains(lanes.train, whole, runs_of(SOME, Path(scratch), f"price{i}", deterministic))
            taken[deterministic].append(statistics.median(pace for pace, _ in epochs[2:]) / SOME * 1e3)
    ratios = [a / b for a, b in zip(taken[True], taken[False], strict=True)]
    kind = "fp32" + (", compiled" if compiled else "")
    return [{
        "way": "price", "kind": kind, "seeds": SOME, "deterministic": taken[True], "fast": taken[False],
        "ratios": ratios, "median": statistics.median(ratios),
    }]  # fmt: skip


def eager(recipe: Any, scratch: Path, steps: int = 100) -> float:
    """Median milliseconds of a step of the plain loop, the device waited for every ten."""
    import torch

    lane, batches = lane_of(recipe, scratch, "eager")
    from sweep.train.lane import step
    from sweep.train.precision import flags

    taken = []
    with flags(recipe.precision):
        for i in range(20 + steps):
            if i >= 20 and i % 10 == 0:
                torch.cuda.synchronize()
                taken.append(time.perf_counter())
            step(lane, batches[i % len(batches)])
        torch.cuda.synchronize()
    taken.append(time.perf_counter())
    return statistics.median((b - a) / 10 * 1e3 for a, b in pairwise(taken))


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
    """The words of each case, a model after the other, so that all rows of one are taken close together."""
    found: list[tuple[str, ...]] = [("ceilings", "")]
    for model in models:
        found += [("torch", model, "fp32", "0"), ("torch", model, "fp32", "1")]
        found += [("torch", model, "tf32", compiled) for compiled in ("1", "0")]
        found += [("vector", model, p, compiled) for p in ("fp32", "tf32") for compiled in ("0", "1")]
        if model in MODELS:
            found += [("ray", model, *map(str, SHARING)), ("vmap", model, "1"), ("vmap", model, "0")]
        found += [("jax", model, *how) for how in (("default", "0"), ("fp32", "0"), ("fp32", "1"))]
        found += [
            ("jax", model, *how, "256") for how in (("default", "0"), ("fp32", "0")) if model in ("small", "tabular")
        ]
    return [words for words in found if words[0] in (*ways, "ceilings")]


def run_case(words: Sequence[str], data: str) -> list[dict[str, Any]]:
    what, model, *rest = words
    if what == "ceilings":
        return case_ceilings()
    if what == "torch":
        return case_torch(model, data, rest[0], rest[1] == "1")
    if what == "vector":
        return case_vector(model, data, rest[0], rest[1] == "1", rest[2:] or WIDTHS)
    if what == "price":
        return case_price(model, data, rest[0] == "1")
    if what == "jax":
        import in_jax

        return in_jax.case(model, data, rest[0], rest[1] == "1", *map(int, rest[2:]))
    import rivals

    if what == "ray":
        return rivals.case_ray(model, data, [int(size) for size in rest])
    return rivals.case_vmap(model, data, rest[0] == "1")


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--data", default=FASHION)
    asked.add_argument("--models", default="cnn,mlp,resnet")
    asked.add_argument("--ways", default="torch,vector,ray,vmap,jax")
    asked.add_argument("--add", action="store_true", help="to the rows of other models that are there")
    asked.add_argument("--out", type=Path, default=HERE.parent / "results" / "lanes")
    asked.add_argument("--limit", type=float, default=300.0, help="seconds of a case")
    asked.add_argument("--seconds", type=float, default=3600.0, help="after which no case is begun")
    asked.add_argument("--case", nargs="+")
    options = asked.parse_args()
    if options.case:
        print("RESULT " + json.dumps(run_case(options.case, options.data)))
        return
    begun, kept = time.perf_counter(), options.out.with_suffix(".json")
    models, ways = options.models.split(","), options.ways.split(",")
    rows = [r for r in json.loads(kept.read_text()) if r["model"] not in ("", *models)] if options.add else []
    for words in cases(models, ways):
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
    return [{"model": words[1], **row} for row in rows]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: the device, then a row for each way; speed-ups are over the plain loop in fp32."""
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
        "| model | way | arithmetic | seeds | ms | speed-up | seeds/h | bits of solo | GB | FLOP | traffic |",
        "|---|---|---|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        if row["way"] == "ceilings":
            continue
        if "failed" in row:
            lines.append(f"| {row['model']} | {row['way']} | failed: {row['failed'][:80]} |||||||||")
            continue
        beside = [r for r in rows if r["model"] == row["model"]]
        base = next((r for r in beside if r["way"] == "eager" and "ms" in r), None)
        cost = next((r for r in beside if "flop" in r), None)
        precision = row["kind"].partition(",")[0]
        shares = ["", ""]
        if cost and top and row["way"] in ("lanes", "vectorised"):
            shares = [
                f"{cost['flop'] / (row['ms'] / 1e3) / top[precision]:.0%}",
                f"{cost['bytes'] / (row['ms'] / 1e3) / top['copy']:.0%}",
            ]
        # Rows that were taken on another machine of the kind keep the time of the plain loop there.
        speed = f"{row.get('base', base['ms']) / row['ms']:.1f}" if base else ""
        memory = f"{row['gb']:.1f}" if "gb" in row else ""
        lines.append(
            f"| {row['model']} | {row['way']} | {row['kind']} | {row['seeds']} | {row['ms']:.4f} | {speed} "
            f"| {3.6e6 / (row['ms'] * EPOCHS * WHOLE):,.0f} | {row['bits']} | {memory} | {' | '.join(shares)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
