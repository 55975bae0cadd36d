"""What the digest chain costs: the digits MLP with a digest after every epoch, against its training.

    python benchmarks/digest.py [EPOCHS]

Per epoch, on one thread: the milliseconds of processor time (neighbours do not count) of its steps and
validation, of its digest, and their ratio, as medians over the epochs; beside it what sha256 alone takes for as
many bytes. Wanted: below 1 %.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import nn

from sweep import digest, seeding

BATCH, TRAIN, VAL = 64, 1147, 200


def main(epochs: int) -> None:
    seeding.set_threads(1)
    print(f"{'hidden':>12} {'parameters':>10} {'epoch ms':>9} {'digest ms':>9} {'sha256 ms':>9} {'share':>7}")
    for hidden in ((64, 64), (256, 256)):
        model, training, hashing = train(hidden, epochs)
        parameters = sum(each.numel() for each in model.parameters())
        bare = milliseconds(lambda data=bytes(4 * parameters): hashlib.sha256(data))
        row = f"{parameters:>10,} {training:>9.2f} {hashing:>9.3f} {bare:>9.3f} {hashing / training:>7.2%}"
        print(f"{hidden!s:>12} {row}")


def train(hidden: tuple[int, ...], epochs: int) -> tuple[nn.Module, float, float]:
    """(the model, milliseconds of an epoch's training, milliseconds of its digest) in deterministic mode."""
    seeding.seed_everything(42, deterministic=True)
    inputs, targets = (torch.from_numpy(each) for each in load_digits(return_X_y=True))
    inputs = inputs.float() / 16
    layers: list[nn.Module] = []
    for wide, narrow in pairwise([64, *hidden, 10]):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    order = seeding.generator(1)
    training, hashing = [], []
    for _ in range(epochs):
        begun = time.process_time()
        for rows in torch.randperm(TRAIN, generator=order).split(BATCH):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            nn.functional.cross_entropy(model(inputs[TRAIN : TRAIN + VAL]), targets[TRAIN : TRAIN + VAL]).item()
        middle = time.process_time()
        digest.module(model)
        training.append(middle - begun)
        hashing.append(time.process_time() - middle)
    return model, 1000 * statistics.median(training), 1000 * statistics.median(hashing)


def milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(50):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
