"""Small recipes of every kind of model, on made-up data, trained alone and in lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sweep.determinism.seeding import seed_everything
from sweep.handle import Run
from sweep.plan import STREAMS, RunSpec, Target, stream_seed
from sweep.store import Attempt, Failure
from sweep.store.owner import this_process
from sweep.train import lanes, loop
from sweep.train.data import Dataset, Split
from sweep.train.recipe import Recipe
from sweep.train.scoring import classification

CLASSES, EXAMPLES, BATCH = 4, 5 * 32 + 7, 32  # five whole batches and a smaller one an epoch


@cache
def images() -> Dataset:
    return _data((1, 12, 12))


@cache
def tokens() -> Dataset:
    return _data((12,), whole=20)


def _data(shape: tuple[int, ...], whole: int | None = None) -> Dataset:
    draw = torch.Generator().manual_seed(1)

    def split(count: int, first: int) -> Split:
        size = (count, *shape)
        inputs = (
            torch.randn(size, generator=draw)
            if whole is None
            else torch.randint(0, whole, size, generator=draw).float()
        )
        targets = torch.randint(0, CLASSES, (count,), generator=draw)
        return Split(inputs, targets, torch.arange(first, first + count))

    return Dataset(split(EXAMPLES, 0), split(40, EXAMPLES), split(48, EXAMPLES + 40), outputs=CLASSES)


def mlp(data: Dataset) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, CLASSES))


def cnn(data: Dataset) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, CLASSES),
    )  # fmt: skip


def resnet(data: Dataset) -> nn.Module:
    from sweep.train.models import build

    return build({"name": "resnet", "channels": [4, 8], "blocks": 1}, data.input_shape, CLASSES)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(self.embed(inputs.long())).mean(1))
        return out


def transformer(data: Dataset) -> nn.Module:
    return Transformer()


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.lstm(self.embed(inputs.long()))
        out: Tensor = self.head(states[:, -1])
        return out


def lstm(data: Dataset) -> nn.Module:
    return Lstm()


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 16, mode="mean")
        self.head = nn.Linear(16, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.head(self.bag(inputs.long()))
        return out


def bag(data: Dataset) -> nn.Module:
    return Bag()


MODELS: dict[str, tuple[Callable[[Dataset], nn.Module], Callable[[], Dataset]]] = {
    "mlp": (mlp, images),
    "cnn": (cnn, images),
    "resnet": (resnet, images),
    "transformer": (transformer, tokens),
    "lstm": (lstm, tokens),
    "bag": (bag, tokens),
}


def sgd(parameters: Any, lr: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=5e-4, fused=True)


def adamw(parameters: Any, lr: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, fused=True, capturable=isinstance(lr, Tensor))


def cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + cos(pi * step / steps))


def recipe(model: str = "cnn", optimizer: str = "adamw", **parts: Any) -> Recipe:
    build, data = MODELS[model]
    made = Recipe(
        data=data, model=build, loss=nn.functional.cross_entropy,
        optimizer={"sgd": sgd, "adamw": adamw}[optimizer], lr={"sgd": 0.05, "adamw": 0.003}[optimizer],
        schedule=cosine, scoring=lambda found: classification(), epochs=2, batch_size=BATCH,
    )  # fmt: skip
    return replace(made, **parts)


def handle(
    folder: Path, seed: int, *, deterministic: bool = True, vectorize: int = 0, device: str = "cuda",
    every: tuple[int, float] = (0, 60.0),
    stopping: Callable[[], bool] | None = None, previous: tuple[Path, ...] = (),
) -> Run:  # fmt: skip
    folder.mkdir(parents=True)
    spec = RunSpec(
        # What is found out about a recipe is kept by its spec: no two of these are one.
        target=Target("recipe", "tests:recipe"), params={"folder": str(folder.parent)}, variant="", task="", seed=seed,
        streams={name: stream_seed(seed, name) for name in STREAMS}, repeat=0, deterministic=deterministic,
        device=device, threads=1, data="", vectorize=vectorize,
    )  # fmt: skip
    attempt = Attempt(folder, spec.id, this_process(), number=1 + len(previous), previous=previous)
    return Run(spec, attempt, every, stopping or (lambda: False))


Trainer = Callable[[Recipe, Sequence[Run]], Iterator[tuple[int, Any]]]


def train(trainer: Trainer, made: Recipe, runs: Sequence[Run]) -> dict[int, dict[str, float] | Failure]:
    """Results by seed; what the runs wrote is flushed."""
    seed_everything(runs[0].seed, deterministic=runs[0].deterministic)
    try:
        return {runs[index].seed: result for index, result in trainer(made, runs)}
    finally:
        for run in runs:
            run.attempt.close()


def chains(trainer: Trainer, made: Recipe, folder: Path, seeds: Sequence[int]) -> dict[int, Mapping[str, str]]:
    """Every seed's chain of digests and its history, trained by `trainer`."""
    runs = [handle(folder / f"seed{seed}", seed) for seed in seeds]
    for seed, result in train(trainer, made, runs).items():
        assert not isinstance(result, Failure), (seed, result)
    return {run.seed: chain(run) for run in runs}


def chain(run: Run) -> Mapping[str, str]:
    return {**run.chain, "history": (run.attempt.path / "history.jsonl").read_text()}


def alone(made: Recipe, folder: Path, seeds: Sequence[int]) -> dict[int, Mapping[str, str]]:
    """The plain loop, one seed after the other."""
    return chains(loop.train, made, folder, seeds)


def in_lanes(
    made: Recipe, folder: Path, seeds: Sequence[int], together: bool | None = None
) -> dict[int, Mapping[str, str]]:
    found = {}
    for seed, links in chains(partial(lanes.train, together=together), made, folder, seeds).items():
        found[seed] = links
    notes = [path for path in folder.glob("*/log.txt") if "trained alone" in path.read_text()]
    assert not notes, notes[0].read_text()
    return found
