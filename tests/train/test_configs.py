"""The shipped configs are complete, check against their recipes, and train on a slice of their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from training import finish, handle

from sweep.target.function import find
from sweep.target.params import bind, check_params

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


def test_the_embedded_default_is_the_digits_config() -> None:
    config = yaml.safe_load((CONFIGS / "digits.yaml").read_text())
    function = find(config["recipe"])
    assert check_params(function, config["params"], kind="recipe") == check_params(function, {}, kind="recipe")
