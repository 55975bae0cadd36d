"""The direction and the split of a metric are read from its usual names, and the headline is chosen by them."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished import failure, sweep_of

from sweep.goals import direction, is_score, primary_of, split_of
from sweep.plan import RunSpec
from sweep.report import build


@pytest.mark.parametrize(
    ("name", "goal", "split"),
    [
        ("val_loss", "min", "val"), ("test_acc", "max", "test"), ("eval_accuracy", "max", "val"),
        ("Accuracy", "max", ""), ("auc", "max", ""), ("log_loss", "min", ""), ("error_rate", "min", ""),
        ("elo", "max", ""), ("test/C_Index", "max", "test"), ("val_cider", "max", "val"),
        ("wer", "min", ""), ("iou", "max", ""), ("reward", "max", ""), ("bleu", "max", ""), ("r2", "max", ""),
        ("perplexity", "min", ""), ("RMSE", "min", ""), ("valLoss", "min", "val"), ("testAUC", "max", "test"),
        ("Test/Top-1", "max", "test"), ("Acc@1", "max", ""), ("mIoU", "max", ""), ("mAP50-95", "max", ""),
        ("rollout/ep_rew_mean", "max", ""), ("charts/episodic_return", "max", ""), ("train_loss_epoch", "min", "train"),
        ("F1Score", "max", ""), ("brier_score", "min", ""), ("mean_squared_error", "min", ""),
        ("neg_mean_squared_error", "max", ""), ("neg_log_likelihood", "min", ""), ("log_likelihood", "max", ""),
        ("test.error", "min", "test"), ("binary_logloss", "min", ""), ("val-f1-macro", "max", "val"),
    ],
)  # fmt: skip
def test_usual_names_in_their_usual_spellings(name: str, goal: str, split: str) -> None:
    assert (direction(name), split_of(name)) == (goal, split)


@pytest.mark.parametrize("name", ["score", "foo", "accuracy_drop", "hp_metric", "epoch", "lr", "loss_scale", "seed"])
def test_what_a_name_does_not_say_stays_unknown(name: str) -> None:
    assert direction(name) is None


def test_a_declared_goal_goes_before_the_name() -> None:
    assert direction("val_loss", {"val_loss": "max"}) == "max"
    assert direction("test/odd", {"odd": "min"}) == "min"


@pytest.mark.parametrize("name", ["epoch", "train_runtime", "eval_samples_per_second", "best_epoch", "lr", "hp_metric"])
def test_clocks_counts_and_placeholders_are_no_scores(name: str) -> None:
    assert not is_score(name)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["train_loss", "hp_metric", "val_acc"], "val_acc"),
        (["train_loss", "test_loss", "val_acc", "test_acc"], "test_acc"),
        (["epoch", "eval_accuracy", "eval_loss", "train_runtime"], "eval_accuracy"),
        (["hp_metric", "train_loss"], "train_loss"),
        (["a/made_up", "val/loss"], "val/loss"),
        (["loss", "eval_loss", "eval_accuracy", "train_loss"], "eval_accuracy"),
        (["accuracy", "loss", "val_accuracy", "val_loss"], "val_accuracy"),
        (["accuracy", "val_loss"], "accuracy"),
        (["loss", "val_acc"], "val_acc"),
        (["best_val_acc", "val_acc"], "val_acc"),
        (["target_accuracy", "val_accuracy"], "val_accuracy"),  # what was asked for, and what was reached
        (["accuracy_threshold", "accuracy", "val_loss"], "accuracy"),
        (["source_acc", "target_acc"], "source_acc"),  # of two domains
        (["target/test_acc", "source/test_acc"], "source/test_acc"),
        (["losses/policy_loss", "losses/value_loss", "charts/episodic_return", "charts/SPS"], "charts/episodic_return"),
        (["val_cls_loss", "val_mIoU"], "val_mIoU"),  # a term of the loss, and a score
        (["val_cls_loss", "val_loss_epoch"], "val_loss_epoch"),
        (["policy_loss", "made_up"], "policy_loss"),
        (["Loss/test", "mse/test"], "Loss/test"),
        (["only"], "only"),
        ([], ""),
    ],
)
def test_the_headline_is_a_test_metric_before_val_before_train(names: list[str], chosen: str) -> None:
    assert primary_of(names) == chosen


def outcomes(*metrics: str) -> object:
    return lambda spec: {"metrics": dict.fromkeys(metrics, 0.5 + spec.seed / 10)}


def test_a_choice_and_an_unknown_direction_are_said_where_they_matter(tmp_path: Path) -> None:
    chosen = build(sweep_of(tmp_path / "a", outcomes("val_acc", "train_loss"), seeds=(1, 2), config={"primary": None}))
    assert chosen.primary == "val_acc"
    assert any("primary=train_loss" in note for note in chosen.notes)

    def some(spec: RunSpec) -> dict[str, object]:
        return {"status": "failed", "failure": failure()} if spec.seed == 1 else {"metrics": {"odd": 1.0}}

    lost = build(sweep_of(tmp_path / "b", some, seeds=(1, 2, 3), config={"primary": None}))
    assert any("goals.odd=max" in note for note in lost.notes)
    alone = build(sweep_of(tmp_path / "c", outcomes("odd"), seeds=(1, 2), config={"primary": None}))
    assert not alone.notes, "nothing was lost by not knowing it"
