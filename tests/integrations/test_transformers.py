"""A Transformers Trainer inside a training function, with the real package and a model without a download."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from training import as_seeded, handle

from sweep.handle import Run
from sweep.job import Interrupted
from sweep.results import run as run_sweep

pytest.importorskip("transformers", reason="needs the extra [transformers]")
pytest.importorskip("accelerate", reason="needs the extra [transformers]")
pytestmark = pytest.mark.filterwarnings("ignore")  # Transformers warns of its own future

from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments  # noqa: E402

from sweep.integrations.transformers import SweepCallback, named, training_options  # noqa: E402


def make_model() -> Any:
    """Randomly initialised, 5,000 weights."""
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=8, num_labels=2,
        )
    )  # fmt: skip


def examples() -> list[dict[str, torch.Tensor]]:
    words = torch.randint(0, 20, (48, 6), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": (row[0] > 9).long()} for row in words]


def train(run: Run, *, options: bool = True, schedule: dict[str, Any] | None = None) -> dict[str, float]:
    callback = SweepCallback(run)
    chosen = training_options(run)
    if not options:
        # What a script says that never heard of seeds: the default is 42, for every run.
        chosen = {k: v for k, v in chosen.items() if k not in ("seed", "data_seed")}
    args = TrainingArguments(
        num_train_epochs=3, per_device_train_batch_size=16, learning_rate=1e-2, logging_strategy="epoch",
        eval_strategy="epoch", **(schedule or {}), **chosen,
    )  # fmt: skip
    trainer = Trainer(
        model_init=make_model, args=args, train_dataset=examples(), eval_dataset=examples(), callbacks=[callback]
    )
    trainer.train(resume_from_checkpoint=callback.restore())
    return named(trainer.evaluate(examples(), metric_key_prefix="test"))


def trained(run: Run, schedule: dict[str, Any] | None = None) -> Run:
    return as_seeded(partial(train, schedule=schedule), run)


def test_gone_on_from_a_checkpoint_a_scheduler_that_looks_at_the_validation_loss_has_seen_it(tmp_path: Path) -> None:
    schedule = {
        "lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "eval_loss", "greater_is_better": False,
        "lr_scheduler_kwargs": {"patience": 0, "threshold": 0.9},
    }  # fmt: skip
    whole = trained(handle(tmp_path / "whole"), schedule)
    rates = [json.loads(row).get("lr") for row in (whole.dir / "history.jsonl").read_text().splitlines()]
    assert len(set(rates) - {None}) > 1
    first = handle(tmp_path / "first")
    first.stopping = lambda: "epoch/2" in first.chain
    with pytest.raises(Interrupted):
        trained(first, schedule)
    second = trained(handle(tmp_path / "second", previous=(first.dir,)), schedule)
    assert second.chain == whole.chain
    assert (second.dir / "history.jsonl").read_text() == (whole.dir / "history.jsonl").read_text()


def test_stopped_and_gone_on_from_its_checkpoint_it_has_the_bits_of_one_that_never_stopped(tmp_path: Path) -> None:
    whole = trained(handle(tmp_path / "whole"))
    assert set(whole.last) == {"train/loss", "train/grad_norm", "lr", "val/loss", "test/loss"}
    assert whole.outcome == {"rule": "final", "epoch": 3}
    first = handle(tmp_path / "first")
    first.stopping = lambda: "epoch/2" in first.chain
    with pytest.raises(Interrupted):
        trained(first)
    assert not list(first.dir.rglob("checkpoint-6/*"))  # its own copy is not left behind
    second = trained(handle(tmp_path / "second", previous=(first.dir,)))
    assert second.chain == whole.chain
    assert (second.dir / "history.jsonl").read_text() == (whole.dir / "history.jsonl").read_text()


@pytest.mark.usefixtures("unforked")  # forked runs would import the package again
def test_in_a_sweep_each_seed_has_its_own_bits_even_where_the_arguments_name_none(tmp_path: Path) -> None:
    results = run_sweep(
        train, seeds=[1, 2], out=tmp_path / "out", engine="inline", device="cpu", params={"options": False}
    )
    assert results.frame["status"].tolist() == ["ok", "ok"]
    assert results.frame["test/loss"].nunique() == 2
