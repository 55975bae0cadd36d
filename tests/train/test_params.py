"""Parameters are complete once made, strict about names, and never choose on test."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sweep.train.optim import factor
from sweep.train.params import Data, Model, Optimizer, Part, Schedule, StopEarly, parse_checkpoint


@pytest.mark.parametrize(
    "part",
    [
        Model(), Model(name="cnn"), Model(name="resnet"), Optimizer(), Optimizer(name="sgd"),
        Schedule(name="step"), Data(), Data(name="npz", path="x.npz"),
    ],
)  # fmt: skip
def test_the_json_of_a_part_is_the_part(part: Part) -> None:
    assert type(part).model_validate(part.model_dump(mode="json")) == part


def test_defaults_that_depend_on_a_name_are_filled_in() -> None:
    assert Optimizer(name="sgd").lr == 0.05
    assert Optimizer(lr=0.3).lr == 0.3
    assert Optimizer(name="adamw", lr=None).lr == 1e-3
    assert Model(name="cnn").channels == (32, 64)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Model, {"channels": [3]}, "channels does not apply to mlp"),
        (Model, {"name": "resnet", "batch_norm": False}, "a resnet always has batch norm"),
        (Model, {"hiden": [3]}, "Extra inputs"),
        (Model, {"hidden": [0]}, "greater than or equal to 1"),
        (Model, {"dropout": 1.0}, "less than 1"),
        (Optimizer, {"name": "adamw", "momentum": 0.9}, "momentum does not apply to adamw"),
        (Optimizer, {"lr": float("nan")}, "finite"),
        (Optimizer, {"lr": -1}, "greater than 0"),
        (Optimizer, {"name": "sgd", "momentum": 0, "nesterov": True}, "nesterov needs a momentum"),
        (Schedule, {"name": "linear"}, "'constant', 'cosine' or 'step'"),
        (Data, {"name": "idx"}, "idx needs folder"),
        (Data, {"name": "digits", "path": "x"}, "path does not apply to digits"),
        (StopEarly, {"metric": "test/loss"}, "never on test"),
        (StopEarly, {"metric": "train/loss"}, "not a validation metric"),
        (StopEarly, {"metric": "val/whatever"}, "is not known"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: type[Part], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(given)


def test_the_rule_of_a_checkpoint() -> None:
    assert parse_checkpoint("final") is None
    assert parse_checkpoint("best(val/loss)") == "val/loss"
    for wrong in ("best(test/accuracy)", "best", "last", "best()"):
        with pytest.raises(ValueError, match=r"test|neither|validation"):
            parse_checkpoint(wrong)


def test_schedules() -> None:
    steps = 100
    assert {factor(Schedule(name="constant"), k, steps) for k in range(steps)} == {1.0}
    cosine = [factor(Schedule(warmup=0.1), k, steps) for k in range(steps)]
    assert cosine[:10] == sorted(cosine[:10])
    assert cosine[10] == 1.0
    assert cosine[10:] == sorted(cosine[10:], reverse=True)
    assert 0 < cosine[-1] < 0.01
    falls = [factor(Schedule(name="step"), k, steps) for k in (49, 50, 74, 75)]
    assert falls == pytest.approx([1, 0.1, 0.1, 0.01])
