"""Cost of an ensemble: the full report of 64 members, and serving 16 small CNNs against a loop over them.

    python benchmarks/ensemble.py                  # report and serving on this machine's CPU
    python benchmarks/ensemble.py --device cuda    # serving on a GPU as well
    python benchmarks/ensemble.py --coverage 300   # coverage of the interval over seeds, some minutes

Ratios are of times taken in turn in the same run, the best of several rounds each, so that other work on the
machine hits both sides. Memory is the peak of a process that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

MEMBERS, EXAMPLES, CLASSES = 64, 10_000, 10
SERVED = 16
ROUNDS = 9


def report() -> dict[str, float]:
    """Stack, assess and encode; run in a process of its own."""
    from sweep.ensemble import assess, stack
    from sweep.ensemble.assess import mean_of, to_json

    rng = np.random.default_rng(0)
    targets = rng.integers(0, CLASSES, EXAMPLES)
    shared = 4.0 * np.eye(CLASSES)[targets] + rng.normal(size=(EXAMPLES, CLASSES))
    pairs = []
    for member in range(MEMBERS):
        logits = 1.5 * (shared + 0.5 * rng.normal(size=shared.shape))
        probs = np.exp(logits - logits.max(1, keepdims=True))
        probs = (probs / probs.sum(1, keepdims=True)).astype(np.float32)
        said = SimpleNamespace(ids=np.arange(EXAMPLES), targets=targets, probs=probs, mean=None, var=None)
        pairs.append((f"seed{member}", said))
    start, worked = time.perf_counter(), time.process_time()
    found = assess(stack(pairs))
    json.dumps(to_json(found))
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - worked,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "disagreement": float(mean_of(found.disagreement)),
    }


def small_cnn(shape: tuple[int, int, int]) -> nn.Module:
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (height // 4) * (width // 4), 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    ).eval()


def serving(shape: tuple[int, int, int], batch: int, device: str) -> tuple[float, float]:
    """Return the seconds per batch of a loop over the members, and of the served ensemble.

    Both give all of a Prediction, by the same arithmetic: the loop is over plain modules, with their weights and
    inputs as torch lays them out, normalises its inputs once and ends in the ensemble's own head. The
    two differ only in how the members' outputs are computed.
    """
    from sweep.ensemble.serve import About, Ensemble

    torch.manual_seed(0)
    modules = [small_cnn(shape) for _ in range(SERVED)]
    ensemble = Ensemble(modules, About(input_shape=shape, mean=(0.5,), std=(0.5,))).to(device)
    modules = [one.to(device) for one in modules]
    head, inputs = ensemble.head, torch.randn(batch, *shape, device=device)

    def loop() -> object:
        x = head.normalised(inputs)
        return head(torch.stack([one(x) for one in modules]))

    with torch.inference_mode():
        return race([loop, lambda: ensemble(inputs)], device)


def race(calls: list[Callable[[], object]], device: str) -> tuple[float, float]:
    best = [float("inf")] * len(calls)
    for turn in range(ROUNDS + 2):
        for index, call in enumerate(calls):
            wait(device)
            start = time.perf_counter()
            call()
            wait(device)
            if turn >= 2:
                best[index] = min(best[index], time.perf_counter() - start)
    return best[0], best[1]


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def coverage(repetitions: int) -> None:
    """Print how often the delete-one jackknife holds the expected difference to calibrated members.

    Members differ by independent noise on the logits of 400 fixed examples, which is harder on the accuracy
    than members that err alike: their votes depend on single members.
    """
    from sweep.ensemble import evidence
    from sweep.ensemble.members import Classes

    def examples(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        targets = rng.integers(0, 4, 400)
        return 1.5 * np.eye(4)[targets] + rng.normal(size=(400, 4)), targets

    def members(rng: np.random.Generator, split: str, base: np.ndarray, targets: np.ndarray, count: int) -> Classes:
        weights = np.exp(1.5 * (base + 0.8 * rng.normal(size=(count, *base.shape))))
        probs = weights / weights.sum(-1, keepdims=True)
        return Classes(split, tuple(map(str, range(count))), np.arange(len(targets)), (), targets, probs)

    print("coverage of the 95 % interval over seeds of the difference to calibrated members")
    print(f"  {'members':>8} {'accuracy':>9} {'nll':>6} {'brier':>6}")
    fixed = np.random.default_rng(7)
    test, val = examples(fixed), examples(fixed)
    for count in (3, 5, 10, 20):
        rng = np.random.default_rng(count)
        values, intervals = [], []
        for _ in range(repetitions):
            found, _ = evidence.of_classes(members(rng, "test", *test, count), members(rng, "val", *val, count))
            values.append([one.value for one in found])
            intervals.append([one.seeds for one in found])
        expected, bounds = np.mean(values, axis=0), np.array(intervals)
        rates = ((bounds[:, :, 0] <= expected) & (expected <= bounds[:, :, 1])).mean(axis=0)
        print(f"  {count:>8} {rates[0]:>9.3f} {rates[1]:>6.3f} {rates[2]:>6.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="also serve on this device, e.g. cuda")
    parser.add_argument("--threads", type=int, default=1, help="torch threads on the CPU")
    parser.add_argument("--coverage", type=int, default=0, metavar="REPETITIONS", help="simulate the interval")
    parser.add_argument("--report-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.report_only:
        print(json.dumps(report()))
        return
    if options.coverage:
        coverage(options.coverage)
        return
    done = subprocess.run([sys.executable, __file__, "--report-only"], capture_output=True, text=True, check=True)
    cost = json.loads(done.stdout)
    print(f"full report, {MEMBERS} members x {EXAMPLES:,} examples x {CLASSES} classes, cross-fitted")
    print(f"  {cost['seconds']:.2f} s wall, {cost['cpu']:.2f} s CPU, peak {cost['gigabytes']:.2f} GiB", end="")
    print(f", members disagree on {cost['disagreement']:.1%}")
    torch.set_num_threads(options.threads)
    for device in dict.fromkeys(["cpu", options.device]):
        name = torch.cuda.get_device_name() if device != "cpu" else f"CPU, {options.threads} thread(s)"
        print(f"serving {SERVED} small CNNs, {name}")
        print(f"  {'images':>12} {'batch':>6} {'loop ms':>9} {'served ms':>10} {'ratio':>6}")
        for shape in ((1, 8, 8), (1, 28, 28)):
            for batch in (1, 8, 32, 256):
                loop, served = serving(shape, batch, device)
                size = "x".join(map(str, shape))
                print(f"  {size:>12} {batch:>6} {loop * 1e3:>9.2f} {served * 1e3:>10.2f} {loop / served:>6.2f}")


if __name__ == "__main__":
    main()
