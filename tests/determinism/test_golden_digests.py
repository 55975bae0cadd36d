"""Digests that were frozen: code that is moved or rewritten keeps the bits of the built-in recipes and of the streams.

Of a recipe they belong to the environment that the file names, and say nothing elsewhere. `UPDATE_GOLDEN=1 pytest
tests/determinism` writes them again: only where the arithmetic of the recipes was changed, with `NUMERICS` raised.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training import finish, handle

from sweep.determinism import digest, fingerprint, seeding
from sweep.determinism.environment import FIELDS, Answer
from sweep.plan import stream_seed
from sweep.target.params import bind, check_params
from sweep.train import recipes

FILE = Path(__file__).with_name("golden_digests.json")
DIGITS = {"data": {"name": "digits", "limit": 160}, "batch_size": 32, "epochs": 2}
RECIPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "mlp, dropout, AdamW": (
        recipes.classifier, {**DIGITS, "model": {"hidden": [32], "dropout": 0.2, "batch_norm": True}},
    ),
    "cnn, SGD, shifts": (
        recipes.classifier,
        {**DIGITS, "model": {"name": "cnn"}, "optimizer": {"name": "sgd"}, "augment": {"shift": 1, "flip": True}},
    ),
    "mlp, bf16": (recipes.classifier, {**DIGITS, "model": {"hidden": [32]}, "precision": "bf16"}),
    "loader workers, step schedule": (
        recipes.classifier,
        {**DIGITS, "model": {"hidden": [16]}, "loader_workers": 0, "schedule": {"name": "step"}, "drop_last": True},
    ),
    "best epoch": (recipes.classifier, {**DIGITS, "model": {"hidden": [16]}, "checkpoint": "best(val/loss)"}),
    "regression": (recipes.regressor, {"epochs": 2}),
    "regression, variance predicted": (recipes.regressor, {"epochs": 2, "variance": "predicted", "batch_size": 64}),
}  # fmt: skip


def trained(folder: Path, name: str) -> dict[str, str]:
    """The whole chain of a recipe, and its metrics to the last bit."""
    function, given = RECIPES[name]
    params = check_params(function, given, kind="recipe")
    run = handle(folder, params=params)
    with seeding.restored():
        metrics = finish(function(**bind(function, params, kind="recipe")), run)
    assert isinstance(metrics, dict), metrics
    said = json.dumps({key: float(value).hex() for key, value in sorted(metrics.items())})
    return {**run.chain, "metrics": hashlib.sha256(said.encode()).hexdigest()}


def drawn() -> dict[str, str]:
    """What the seeds and streams give, and the digest of it: the same on every machine."""
    with seeding.restored():
        seeding.seed_everything(42, deterministic=True)
        ambient = {"random": np.array(random.random()), "torch": torch.rand(3).numpy()}
        ambient["numpy"] = np.random.random(3)  # noqa: NPY002  the global generator is what is asked about
    stream = stream_seed(42, "augment")
    return {
        "ambient": digest.arrays(ambient),
        "streams": str(stream),
        "generator": digest.tensors({"": torch.rand(4, generator=seeding.generator(stream))}),
        "tensors": digest.tensors({"b": torch.arange(3), "a": torch.ones(2, 2, dtype=torch.bfloat16)}),
    }


def environment() -> dict[str, Any]:
    with seeding.restored():
        seeding.set_threads(1)
        seeding.seed_everything(0, deterministic=True)
        numeric, _ = fingerprint.collect("cpu")
    decides = {name: value for name, value in numeric.items() if FIELDS[name] is Answer.NOT_EXPECTED}
    return dict(json.loads(json.dumps(decides)))


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if os.environ.get("UPDATE_GOLDEN"):
        folder = tmp_path_factory.mktemp("golden")
        made = {
            "environment": environment(), "drawn": drawn(),
            "recipes": {name: trained(folder / str(i), name) for i, name in enumerate(RECIPES)},
        }  # fmt: skip
        FILE.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    return dict(json.loads(FILE.read_text()))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_bits_that_were_frozen(tmp_path: Path, golden: dict[str, Any], name: str) -> None:
    here, there = environment(), golden["environment"]
    if here != there:
        unlike = [key for key in {**here, **there} if here.get(key) != there.get(key)]
        pytest.skip(f"they were frozen in another environment: {', '.join(unlike)}")
    assert trained(tmp_path / "run", name) == golden["recipes"][name]


def test_seeds_and_streams_draw_what_they_drew(golden: dict[str, Any]) -> None:
    assert drawn() == golden["drawn"]
