"""What frameworks call their metrics, and what we call them."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.integrations import named, split_name


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("val_loss", "val/loss"), ("eval_f1_macro", "val/f1_macro"), ("test_acc", "test/acc"),
        ("test/acc", "test/acc"), ("lr", "lr"), ("train_", "train_"), ("training_loss", "training_loss"),
    ],
)  # fmt: skip
def test_a_split_before_the_name_becomes_a_split(theirs: str, ours: str) -> None:
    assert split_name(theirs) == ours


def test_only_numbers_are_metrics_and_given_names_go_first() -> None:
    found = named({"val_loss": np.float32(0.5), "a": 1, "flag": True, "text": "x", "many": np.ones(2)}, {"a": "b/c"})
    assert found == {"val/loss": 0.5, "b/c": 1.0}
