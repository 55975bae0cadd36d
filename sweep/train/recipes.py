"""The built-in recipes, by their parameters. Importing this loads no torch, because a signature is checked first.

A recipe is called with plain values (a mapping represents a part) and returns the parts that the loop
trains with.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sweep.train.params import (
    Augment,
    Count,
    Data,
    Fraction,
    Model,
    Optimizer,
    Precision,
    Schedule,
    StopEarly,
    parse_checkpoint,
)
from sweep.train.recipe import Recipe, built_in

# Part of a run's identity: raised whenever the built-in arithmetic changes, and only then.
NUMERICS = 2


def _check_rule(rule: str) -> str:
    parse_checkpoint(rule)
    return rule


Rule = Annotated[str, AfterValidator(_check_rule)]
Workers = Annotated[int, Field(ge=0)]

# Parts are frozen, so one object can be the default of every call.
# The metrics on val and test at the end. The first and the loss are also measured on val after every epoch.
MEASURED = {"classification": ("accuracy", "nll", "brier", "ece"), "regression": ("rmse", "mae", "r2", "nll")}
_MLP = Model(dropout=0.2)
_DIGITS = Data()
_ADAMW = Optimizer()
_COSINE = Schedule()
_SMALL_MLP = Model(hidden=(64, 64), dropout=0.1)
_DIABETES = Data(name="diabetes")


def classifier(
    *,
    model: Model = _MLP,
    data: Data = _DIGITS,
    optimizer: Optimizer = _ADAMW,
    schedule: Schedule = _COSINE,
    epochs: Count = 40,
    batch_size: Count = 64,
    label_smoothing: Fraction = 0.0,
    augment: Augment | None = None,
    stop_early: StopEarly | None = None,
    checkpoint: Rule = "final",
    precision: Precision = "fp32",
    loader_workers: Workers | None = None,
    compile: bool = False,
    drop_last: bool = False,
) -> Recipe:
    """Predict classes by cross-entropy: test/accuracy, test/nll, test/brier, test/ece; probabilities are saved.

    loader_workers: None holds the data on the device, unless they would take half of its free memory, and
    gathers batches there. 0 or more feeds them from a DataLoader with this many workers. The bits are the same.
    checkpoint: `final`, or `best(val/loss)` for the weights of the epoch that was best on val.
    """
    from sweep.train import losses

    return built_in(
        Model.model_validate(model), Data.model_validate(data), losses.smoothed(label_smoothing),
        optimizer=optimizer, schedule=schedule, epochs=epochs, batch_size=batch_size, augment=augment,
        stop_early=stop_early, checkpoint=checkpoint, precision=precision,
        loader_workers=loader_workers, compile=compile, drop_last=drop_last,
    )  # fmt: skip


def regressor(
    *,
    model: Model = _SMALL_MLP,
    data: Data = _DIABETES,
    optimizer: Optimizer = _ADAMW,
    schedule: Schedule = _COSINE,
    epochs: Count = 40,
    batch_size: Count = 32,
    variance: Literal["residual", "predicted"] = "residual",
    augment: Augment | None = None,
    stop_early: StopEarly | None = None,
    checkpoint: Rule = "final",
    precision: Precision = "fp32",
    loader_workers: Workers | None = None,
    compile: bool = False,
    drop_last: bool = False,
) -> Recipe:
    """Predict one number per example: test/rmse, test/mae, test/r2, test/nll; mean and variance are saved.

    variance: `residual` trains on squared error and takes one variance for all examples from the residuals
    on val. `predicted` trains mean and variance together on the Gaussian likelihood.
    The other parameters are those of `classifier`.
    """
    from sweep.train import losses

    return built_in(
        Model.model_validate(model), Data.model_validate(data),
        losses.LOSSES["gaussian" if variance == "predicted" else "mse"],
        optimizer=optimizer, schedule=schedule, epochs=epochs, batch_size=batch_size, augment=augment,
        stop_early=stop_early, checkpoint=checkpoint, precision=precision,
        loader_workers=loader_workers, compile=compile, drop_last=drop_last,
    )  # fmt: skip
