"""A Lightning module inside a training function, with the real package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler as schedules
from torch.utils.data import DataLoader, TensorDataset
from training import as_seeded, handle

from sweep.determinism.seeding import read_back, restored, seed_everything
from sweep.errors import SweepError
from sweep.handle import Run
from sweep.job import Interrupted
from sweep.results import run as run_sweep

pytest.importorskip("lightning", reason="needs the extra [lightning]")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, its own future

import lightning.pytorch as pl  # noqa: E402
from lightning.pytorch.callbacks import EarlyStopping  # noqa: E402

from sweep.integrations.lightning import SweepCallback, _Saver, trainer_options  # noqa: E402


class Net(pl.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 2))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = cross_entropy(self.layers(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", cross_entropy(self.layers(batch[0]), batch[1]))

    def test_step(self, batch: Any, index: int) -> None:
        self.log("test_accuracy", (self.layers(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)]


def data(shuffle: bool = False) -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=draw)
    return DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=16, shuffle=shuffle)


def train(run: Run) -> None:
    """As a user would write it: nothing is seeded, nothing returned."""
    model, callback = Net(), SweepCallback(run)
    trainer = pl.Trainer(**trainer_options(run), max_epochs=3, callbacks=[callback])
    trainer.fit(model, data(shuffle=True), data(), ckpt_path=callback.restore())
    trainer.test(model, data(), verbose=False)


def trained(run: Run) -> Run:
    return as_seeded(train, run)


def test_metrics_arrive_as_split_and_metric_with_a_row_for_each_epoch(tmp_path: Path) -> None:
    run = trained(handle(tmp_path / "a"))
    assert set(run.last) == {"train/loss", "val/loss", "test/accuracy"}
    rows = (run.dir / "history.jsonl").read_text().splitlines()
    assert len(rows) == 4
    assert '"step": 3, "test/accuracy"' in rows[-1]
    assert run.outcome == {"rule": "final", "epoch": 3}


def test_stopped_and_gone_on_from_its_checkpoint_it_has_the_bits_of_one_that_never_stopped(tmp_path: Path) -> None:
    whole = trained(handle(tmp_path / "whole"))
    first = handle(tmp_path / "first")
    first.stopping = lambda: "epoch/2" in first.chain
    with pytest.raises(Interrupted):
        trained(first)
    second = trained(handle(tmp_path / "second", previous=(first.dir,)))
    assert second.chain == whole.chain
    assert (second.dir / "history.jsonl").read_text() == (whole.dir / "history.jsonl").read_text()
    assert "resumed from step 2" in second.notes[0]
    other = trained(handle(tmp_path / "other", seed=7))
    assert not set(whole.chain.values()) & set(other.chain.values())


SCHEDULERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "plateau": lambda o: {
        "scheduler": schedules.ReduceLROnPlateau(o, patience=0, threshold=0.5),
        "monitor": "val_loss",
    },
    "steps": lambda o: {"scheduler": schedules.StepLR(o, 1, 0.5)},
    "one cycle": lambda o: {"scheduler": schedules.OneCycleLR(o, 0.1, total_steps=20), "interval": "step"},
}


class Scheduled(Net):
    def __init__(self, schedule: str) -> None:
        super().__init__()
        self.schedule = schedule

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.5)
        return {"optimizer": optimizer, "lr_scheduler": SCHEDULERS[self.schedule](optimizer)}


class Rates(pl.Callback):  # type: ignore[misc]
    """The rate of each epoch, from the first on: Lightning keeps it in its checkpoints."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


def scheduled(run: Run, schedule: str, *, late: bool = True, patience: int = 99) -> tuple[Run, list[float]]:
    rates = Rates()

    def fit(run: Run) -> None:
        model, callback = Scheduled(schedule), SweepCallback(run)
        if not late:  # as if it were saved where the epoch ends, before schedulers have looked at its metrics
            callback._saver.due = lambda t, n: _at_once(callback, t, n)  # type: ignore[method-assign]
        early = EarlyStopping("val_loss", patience=patience, min_delta=0.5, check_on_train_epoch_end=True)
        trainer = pl.Trainer(**trainer_options(run), max_epochs=5, callbacks=[rates, early, callback])
        trainer.fit(model, data(shuffle=True), data(), ckpt_path=callback.restore())
        trainer.test(model, data(), verbose=False)

    return as_seeded(fit, run), rates.seen


def _at_once(callback: SweepCallback, trainer: Any, epochs: int) -> None:
    _Saver.due(callback._saver, trainer, epochs)
    callback._saver.on_train_epoch_start(trainer, trainer.lightning_module)


def _killed_and_whole(tmp_path: Path, schedule: str, **options: Any) -> tuple[Any, Any]:
    whole = scheduled(handle(tmp_path / "whole"), schedule, **options)
    first = handle(tmp_path / "first")
    first.stopping = lambda: "epoch/2" in first.chain
    with pytest.raises(Interrupted):
        scheduled(first, schedule, **options)
    return whole, scheduled(handle(tmp_path / "second", previous=(first.dir,)), schedule, **options)


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_gone_on_from_a_checkpoint_it_has_the_rates_and_bits_of_one_that_never_stopped(
    tmp_path: Path, schedule: str
) -> None:
    (whole, rates), (second, theirs) = _killed_and_whole(tmp_path, schedule)
    assert len(set(rates)) > 1  # the schedule does something
    assert theirs == rates
    assert second.chain == whole.chain
    assert second.last == whole.last


def test_a_callback_that_stops_early_has_not_lost_count(tmp_path: Path) -> None:
    (whole, rates), (second, theirs) = _killed_and_whole(tmp_path, "steps", patience=3)
    assert len(rates) < 5
    assert theirs == rates
    assert second.chain == whole.chain


def test_saved_where_the_epoch_ends_a_scheduler_that_looks_at_a_metric_would_be_late(tmp_path: Path) -> None:
    (whole, _), (second, _) = _killed_and_whole(tmp_path, "plateau", late=False)
    assert second.chain != whole.chain


def test_a_trainer_that_was_told_otherwise_does_not_turn_deterministic_mode_off(tmp_path: Path) -> None:
    run = handle(tmp_path / "a")
    seen = []

    class Look(pl.Callback):  # type: ignore[misc]
        def on_train_start(self, *_: Any) -> None:
            seen.append(read_back()["deterministic_algorithms"])

    def fit(callbacks: list[Any]) -> None:
        with restored():
            seed_everything(run.seed, deterministic=True)
            options = {**trainer_options(run), "deterministic": False}
            pl.Trainer(**options, max_epochs=1, callbacks=callbacks).fit(Net(), data())

    fit([SweepCallback(run), Look()])
    fit([Look()])
    run.attempt.close()
    assert seen == [True, False]  # without the callback it does


def test_training_elsewhere_than_planned_is_refused(tmp_path: Path) -> None:
    run = handle(tmp_path / "a")
    object.__setattr__(run.spec, "device", "cuda")
    with pytest.raises(SweepError, match="trains on cpu, but the run was planned for cuda"):
        pl.Trainer(**{**trainer_options(run), "accelerator": "cpu"}, callbacks=[SweepCallback(run)]).fit(Net(), data())


@pytest.mark.usefixtures("unforked")  # forked runs would import the package again
def test_in_a_sweep(tmp_path: Path) -> None:
    results = run_sweep(train, seeds=[1], out=tmp_path / "out", engine="inline", device="cpu")
    assert results.frame["status"].tolist() == ["ok"]
    assert results.frame["test/accuracy"].notna().all()
