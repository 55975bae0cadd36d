"""A thousand seeds: trained on one GPU, reduced to the files of the notebook, and some of them trained again alone.

    python benchmarks/study.py OUT [CONFIG] [--seconds N] [--again N] [KEY=VALUE ...]

Writes into OUT: seeds.csv (one row per seed: metrics and the digest of the final weights), hits.npz (which test
examples each seed got right, a bit each), curve.csv (the expected score of a random ensemble of k members),
study.json (times, versions, device, and whether the seeds that were trained again, one by one in the plain loop of
another process than the sweep's, have the same digests). --seconds ends the sweep at a checkpoint; the same command
resumes it.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

CONFIG = Path(__file__).parents[1] / "configs" / "fashion_mnist_1000_seeds.yaml"
MEMBERS = 64  # of the size curve
METRICS = ("test/accuracy", "test/nll", "test/brier", "test/ece", "val/accuracy", "val/loss", "train/loss")


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("out", type=Path)
    asked.add_argument("config", nargs="?", type=Path, default=CONFIG)
    asked.add_argument("--seconds", type=float)
    asked.add_argument("--again", type=int, default=16)
    asked.add_argument("--run", type=Path, default=Path("runs/fashion-mnist-1000"))
    options, overrides = asked.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    code = train(options.config, overrides, options.run, options.seconds)
    seconds = time.perf_counter() - begun
    from sweep.store import Store

    store = Store.open(options.run)
    members = [m for m in store.scan() if m.record is not None and m.record.status == "ok"]
    manifest = store.manifest
    about: dict[str, Any] = {
        "device": device(),
        "versions": manifest.versions,
        "seconds": round(seconds, 1),
        "exit_code": code,
        "planned": len(list(store.scan())),
        "ok": len(members),
        "bit_exact": manifest.stamp.get("summary"),
        "params": manifest.config["params"],
    }
    write_seeds(options.out / "seeds.csv", members)
    write_hits(options.out / "hits.npz", store, members)
    write_curve(options.out / "curve.csv", store, members[:MEMBERS])
    about["tables_seconds"] = round(time.perf_counter() - begun - seconds, 1)
    write_json(options.out / "study.json", about)
    if options.again:
        about["trained_again_alone"] = train_again(members, options.again)
        write_json(options.out / "study.json", about)
    print(json.dumps({k: v for k, v in about.items() if k not in ("params", "versions")}, indent=1))


def device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def train(config: Path, overrides: Iterable[str], out: Path, seconds: float | None) -> int:
    """Run the sweep as a user types it; interrupt it once when its time is over."""
    words = [sys.executable, "-m", "sweep.cli", "run", str(config), *overrides, "--out", str(out)]
    words += ["--engine", "inline"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            return process.wait()


def write_seeds(path: Path, members: list[Any]) -> None:
    with open(path, "w", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["seed", *METRICS, "final"])
        for member in members:
            record = member.record
            rows.writerow([member.seed, *(record.metrics.get(m) for m in METRICS), record.digests["final"]])


def write_hits(path: Path, store: Any, members: list[Any]) -> None:
    """Write `bits`: uint8 (seeds, examples / 8), most significant first."""
    hits = []
    for member in members:
        made = store.predictions(member, "test")
        hits.append(made.probs.argmax(1) == made.targets)
    bits = np.packbits(np.array(hits), axis=1)
    np.savez_compressed(path, seeds=np.array([m.seed for m in members]), bits=bits, examples=len(hits[0]))


def write_curve(path: Path, store: Any, members: list[Any]) -> None:
    from sweep.ensemble import class_curves

    made = [store.predictions(member, "test") for member in members]
    curves = class_curves(np.stack([each.probs for each in made]), made[0].targets)
    with open(path, "w", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["metric", "members", "value", "low", "high"])
        for curve in curves:
            for k in range(curve.members):
                rows.writerow([curve.metric, k + 1, curve.value[k], curve.low[k], curve.high[k]])


def train_again(members: list[Any], count: int) -> dict[str, Any]:
    """Train some members, drawn at random, by the plain loop in this process; equal ones have equal chains."""
    from sweep.determinism import seeding
    from sweep.handle import Run
    from sweep.plan import RunSpec
    from sweep.store import Attempt
    from sweep.store.owner import this_process
    from sweep.target.function import find
    from sweep.target.params import bind
    from sweep.train.loop import train as plain

    drawn = sorted(random.Random(0).sample(members, min(count, len(members))), key=lambda m: m.seed)
    spec = RunSpec.from_json(drawn[0].record.spec)
    function = find(spec.target.reference)
    recipe = function(**bind(function, spec.params, kind="recipe"))
    equal = []
    begun = time.perf_counter()
    with TemporaryDirectory() as scratch:
        runs = []
        for member in drawn:
            own = replace(spec, seed=member.seed, streams=member.record.spec["streams"])
            folder = Path(scratch) / f"seed{member.seed}"
            folder.mkdir()
            runs.append(Run(own, Attempt(folder, own.id, this_process(), number=1)))
        seeding.set_threads(spec.threads)
        seeding.seed_everything(spec.seed, deterministic=spec.deterministic)
        for index, _ in plain(recipe, runs):
            run = runs[index]
            run.attempt.close()
            equal.append(run.chain == dict(drawn[index].record.digests))
    return {
        "seeds": [m.seed for m in drawn],
        "equal": sum(equal),
        "of": len(equal),
        "links": len(drawn[0].record.digests),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
