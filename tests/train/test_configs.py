"""The shipped configs are complete, check against their recipes, and train on a slice of their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from training import finish, handle

from sweep.config import load
from sweep.errors import ConfigError
from sweep.prepare import prepare
from sweep.target.function import find
from sweep.target.params import bind, check_params
from sweep.train.recipes import MEASURED

CONFIGS = Path(__file__).parents[2] / "configs"
FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.parametrize("name", ["digits", "digits_deterministic", "diabetes", "fashion_mnist_cnn"])
def test_a_shipped_config_trains_on_a_slice(tmp_path: Path, name: str) -> None:
    config: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    if name == "fashion_mnist_cnn" and not FASHION.is_dir():
        pytest.skip(f"{FASHION} is not there: apt install dataset-fashion-mnist")
    function = find(config["recipe"])
    params = {**config["params"], "epochs": 1, "data": {**config["params"]["data"], "limit": 200}}
    plain = check_params(function, params, kind="recipe")
    run = handle(tmp_path / "run")
    metrics = finish(function(**bind(function, plain, kind="recipe")), run)
    assert isinstance(metrics, dict)
    assert config["primary"] in metrics
    task = "regression" if config["recipe"].endswith("regressor") else "classification"
    for split in ("test/", "val/"):
        found = {name.removeprefix(split) for name in metrics if name.startswith(split)}
        assert found - {"loss"} == set(MEASURED[task])
    assert {f"val/{MEASURED[task][0]}", "val/loss", "train/loss"} <= set(metrics)


def test_the_embedded_default_is_the_digits_config() -> None:
    config = yaml.safe_load((CONFIGS / "digits.yaml").read_text())
    function = find(config["recipe"])
    assert check_params(function, config["params"], kind="recipe") == check_params(function, {}, kind="recipe")


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("primary", {"primary": "test/acuracy"}),
        ("primary", {"primary": "test/rmse"}),
        ("primary", {"recipe": "sweep.train.recipes:regressor", "primary": "test/accuracy"}),
        ("until", {"until": "test/rmse ± 0.1"}),
        ("params.checkpoint", {"checkpoint": {"keep": "best(val/nll)"}}),
        ("params.checkpoint", {"params": {"checkpoint": "best(val/rmse)"}}),
        ("params.stop_early.metric", {"params": {"stop_early": {"metric": "val/nll"}}}),
    ],
)
def test_a_metric_that_a_built_in_recipe_does_not_measure_is_refused_before_the_start(
    key: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="does not measure") as caught:
        prepare(load(None, seeds="0-2", **settings))
    assert caught.value.where == key
    assert "val/" in str(caught.value.hint)


def test_a_metric_that_it_measures_is_taken() -> None:
    for settings in ({"primary": "val/ece"}, {"primary": "train/loss"}, {"until": "test/nll ± 0.1"}):
        prepare(load(None, seeds="0-2", **settings))
    prepare(load(None, seeds="0-2", params={"stop_early": {"metric": "val/accuracy"}}, checkpoint="best(val/loss)"))


@pytest.mark.parametrize("settings", [{"train": "toys:weights"}, {"command": ["echo", "{seed}"]}])
def test_lanes_of_code_with_a_loop_of_its_own_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="its own training loop") as caught:
        prepare(load(None, seeds="0-2", lanes=4, **settings))
    assert caught.value.where == "lanes"
    prepare(load(None, seeds="0-2", lanes="auto", **settings))
