"""Puts the parameters of a built-in recipe together into its parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from sweep.errors import ConfigError
from sweep.train import augment, data, models, optim, scoring
from sweep.train.data import Dataset
from sweep.train.losses import gaussian, squared
from sweep.train.params import Augment, Data, Model, Optimizer, Schedule, StopEarly, parse_checkpoint
from sweep.train.recipe import Recipe
from sweep.train.schedule import factor


def training(
    *,
    optimizer: Optimizer | Mapping[str, Any],
    schedule: Schedule | Mapping[str, Any],
    augment: Augment | Mapping[str, Any] | None,
    stop_early: StopEarly | Mapping[str, Any] | None,
    checkpoint: str,
    **plain: Any,
) -> dict[str, Any]:
    """The fields of a Recipe that do not depend on what is predicted."""
    optimizer = Optimizer.model_validate(optimizer)
    assert optimizer.lr is not None
    return {
        "optimizer": partial(optim.build, optimizer),
        "lr": optimizer.lr,
        "schedule": partial(factor, Schedule.model_validate(schedule)),
        "augment": None if augment is None else Augment.model_validate(augment),
        "stop_early": None if stop_early is None else StopEarly.model_validate(stop_early),
        "best": parse_checkpoint(checkpoint),
        **plain,
    }


def classifier(
    model: Model, source: Data, label_smoothing: float, parts: Mapping[str, Any], split: int | None = None
) -> Recipe:
    """Logits under cross-entropy. split: the seed of a split of its own; None: the one fixed by the data."""
    load = partial(data.load, source, "classification", split)
    return Recipe(
        data=load,
        model=lambda found: models.build(model, found.input_shape, found.outputs),
        loss=partial(nn.functional.cross_entropy, label_smoothing=label_smoothing),
        scoring=lambda found: scoring.classification(),
        resplit=partial(classifier, model, source, label_smoothing, parts),
        meta=lambda found: {
            "task": "classification",
            "outputs": found.outputs,
            "classes": list(found.classes),
            **_about(model, found),
        },
        **{**parts, "augment": augmenting(parts["augment"], load)},
    )


def regressor(
    model: Model, source: Data, variance: Literal["residual", "predicted"], parts: Mapping[str, Any],
    split: int | None = None,
) -> Recipe:  # fmt: skip
    """One mean, and with `predicted` the logarithm of a variance, both in units of the scaled targets."""
    load = partial(data.load, source, "regression", split)
    outputs = 2 if variance == "predicted" else 1
    return Recipe(
        data=load,
        model=lambda found: models.build(model, found.input_shape, outputs),
        loss=gaussian if variance == "predicted" else squared,
        scoring=lambda found: scoring.regression(found, variance),
        resplit=partial(regressor, model, source, variance, parts),
        meta=lambda found: {
            "task": "regression",
            "outputs": outputs,
            "variance": variance,
            "target": {"mean": found.target_mean, "std": found.target_std},
            **_about(model, found),
        },
        **{**parts, "augment": augmenting(parts["augment"], load)},
    )


def _about(model: Model, found: Dataset) -> dict[str, Any]:
    return {
        "model": model.model_dump(mode="json"),
        "input_shape": list(found.input_shape),
        "dtype": "float32",
        "normalisation": found.normalisation,
    }


def augmenting(spec: Augment | None, load: Any) -> Any:
    """Return the augmentation of a spec, with the data's own black; None for none. Raises: ConfigError."""
    if spec is None or not (spec.shift or spec.flip):
        return None
    found: Dataset = load()
    if len(found.input_shape) != 3:
        raise ConfigError(
            f"images are needed to shift or flip, the examples are {found.input_shape}",
            where="params.augment",
        )
    black = [-mean / std for mean, std in zip(found.mean, found.std, strict=True)]
    return augment.build(spec, torch.tensor(black, dtype=torch.float32).view(-1, 1, 1))
