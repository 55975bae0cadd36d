"""Cost of orchestration: N seeds of about a second each, five ways, one table.

    python benchmarks/overhead.py [--seeds 3 10 50] [--epochs 30] [--rounds 3]

(a) a shell loop of `ml-train --seed S`; (b) the same, one per core at a time (`xargs -P`); (c) bare Ray tasks around
the hand-written loop below, which keeps no records; (d) `sweep run`; (e) the ideal: the time of the hand-written
loop's steps alone, summed over all seeds and divided by the cores, with every core busy as in (d) and in the same
minute. Also the built-in loop's step against the hand-written one, a function's seed in a process that is forked for
it against one in a process that is shared, what it takes beside each run to look for files that runs share and for a
program or data that changed, and `sweep run` of a small network (64-32-10) with and without `vectorize: 16`, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BATCH = 64
CORES = len(os.sched_getaffinity(0))
BIN = Path(sys.executable).parent


def by_hand(seed: int, epochs: int) -> tuple[float, float]:
    """Train the default recipe, written out; return (test accuracy, seconds spent in steps)."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32)
    y = torch.tensor(digits.target)
    mixed = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    test, train = mixed[:450], mixed[450 + 201 :]
    mean, sd = x[train].mean(), x[train].std()
    x = (x - mean) / sd
    model = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
    steps = epochs * -(-(len(x) - 651) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss_of = nn.CrossEntropyLoss()
    xs, ys = x[train], y[train]
    spent = 0.0
    for _ in range(epochs):
        order = torch.randperm(len(xs))
        total = torch.zeros(())
        begun = time.perf_counter()
        for batch in order.split(BATCH):
            loss = loss_of(model(xs[batch]), ys[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            schedule.step()
        spent += time.perf_counter() - begun
    model.eval()
    with torch.no_grad():
        accuracy = (model(x[test]).argmax(1) == y[test]).double().mean().item()
    return accuracy, spent


def ideal(seeds: int, epochs: int) -> float:
    """Return the seconds of pure steps for all seeds over the cores, measured with all cores at work."""
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as cores:
        list(cores.map(by_hand, range(CORES), [2] * CORES))  # imports and warm-up
        return sum(spent for _, spent in cores.map(by_hand, range(seeds), [epochs] * seeds)) / CORES


def timed(action: list[str] | str, cwd: str, *, shell: bool = False) -> float:
    begun = time.perf_counter()
    done = subprocess.run(action, cwd=cwd, shell=shell, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{action} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return time.perf_counter() - begun


def bare_ray(seeds: int, epochs: int) -> None:
    import logging

    import ray

    ray.init(address="local", include_dashboard=False, num_cpus=CORES, log_to_driver=False, logging_level=logging.ERROR)
    task = ray.remote(max_retries=0)(by_hand)
    ray.get([task.remote(seed, epochs) for seed in range(seeds)])
    ray.shutdown()


def round_of(n: int, epochs: int, room: str, number: int) -> tuple[float, float, float]:
    """Return the seconds of (c), (d) and (e); half of (e) before and half after (d): machines change their speed."""
    c = timed([sys.executable, __file__, "--bare-ray", str(n), str(epochs)], room)
    before = ideal(n // 2, epochs)
    sweep = [str(BIN / "sweep"), "run", f"params.epochs={epochs}", "--seeds", f"0-{n - 1}", "--out", f"swept{number}"]
    d = timed(sweep, room)
    return c, d, before + ideal(n - n // 2, epochs)


def step_ratio(epochs: int) -> tuple[float, float]:
    """Return (seconds of the built-in loop's epochs, of the hand-written one's), medians of interleaved runs."""
    import torch

    from sweep.plan import STREAMS, RunSpec, Target, stream_seed
    from sweep.target.function import find
    from sweep.target.params import check_params
    from sweep.train import lane as lanes
    from sweep.train.loop import train_epoch

    torch.set_num_threads(1)
    recipe_of = find("sweep.train.recipes:classifier")
    ours: list[float] = []
    theirs: list[float] = []
    params = check_params(recipe_of, {"epochs": epochs}, kind="recipe")
    setup = lanes.set_up(recipe_of(epochs=epochs), SimpleNamespace(device="cpu"), compiled=False)
    for seed in range(5):
        spec = RunSpec(
            Target("recipe", "sweep.train.recipes:classifier"), params, "", "", seed,
            {name: stream_seed(seed, name) for name in STREAMS}, 0, False, "cpu", 1, "",
        )  # fmt: skip

        class Unrecorded:
            """A run that keeps nothing: only the steps are timed."""

            def __init__(self, spec: RunSpec) -> None:
                self.spec = spec
                self.seed, self.streams, self.params = spec.seed, spec.streams, spec.params
                self.device, self.deterministic, self.threads = "cpu", False, 1
                self.on_step = None

            def restore(self) -> None:
                return None

            def digest(self, link: str, value: str) -> None: ...
            def note(self, text: str) -> None: ...
            def checkpoint_due(self, *, epoch_end: bool) -> bool:
                return False

        run = Unrecorded(spec)
        lane = lanes.begin(setup, run)
        begun = time.perf_counter()
        while lane.epoch <= epochs:
            train_epoch(lane)
            lane.epoch += 1
            lane.offset, lane.order = 0, lane.drawn
        ours.append(time.perf_counter() - begun)
        theirs.append(by_hand(seed, epochs)[1])
    return statistics.median(ours), statistics.median(theirs)


def few_steps(run: Any) -> dict[str, float]:
    """Train for three steps, which is next to nothing."""
    import torch

    model = torch.nn.Linear(64, 10)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(torch.randn(BATCH, 64)).square().mean()
        loss.backward()
        optimizer.step()
    return {"test/loss": float(loss.detach())}


def forked_and_not(seeds: int) -> tuple[float, float]:
    """Return (seconds of a run of a function in a process of its own, in this one), medians without the first."""
    from sweep.config import load
    from sweep.prepare import job_of, manifest_of, prepare
    from sweep.store import Store
    from sweep.store.names import TOKEN
    from sweep.worker import forked, here

    medians = []
    for train in (forked.train, here.train):
        with tempfile.TemporaryDirectory() as room:
            plan = prepare(load(None, name="few", train="overhead:few_steps", seeds=range(seeds)), few_steps)
            store = Store.create(Path(room) / "runs", manifest_of(plan))
            (store.path / TOKEN).touch()  # as a launch that shares its directory with the worker
            job = replace(job_of(plan), path=str(store.path), folder=room)
            taken = []
            for spec in plan:
                begun = time.perf_counter()
                train(store, (spec,), job)
                taken.append(time.perf_counter() - begun)
                assert store.member(spec.key).status == "ok"
            medians.append(statistics.median(taken[1:]))
    return medians[0], medians[1]


def looking(files: int) -> tuple[float, float]:
    """Return the seconds of a core to look, among this many files, for those a run wrote and for data that changed."""
    from sweep.shared_files import Watch
    from sweep.target.inputs import changed, watched

    with tempfile.TemporaryDirectory() as room:
        for number in range(files):
            folder = Path(room) / str(number // 200)
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.bin").touch()
        data = watched([], [room])
        taken: list[list[float]] = [[], []]
        for _ in range(20):
            for kind, action in enumerate(
                (lambda: Watch(Path(room)).evidence(), lambda: changed(data) + changed(data))
            ):
                begun = time.process_time()
                action()
                taken[kind].append(time.process_time() - begun)
    return statistics.median(taken[0]), statistics.median(taken[1])


def small(seeds: int, epochs: int, rounds: int) -> list[tuple[float, float]]:
    """Return seconds of `sweep run` of many seeds of a small network, as it is and in vectorised steps, in turns."""
    taken = []
    with tempfile.TemporaryDirectory() as room:
        for number in range(rounds):
            words = [str(BIN / "sweep"), "run", f"params.epochs={epochs}", "params.model.hidden=[32]"]
            words += ["--seeds", f"0-{seeds - 1}"]
            plain = timed([*words, "--out", f"plain{number}"], room)
            taken.append((plain, timed([*words, "vectorize=16", "--out", f"vectorised{number}"], room)))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 10, 50])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=1, help="of (c), (d) and (e); their medians are shown")
    parser.add_argument("--skip-loops", action="store_true", help="leave out (a) and (b), the slow ones")
    asked = parser.parse_args()
    print(f"{CORES} cores; one seed is {asked.epochs} epochs\n")
    print(f"{'N':>4} {'(a) loop':>9} {'(b) xargs':>9} {'(c) Ray':>9} {'(d) sweep':>9} {'(e) ideal':>9}"
          f" {'a/d':>6} {'b/d':>6} {'c/d':>6} {'(d-6)/e':>8}")  # fmt: skip
    for n in asked.seeds:
        with tempfile.TemporaryDirectory() as room:
            train = f"{BIN / 'ml-train'} --num_epochs {asked.epochs}"
            loop = f"for s in $(seq 0 {n - 1}); do {train} --out loop --seed $s; done"
            pooled = f"seq 0 {n - 1} | xargs -P {CORES} -I S {train} --out pooled --seed S"
            a = b = float("nan")
            if not asked.skip_loops:
                a = timed(loop, room, shell=True)
                b = timed(pooled, room, shell=True)
            rounds = [round_of(n, asked.epochs, room, number) for number in range(asked.rounds)]
        c, d, e = (statistics.median(each) for each in zip(*rounds, strict=True))
        over = statistics.median((one - 6) / ideal for _, one, ideal in rounds)
        print(f"{n:>4} {a:>9.1f} {b:>9.1f} {c:>9.1f} {d:>9.1f} {e:>9.1f}"
              f" {a / d:>6.2f} {b / d:>6.2f} {c / d:>6.2f} {over:>8.2f}", flush=True)  # fmt: skip
    ours, theirs = step_ratio(asked.epochs)
    print(f"\nsteps of the built-in loop / hand-written: {ours / theirs:.3f}  ({ours:.2f} s / {theirs:.2f} s)")
    forked, here = forked_and_not(40)
    print(
        f"a function's seed in a process of its own costs {forked - here:.3f} s more  ({forked:.3f} s / {here:.3f} s)"
    )
    epochs = 4 * asked.epochs  # a seed takes about a second, too
    for plain, vectorised in small(50, epochs, asked.rounds):
        gain = plain / vectorised
        print(
            f"50 seeds of 64-32-10, {epochs} epochs: {plain:.1f} s, vectorize=16 {vectorised:.1f} s:"
            f" {gain:.1f} times as fast"
        )
    for files in (20, 200, 2_000):
        wrote, data = looking(files)
        print(
            f"{files} files: to look for those that a run wrote takes {1000 * wrote:.1f} ms, 1 % of {100 * wrote:.2f} s"
            " (shorter runs are in part left out)"
        )
        print(f"    for data that changed {1000 * data:.1f} ms, 1 % of {100 * data:.2f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare-ray"]:
        bare_ray(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
