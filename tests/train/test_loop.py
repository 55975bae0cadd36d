"""What the built-in trainer promises: bits that depend on the seed alone, results chosen on val, honest ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from predicted import read
from training import finish, handle, recipe_of, trained

from sweep.errors import ConfigError
from sweep.store import Failure
from sweep.train import recipes


def history(run: Any) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.dir / "history.jsonl").read_text().splitlines()]


def test_equal_seeds_give_equal_bits_and_different_seeds_do_not(tmp_path: Path) -> None:
    first, again, other = (trained(tmp_path / str(i), seed=s) for i, s in enumerate((42, 42, 43)))
    assert first.chain == again.chain
    assert list(first.chain) == [
        "initial", "first_batch", *(f"epoch/{k}" for k in range(1, 5)), "final", "predictions/val",
        "predictions/test",
    ]  # fmt: skip
    assert not set(first.chain.values()) & set(other.chain.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_do_not_change_a_bit(tmp_path: Path, workers: int) -> None:
    params = {
        "model": {"name": "cnn", "channels": [4], "hidden": [16], "dropout": 0.2},
        "augment": {"shift": 2, "flip": True},
    }
    held = trained(tmp_path / "held", params)
    fed = trained(tmp_path / "fed", {**params, "loader_workers": workers})
    assert held.chain == fed.chain


@pytest.mark.parametrize(
    ("stream", "changes"),
    [("init", {"initial"}), ("order", {"first_batch"}), ("dropout", set()), ("augment", {"first_batch"})],
)
def test_each_stream_changes_its_own_part(tmp_path: Path, stream: str, changes: set[str]) -> None:
    params = {"augment": {"shift": 1}}
    base = trained(tmp_path / "base", params)
    varied = trained(tmp_path / "varied", params, streams={stream: 7})
    early = {link for link in ("initial", "first_batch") if base.chain[link] != varied.chain[link]}
    assert early == changes
    assert base.chain["final"] != varied.chain["final"]


def test_the_architecture_does_not_change_the_order(tmp_path: Path) -> None:
    small = trained(tmp_path / "small")
    large = trained(tmp_path / "large", {"model": {"hidden": [32, 8], "dropout": 0.5}})
    assert small.chain["first_batch"] == large.chain["first_batch"]
    assert small.chain["initial"] != large.chain["initial"]


def test_what_is_written_suffices_to_score_and_rebuild(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from sweep.train.models import build

    recipe, run = recipe_of(), handle(tmp_path / "run")
    metrics = finish(recipe, run)
    assert isinstance(metrics, dict)
    saved = read(run.dir / "predictions-test.npz")
    assert saved.probs is not None
    hits = saved.probs.argmax(1) == saved.targets
    assert metrics["test/accuracy"] == pytest.approx(hits.mean())
    rows = np.arange(len(hits))
    assert metrics["test/nll"] == pytest.approx(-np.log(saved.probs[rows, saved.targets]).mean(), rel=1e-6)
    about = json.loads((run.dir / "model.json").read_text())
    model = build(about["model"], about["input_shape"], about["outputs"])
    model.load_state_dict(load_file(run.dir / "model.safetensors"))
    with torch.no_grad():
        again = model.eval()(recipe.data().test.inputs).softmax(1)
    assert np.allclose(again.numpy(), saved.probs, atol=1e-6)
    assert len(about["classes"]) == 10
    assert about["normalisation"]["std"][0] > 1


def test_the_best_epoch_on_val_is_the_result(tmp_path: Path) -> None:
    """A rate that ruins the model after a good beginning: the rule picks the beginning."""
    params = {"optimizer": {"name": "sgd", "lr": 0.3}, "model": {"hidden": [16]}, "epochs": 6}
    run = handle(tmp_path / "run")
    metrics = finish(recipe_of({**params, "checkpoint": "best(val/loss)"}), run)
    assert isinstance(metrics, dict)
    losses = [row["val/loss"] for row in history(run)]
    best = int(np.argmin(losses)) + 1
    assert (run.outcome["rule"], run.outcome["epoch"]) == ("best(val/loss)", best)
    assert metrics["val/loss"] == losses[best - 1]
    assert run.chain["final"] == run.chain[f"epoch/{best}"]
    assert metrics["val/nll"] == pytest.approx(losses[best - 1], rel=1e-5)


def test_the_final_epoch_is_the_result_otherwise(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    assert run.outcome == {"rule": "final", "epoch": 4, "examples": {"train": 85, "val": 15, "test": 100}}
    assert run.chain["final"] == run.chain["epoch/4"]


def test_stopping_early_ends_after_patience(tmp_path: Path) -> None:
    stop = {"metric": "val/accuracy", "patience": 2, "min_delta": 1.0}
    run = trained(tmp_path / "run", {"stop_early": stop, "epochs": 50})
    assert len(history(run)) == 3
    assert run.outcome["epoch"] == 3


def test_a_diverged_run_fails_and_keeps_what_it_logged(tmp_path: Path) -> None:
    run = handle(tmp_path / "run")
    result = finish(recipe_of({"optimizer": {"name": "sgd", "lr": 1e30}}), run)
    assert isinstance(result, Failure)
    assert result.kind == "diverged"
    assert "train/loss is" in result.message
    assert "val/loss" in run.last
    assert not (run.dir / "model.safetensors").exists()


def test_a_metric_that_is_not_measured_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="val/rmse is not measured"):
        finish(recipe_of({"checkpoint": "best(val/rmse)"}), handle(tmp_path / "run"))


SMALL_MODELS = [
    {"name": "mlp", "hidden": [32]},
    {"name": "cnn", "channels": [8], "hidden": [16], "batch_norm": True},
    {"name": "resnet", "channels": [4, 8], "blocks": 1},
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", [{"name": "sgd"}, {"name": "adamw", "lr": 0.02}], ids=["sgd", "adamw"])
@pytest.mark.parametrize("model", SMALL_MODELS, ids=["mlp", "cnn", "resnet"])
def test_every_model_learns_its_training_data(
    tmp_path: Path, precision: str, optimizer: dict[str, Any], model: dict[str, Any]
) -> None:
    run = trained(tmp_path / "run", {"model": model, "optimizer": optimizer, "epochs": 6, "precision": precision})
    rows = history(run)
    assert rows[-1]["train/loss"] < 0.8 * rows[0]["train/loss"]


def test_drop_last_leaves_out_the_smaller_batch(tmp_path: Path) -> None:
    sizes: list[int] = []
    recipe = recipe_of({"batch_size": 20, "drop_last": True, "epochs": 1})

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            sizes.append(len(targets))
        return recipe.loss(outputs, targets)

    finish(replace(recipe, loss=loss), handle(tmp_path / "run"))
    assert sizes == [20, 20, 20, 20]


@pytest.mark.parametrize("variance", ["residual", "predicted"])
def test_regression_is_scored_in_the_units_of_its_targets(tmp_path: Path, variance: str) -> None:
    run = handle(tmp_path / "run")
    metrics = finish(recipes.regressor(variance=variance, epochs=40), run)  # type: ignore[arg-type]
    assert isinstance(metrics, dict)
    saved = read(run.dir / "predictions-test.npz")
    assert saved.mean is not None
    assert saved.var is not None
    error = saved.mean - saved.targets
    assert saved.targets.mean() > 100  # disease progression, not a standard score
    assert metrics["test/rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    nll = 0.5 * (error**2 / saved.var + np.log(2 * np.pi * saved.var)).mean()
    assert metrics["test/nll"] == pytest.approx(nll)
    assert 0.3 < metrics["test/r2"] < 0.7
    assert history(run)[-1]["val/rmse"] == pytest.approx(metrics["val/rmse"], rel=1e-5)
