"""Vectorised packs on a GPU: at one width a seed has its bits in any company and row, alone, and after a stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpukit as kit
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sweep.job import Interrupted
from sweep.store import Failure
from sweep.train import vector
from sweep.train.augment import build
from sweep.train.params import Augment
from sweep.train.recipe import Recipe

WIDTH = 8


class Attention(nn.Module):
    """Over the twelve rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.head = nn.Linear(12, 96), nn.Linear(32, kit.CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = self.mix(inputs.flatten(1, 2)).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, dropout_p=0.1 if self.training else 0.0)
        out: Tensor = self.head(F.dropout(seen.transpose(1, 2).flatten(2).mean(1), 0.1, self.training))
        return out


class Tokens(nn.Module):
    """An embedding whose weight is the head as well, over pixels in six steps of grey."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix = nn.Embedding(kit.CLASSES, 16), nn.Linear(16, 16)

    def forward(self, inputs: Tensor) -> Tensor:
        ids = (inputs.flatten(1) * 3).long().clamp(0, kit.CLASSES - 1)
        out: Tensor = self.mix(self.embedding(ids).mean(1)) @ self.embedding.weight.t()
        return out


kit.MODELS["attention"] = (lambda data: Attention(), kit.images)
kit.MODELS["tokens"] = (lambda data: Tokens(), kit.images)
MODELS = "mlp", "cnn", "attention", "tokens"
PLAIN = [(m, o, p, False) for m in MODELS for o in ("sgd", "adamw") for p in ("fp32", "tf32")]
COMPILED = [
    ("mlp", "adamw", "fp32", True),
    ("cnn", "sgd", "tf32", True),
    ("attention", "adamw", "fp32", True),
    ("tokens", "adamw", "fp32", True),
]


def name(case: tuple[str, str, str, bool]) -> str:
    return "-".join([*case[:3], "compiled" if case[3] else "plain"])


def trained(made: Recipe, folder: Path, seeds: Sequence[int], **more: Any) -> dict[int, Mapping[str, str]]:
    runs = [kit.handle(folder / f"seed{seed}", seed, vectorize=WIDTH, **more) for seed in seeds]
    for seed, result in kit.train(vector.train, made, runs).items():
        assert not isinstance(result, Failure), (seed, result)
    return {run.seed: kit.chain(run) for run in runs}


@pytest.mark.filterwarnings("default")  # torch's compiler warns about itself
@pytest.mark.parametrize("case", PLAIN + COMPILED, ids=name)
def test_a_seed_has_its_bits_in_any_company_and_row(tmp_path: Path, case: tuple[str, str, str, bool]) -> None:
    model, optimizer, precision, compiled = case
    made = kit.recipe(model, optimizer, precision=precision, compile=compiled, batch_size=8)
    wanted = trained(made, tmp_path / "full", range(WIDTH))
    assert len({links["final"] for links in wanted.values()}) == WIDTH
    assert trained(made, tmp_path / "backwards", range(WIDTH - 1, -1, -1)) == wanted
    assert trained(made, tmp_path / "alone", [3]) == {3: wanted[3]}
    assert trained(made, tmp_path / "others", [20, 5, 21])[5] == wanted[5]
    beside = trained(made, tmp_path / "side by side", range(3 * WIDTH - 1, -1, -1))  # three packs at once
    assert {seed: beside[seed] for seed in wanted} == wanted


@pytest.mark.parametrize("workers", [None, 0], ids=["on-device", "loader"])
def test_an_interrupted_pack_goes_on_to_the_same_bits_in_other_company(tmp_path: Path, workers: int | None) -> None:
    augment = build(Augment(shift=2, flip=True), torch.zeros(1, 1, 1))
    made, seeds = kit.recipe("mlp", batch_size=2, epochs=2, augment=augment), range(4)
    wanted = trained(made, tmp_path / "whole", seeds)
    made = replace(made, loader_workers=workers)
    looks: list[int] = []

    def stopping() -> bool:
        looks.append(1)
        return len(looks) > 7

    runs = [
        kit.handle(tmp_path / f"first{s}", s, vectorize=WIDTH, stopping=stopping, every=(0, 0)) for s in seeds
    ]  # fmt: skip
    with pytest.raises(Interrupted):
        kit.train(vector.train, made, runs)
    again = [kit.handle(tmp_path / f"again{s}", s, vectorize=WIDTH, previous=(tmp_path / f"first{s}",)) for s in (3, 0)]
    kit.train(vector.train, made, again)
    assert [run.resumed for run in again] == [True, True]
    assert {run.seed: kit.chain(run) for run in again} == {seed: wanted[seed] for seed in (3, 0)}
