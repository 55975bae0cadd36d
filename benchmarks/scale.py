"""Many short seeds: python benchmarks/scale.py [--seeds 10000] [--engine ray]

Trains a function that takes 20 ms, in a new run directory, and prints how long a seed took at the beginning and at
the end (a quadratic step would show), how much memory and how many files the driver held, and how long the report
of it takes. Ray's own share of the driver's memory is measured first, on a sweep of one seed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAINING = """
import time
def brief(run):
    time.sleep(0.02)
    return {"test/accuracy": 0.9 + (run.seed * 7919 % 1000) / 10_000}
"""


def watched(words: list[str], folder: Path) -> dict[str, float]:
    """Run a command; return its wall time, and the most memory (MB) and open files of its own process."""
    begun = time.monotonic()
    memory, files = 0.0, 0
    with open(folder / "said.txt", "wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "sweep.cli", *words], cwd=folder, stdout=said, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).resolve().parents[1])])},
        )  # fmt: skip
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                memory = max(memory, int(status.partition("VmRSS:")[2].split()[0]) / 1024)
                files = max(files, len(os.listdir(f"/proc/{process.pid}/fd")))
            except (OSError, IndexError):
                pass
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit((folder / "said.txt").read_text()[-3000:])
    return {"seconds": time.monotonic() - begun, "memory_mb": memory, "open_files": files}


def pace(folder: Path) -> dict[str, float]:
    """Return the seconds per seed in the first and in the last tenth, by the times at which records appeared."""
    times = sorted(path.stat().st_mtime for path in folder.glob("members/*/record.json"))
    tenth = max(len(times) // 10, 2)
    first = (times[tenth - 1] - times[0]) / (tenth - 1)
    return {"first_tenth_s": first, "last_tenth_s": (times[-1] - times[-tenth]) / (tenth - 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--engine", default="ray")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "many.py").write_text(TRAINING)
        (folder / "many.yaml").write_text("name: many\ntrain: many:brief\n")
        words = ["run", "many.yaml", "--engine", given.engine]
        one = watched([*words, "--seeds", "0", "--out", "one"], folder)
        all_ = watched([*words, "--seeds", f"0-{given.seeds - 1}", "--out", "all"], folder)
        again = watched([*words, "--seeds", f"0-{given.seeds - 1}", "--out", "all"], folder)
        report = watched(["report", "all"], folder)
        status = watched(["status", "all"], folder)
        print(json.dumps({
            "seeds": given.seeds, "engine": given.engine, **pace(folder / "all"), "seconds": all_["seconds"],
            "driver_mb": all_["memory_mb"], "driver_mb_with_one_seed": one["memory_mb"],
            "driver_open_files": all_["open_files"], "open_files_with_one_seed": one["open_files"],
            "nothing_to_do_s": again["seconds"], "report_s": report["seconds"], "status_s": status["seconds"],
        }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
