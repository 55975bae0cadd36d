"""Training functions with one fault each, for those who are to find it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import default_rng
from torch import Tensor, manual_seed, nn
from torch.utils.data import DataLoader, Dataset

from sweep.handle import Run

if marker := os.environ.get("PLANTED_MARKER"):  # the test that asks for it names a file of its own
    Path(marker).touch()


class Clock(nn.Module):
    """Its output depends on when it is asked."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-6 * (time.perf_counter_ns() % 997)


class LateClock(nn.Module):
    """Its gradient does, from the third time on; its output never."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 2:
            x.register_hook(lambda g: g * (1 + 1e-3 * (time.perf_counter_ns() % 997)))
        return x * 2


class Unpool(nn.Module):
    """An operation that has no deterministic kernel, in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.unpool = nn.MaxPool1d(2, return_indices=True), nn.MaxUnpool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        pooled, where = self.pool(x.unsqueeze(1))
        return self.unpool(pooled, where).squeeze(1)


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        return gradient.put_(torch.tensor([0]), torch.tensor([1.0]))


class Put(nn.Module):
    """The same, in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return _Put.apply(x)


class Empty(nn.Module):
    """Reads memory that it never wrote: NaN, where torch fills it."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * torch.empty(1).isnan()


LAYERS: dict[str, Any] = {
    "none": nn.Identity, "clock": Clock, "late": LateClock, "unpool": Unpool, "put": Put, "drop": nn.Dropout,
    "empty": Empty,
}  # fmt: skip


def train(run: Run, *, layer: str = "none", order: str = "seed") -> dict[str, float]:
    """order: of the data: "seed", or "entropy" for a generator that nobody seeded."""
    with open("starts", "a") as stream:
        stream.write(f"{run.seed}{' in rehearsal' * run.rehearsal}\n")
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), LAYERS[layer]()), nn.Linear(8, 1))
    rng = np.random.default_rng(run.seed if order == "seed" else None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = torch.linspace(-1, 1, 128).view(16, 8)
    loss = torch.zeros(())
    for _ in range(6):
        loss = model(data[torch.from_numpy(rng.permutation(16)[:8])]).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"test/loss": loss.item()}


class Noisy(Dataset[Tensor]):
    """Every worker of a loader gets a copy of this generator, and so the same numbers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((8,), index / 32) + float(self.rng.normal())


def careless(run: Run) -> dict[str, float]:
    """Seeds again, and lets loader workers share a generator."""
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = torch.zeros(())
    for batch in DataLoader(Noisy(3), batch_size=4, num_workers=2):
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    run.save_model(model)
    return {"test/loss": loss.item()}


def by_name(run: Run) -> dict[str, float]:
    """What `careless` does, with functions that were imported by their names, and a generator nobody seeded."""
    manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = torch.zeros(())
    for _ in range(3):
        noise = default_rng().normal() + random.Random().random() + random.Random(7).random()
        loss = (model(torch.ones(4, 8)) + noise).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"test/loss": loss.item()}


def from_the_system(run: Run) -> dict[str, float]:
    """Draws from generators that the operating system seeds, one of them made by a library, and blames no optimizer."""
    noise = np.random.Generator(np.random.PCG64()).normal()
    from scipy.stats import qmc

    noise += qmc.Sobol(1).random(1).item()
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        (model(torch.ones(4, 8)) + noise).square().mean().backward()
        optimizer.step()
    return {"test/loss": 1.0}


def late_imports(run: Run) -> dict[str, float]:
    """Import what makes generators while it is loaded, and draw from NumPy's global one, which is seeded."""
    from sklearn.utils import check_random_state

    seeded = np.random.Generator(np.random.PCG64(np.random.SeedSequence(run.seed)))
    assert isinstance(check_random_state(None), np.random.RandomState)
    return {"test/loss": float(check_random_state(None).normal() + seeded.normal())}
