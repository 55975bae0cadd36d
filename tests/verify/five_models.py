"""Five small models as a user would train them, on synthetic data, using every way to be random."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweep.determinism import digest
from sweep.handle import Run

EPOCHS, STEPS = 2, 4


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x.view(len(x), 4, 4))).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, num_layers=2, dropout=0.2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.view(len(x), 4, 4))[0][:, -1])


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(10, 8, mode="mean")
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bag((x * 3).long().clamp(0, 9)))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


MODELS: dict[str, Any] = {
    "mlp": _mlp, "cnn": _cnn, "transformer": Transformer, "lstm": Recurrent, "bag": Bag,
}  # fmt: skip


def train(run: Run, *, model: str = "mlp", batch: int = 8) -> dict[str, float]:
    """Initial weights and dropout from torch, the order from NumPy, noise from `random`."""
    net = MODELS[model]()
    run.digest("initial", digest.module(net))
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(batch * STEPS, 16))).float()
    targets = (inputs.sum(1) > 0).long()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    loss = torch.zeros(())
    for epoch in range(1, EPOCHS + 1):
        for rows in np.random.permutation(len(inputs)).reshape(STEPS, batch):  # noqa: NPY002  users do
            noisy = inputs[rows] + random.gauss(0, 0.01)
            loss = nn.functional.cross_entropy(net(noisy), targets[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        run.digest(f"epoch/{epoch}", digest.module(net))
        run.log({"train/loss": loss.item()}, step=epoch)
    run.save_model(net)
    return {"train/loss": loss.item()}
