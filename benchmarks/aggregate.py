"""From a directory of many runs to its report: seconds and peak memory, in a fresh process.

    python benchmarks/aggregate.py [--runs 10000] [--epochs 100] [--metrics 10] [--keep DIR]

Makes a directory as training would have left it (records with checksums, histories), then has a fresh Python
read it twice: to the printed report, which needs the records alone, and on to the table of every run and step
and the learning-curve band of each metric. Wanted for the defaults: the report under 10 s, both under 20 s and 2 GB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sweep.config import load
from sweep.plan import Cell, Plan, RunSpec, Target
from sweep.store import Artifact, Manifest, Record, Store, shape

READ = """
import resource, sys, time
def now(): return time.perf_counter(), time.process_time()
begun = now()
from sweep import report
from sweep.analysis import frames
from sweep.store import Reading
marks = [("import", now())]
store = Reading.of(sys.argv[1])
text = report.text(report.build(store))
marks.append(("directory to report", now()))
curves = frames.history(store)
marks.append(("every run and step", now()))
for metric in frames.metric_names(curves):
    frames.band(curves, metric)
marks.append(("bands of all metrics", now()))
print(text)
print(f"{len(curves):,} rows x {len(frames.metric_names(curves))} metrics")
for name, then in marks:
    print(f"{name:<22}{then[0] - begun[0]:7.2f} s, of which {then[1] - begun[1]:6.2f} s on the processor")
    begun = then
print(f"{'peak memory':<22}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:7.2f} GB")
"""


def make(path: Path, runs: int, epochs: int, metrics: int) -> None:
    """Write the files directly: the fsync of each of 40,000 belongs to the store and is not measured here."""
    asked = load(None, train="made:up", seeds=[*range(runs)])
    plan = Plan(asked, Target("function", reference="made:up", digest="0" * 64), (Cell("", "", {"lr": 0.1}),), "cpu")
    config = {"primary": "test/accuracy"}
    Store.create(path, Manifest("many", config, plan.experiment(), asked.seeds))
    names = [f"{split}/m{i}" for split in ("val", "train") for i in range(metrics)][:metrics]
    rng = np.random.default_rng(0)
    for spec in plan:
        put(path, spec, rng.normal(0.9, 0.01, (epochs, metrics)).round(6), names)


def put(path: Path, spec: RunSpec, values: np.ndarray, names: list[str]) -> None:
    folder = path / "members" / spec.key / "attempt-00000000"
    folder.mkdir(parents=True)
    rows = (dict(zip(names, row, strict=True)) for row in values.tolist())
    history = "".join(json.dumps({"step": step, **row}) + "\n" for step, row in enumerate(rows, 1)).encode()
    (folder / "history.jsonl").write_bytes(history)
    about = {"number": 1, "host": "", "boot": "", "pid": 0, "ticks": "", "started": "", "nonce": ""}
    (folder / "attempt.json").write_text(json.dumps(about))
    last = dict(zip(names, values[-1].tolist(), strict=True))
    record = Record(
        spec=spec.to_json(), spec_id=spec.id, status="ok", attempt="00000000",
        metrics={"test/accuracy": float(values[-1, 0]), **last}, result={"rule": "final", "epoch": len(values)},
        digests={"final": hashlib.sha256(history).hexdigest()}, environment={"torch": "2.13.0"},
        environment_id="0" * 64, seconds=1.0,
        artifacts={"history.jsonl": Artifact(hashlib.sha256(history).hexdigest(), len(history))},
    )  # fmt: skip
    (folder.parent / "record.json").write_bytes(shape.seal(record))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--metrics", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="make the directory here, or read the one that is here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = asked.keep or Path(scratch) / "many"
        if not path.exists():
            begun = time.perf_counter()
            make(path, asked.runs, asked.epochs, asked.metrics)
            print(f"made {asked.runs:,} runs in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        subprocess.run([sys.executable, "-c", READ, str(path)], check=True)


if __name__ == "__main__":
    main()
