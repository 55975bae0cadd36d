"""Batch norm and a batch of one example: refused before the start where the model could not learn from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweep.cli.app import main
from sweep.errors import ConfigError
from sweep.target.params import check_params
from sweep.train import models
from sweep.train.batches import require_batches
from sweep.train.data import load
from sweep.train.params import Data
from sweep.train.recipes import classifier

COUNT = 1146  # training examples of digits
MLP = {"hidden": [8], "batch_norm": True}
CNN = {"name": "cnn", "channels": [4], "batch_norm": True}
RESNET = {"name": "resnet", "blocks": 1}


def refused(**params: Any) -> ConfigError | None:
    try:
        plain = check_params(classifier, params, kind="recipe")
        require_batches(plain, "classification", where="params")
    except ConfigError as error:
        return error
    return None


def test_the_number_of_training_examples_is_that_of_the_data() -> None:
    assert len(load(Data(), "classification").train) == COUNT


def test_a_last_batch_of_one_is_refused_before_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "o"
    words = ["params.batch_size=5", "params.epochs=1", "params.model.batch_norm=true", "--engine", "inline"]
    code = main(["run", *words, "--seeds", "1", "--out", str(out)])
    said = capsys.readouterr().err
    assert code == 2
    assert "batch_size 5" in said
    assert "drop_last" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"model": MLP, "batch_size": 5}, "drop_last"),
        ({"model": MLP, "batch_size": 1145}, "drop_last"),
        ({"model": MLP, "batch_size": 1}, "2 or more"),
        ({"model": MLP, "batch_size": 1, "drop_last": True}, "2 or more"),
        ({"model": {**CNN, "hidden": [8]}, "batch_size": 5}, "drop_last"),
        ({"model": {**RESNET, "channels": [4, 4, 4, 4]}, "batch_size": 5}, "drop_last"),
    ],
)
def test_batches_of_one_name_the_way_out(params: dict[str, Any], wanted: str) -> None:
    error = refused(**params)
    assert error is not None
    assert wanted in (error.hint or "")


@pytest.mark.parametrize(
    "params",
    [
        {"model": MLP, "batch_size": 4},
        {"model": MLP, "batch_size": 5, "drop_last": True},
        {"model": MLP, "batch_size": 5000},
        {"model": {"hidden": [8]}, "batch_size": 5},
        {"model": {"hidden": [], "batch_norm": True}, "batch_size": 5},
        {"model": {**CNN, "hidden": []}, "batch_size": 5},
        {"model": {**RESNET, "channels": [4, 4, 4]}, "batch_size": 5},
    ],
)
def test_what_can_learn_is_let_through(params: dict[str, Any]) -> None:
    assert refused(**params) is None


@pytest.mark.parametrize(
    "model",
    [
        MLP, {"hidden": [], "batch_norm": True}, {**CNN, "hidden": [8]}, {**CNN, "hidden": []},
        {**RESNET, "channels": [4, 4, 4]}, {**RESNET, "channels": [4, 4, 4, 4]},
    ],
)  # fmt: skip
def test_a_model_is_refused_exactly_where_torch_would_refuse_it(model: dict[str, Any]) -> None:
    module = models.build(model, (1, 8, 8), 10).train()
    try:
        module(torch.zeros(1, 1, 8, 8))
        learns = True
    except ValueError:
        learns = False
    assert (refused(model=model, batch_size=5) is None) == learns


def test_the_number_follows_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    for count, bad in ((21, True), (20, False)):
        x, y = np.zeros((count, 2)), np.arange(count) % 2
        np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y, x_val=x, y_val=y)
        error = refused(model=MLP, batch_size=10, data={"name": "npz", "path": str(path)})
        assert (error is not None) == bad


def test_each_seed_of_varied_splits_is_counted(tmp_path: Path) -> None:
    """With a limit, how many examples are left for training depends on the classes that a split draws."""
    draw = np.random.default_rng(0)
    path = tmp_path / "d.npz"
    np.savez(path, x=draw.normal(size=(300, 2)), y=draw.integers(0, 7, 300))
    data = {"name": "npz", "path": str(path), "limit": 90}
    counts = {seed: len(load(Data.model_validate(data), "classification", seed).train) for seed in range(40)}
    assert len(set(counts.values())) > 1
    seed, count = next((seed, count) for seed, count in counts.items() if count != counts[0])
    plain = check_params(classifier, {"model": MLP, "batch_size": count - 1, "data": data}, kind="recipe")
    require_batches(plain, "classification", where="params", splits=[0])  # negative control
    with pytest.raises(ConfigError, match=str(count)):
        require_batches(plain, "classification", where="params", splits=[0, seed])


def test_counting_loads_no_torch() -> None:
    code = (
        "import sys; from sweep.train.batches import look; from sweep.train.params import Data\n"
        "look(Data(), 'classification'); sys.exit('torch' if 'torch' in sys.modules else '')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
