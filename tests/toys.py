"""Training functions of tests, small enough to be run by the dozen; a worker imports them by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from sweep import Run


def line(run: Run, *, lr: float = 0.1, epochs: int = 2, fail: int = -1) -> dict[str, float]:
    """A few numbers that depend on the seed alone; the seed named by `fail` raises."""
    for epoch in range(1, epochs + 1):
        run.log({"val/loss": 1 / epoch + lr}, step=epoch)
    if run.seed == fail:
        print("about to fail")
        raise ValueError(f"seed {run.seed} is unlucky")
    return {"test/accuracy": 0.9 + run.seed / 10_000, "test/loss": float(torch.rand(()))}


def streamed(run: Run) -> dict[str, float]:
    """A number of each of two streams."""
    return {f"test/{name}": run.streams[name] / 2**32 for name in ("init", "order")}


def weights(run: Run, *, epochs: int = 3) -> dict[str, float]:
    """A real if tiny training run, whose final weights are digested."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x = torch.randn(32, 4)
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        run.log({"train/loss": loss}, step=epoch + 1)
    run.save_model(model)
    return {"test/mse": loss.item()}


def killed(run: Run, *, tally: str, seed: int, times: int) -> Mapping[str, float]:
    """Seed `seed` ends its worker with SIGKILL `times` times; every start leaves a file in `tally`."""
    starts = [p for p in Path(tally).iterdir() if p.name.startswith(f"{run.seed}-")]
    (Path(tally) / f"{run.seed}-{len(starts)}").touch()
    if run.seed == seed and len(starts) < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"test/accuracy": run.seed / 100}


def patient(run: Run, *, tally: str) -> Mapping[str, float]:
    """Logs until it is told to stop, and leaves a file in `tally` once it has begun."""
    (Path(tally) / str(run.seed)).touch()
    for step in range(1, 6000):
        run.log({"train/loss": 1 / step}, step=step)
        time.sleep(0.01)
    return {"test/accuracy": 1.0}
