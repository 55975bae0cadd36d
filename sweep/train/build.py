"""Put the parameters of a built-in recipe together into its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sweep.errors import ConfigError
from sweep.train import augment, data, models, optim, scoring
from sweep.train.data import Dataset
from sweep.train.losses import gaussian, squared
from sweep.train.params import Augment, Data, Model, Optimizer, Schedule, StopEarly, parse_checkpoint
from sweep.train.recipe import Recipe
from sweep.train.schedule import factor
from sweep.train.splits import Fold, Task


def classifier(model: Model, source: Data, label_smoothing: float, **training: Any) -> Recipe:
    """Return a recipe for classes: logits under cross-entropy."""
    return _recipe(
        model, source, "classification",
        loss=partial(nn.functional.cross_entropy, label_smoothing=label_smoothing),
        judged=lambda found: scoring.classification(),
        about=lambda found: {"outputs": found.outputs, "classes": list(found.classes)},
        **training,
    )  # fmt: skip


def regressor(model: Model, source: Data, variance: Literal["residual", "predicted"], **training: Any) -> Recipe:
    """Return a recipe for numbers: one mean, and with `predicted` the logarithm of a variance, of scaled targets."""
    return _recipe(
        model, source, "regression",
        loss=gaussian if variance == "predicted" else squared,
        judged=lambda found: scoring.regression(found, variance),
        about=lambda found: {
            "outputs": 2 if variance == "predicted" else 1,
            "variance": variance,
            "target": {"mean": found.target_mean, "std": found.target_std},
        },
        **training,
    )  # fmt: skip


def _recipe(
    model: Model,
    source: Data,
    task: Task,
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    judged: Callable[[Dataset], scoring.Scoring],
    about: Callable[[Dataset], Mapping[str, Any]],
    optimizer: Optimizer | Mapping[str, Any],
    schedule: Schedule | Mapping[str, Any],
    augment: Augment | Mapping[str, Any] | None,
    stop_early: StopEarly | Mapping[str, Any] | None,
    checkpoint: str,
    **plain: Any,
) -> Recipe:
    """Return the recipe of these parameters. about: what is stored beside the weights, `outputs` among it."""
    stepping = Optimizer.model_validate(optimizer)
    assert stepping.lr is not None
    rate = stepping.lr

    def made(split: int | Fold | None = None) -> Recipe:
        load = partial(data.load, source, task, split)
        return Recipe(
            data=load,
            model=lambda found: models.build(model, found.input_shape, about(found)["outputs"]),
            loss=loss,
            optimizer=partial(optim.build, stepping),
            lr=rate,
            schedule=partial(factor, Schedule.model_validate(schedule)),
            scoring=judged,
            augment=None if augment is None else augmenting(Augment.model_validate(augment), load),
            stop_early=None if stop_early is None else StopEarly.model_validate(stop_early),
            best=parse_checkpoint(checkpoint),
            resplit=made,
            meta=lambda found: {
                "task": task,
                **about(found),
                "model": model.model_dump(mode="json"),
                "input_shape": list(found.input_shape),
                "dtype": "float32",
                "normalisation": found.normalisation,
            },
            **plain,
        )

    return made()


def augmenting(spec: Augment, load: Callable[[], Dataset]) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return the augmentation of a spec, with the data's own black; None for none. Raises: ConfigError."""
    if not (spec.shift or spec.flip):
        return None
    found = load()
    if len(found.input_shape) != 3:
        raise ConfigError(
            f"images are needed to shift or flip, the examples are {found.input_shape}",
            where="params.augment",
        )
    black = [-mean / std for mean, std in zip(found.mean, found.std, strict=True)]
    return augment.build(spec, torch.tensor(black, dtype=torch.float32).view(-1, 1, 1))
