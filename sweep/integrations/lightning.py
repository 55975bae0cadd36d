"""PyTorch Lightning: `Trainer(callbacks=[SweepCallback(run)])` inside a training function.

    def train(run, *, lr=1e-3, epochs=10):
        callback = SweepCallback(run)
        trainer = Trainer(**trainer_options(run), max_epochs=epochs, callbacks=[callback])
        trainer.fit(model, data, ckpt_path=callback.restore())
        trainer.test(model, data)

The function may return nothing: the metrics that were logged last are the result.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweep.integrations import absent, named, require_device

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise absent("Lightning", error) from error

from sweep.determinism import digest, seeding
from sweep.handle import Run
from sweep.job import Interrupted
from sweep.store import atomic

_FILE = "lightning.ckpt"


def trainer_options(run: Run) -> dict[str, Any]:
    """Return arguments of a `Trainer` for the planned device and mode that writes only to the folder of the run."""
    return {
        "accelerator": "gpu" if run.device == "cuda" else run.device, "devices": 1, "deterministic": run.deterministic,
        "default_root_dir": run.dir, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False,
    }  # fmt: skip


class SweepCallback(Callback):
    """A callback that passes metrics, checkpoints, mode and digests between a fit and the run.

    names: theirs -> ours, for metrics with names unlike `val_loss` and `test_acc`.
    """

    def __init__(self, run: Run, *, names: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.run = run
        self.names = dict(names or {})
        self._saver = _Saver(run)

    def restore(self) -> Path | None:
        """Return the checkpoint for `trainer.fit(ckpt_path=…)`, or None to start from zero."""
        state = self.run.restore()
        if state is None:
            return None
        path = self.run.dir / _FILE
        atomic.write(path, state["lightning"].numpy().tobytes(), durable=False)
        return path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        require_device(self.run.device, trainer.strategy.root_device.type, "Trainer(**trainer_options(run), …)")
        callbacks: Any = trainer.callbacks
        if stage == "fit" and self._saver not in callbacks:
            trainer.callbacks = [self._saver, *callbacks]
        # A Trainer(deterministic=False, benchmark=…) has just set a mode of its own.
        seeding.apply_mode(self.run.deterministic)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.ckpt_path:
            self.run.digest("initial", digest.module(pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        self.run.digest(f"epoch/{epoch}", digest.module(pl_module))
        self._log(trainer, epoch)
        if self.run.checkpoint_due(epoch_end=True):
            self._saver.due(trainer, epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.run.digest("final", digest.module(pl_module))
        self.run.result("final", trainer.current_epoch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, trainer.current_epoch)

    def _log(self, trainer: Trainer, epoch: int) -> None:
        metrics = named(trainer.callback_metrics, self.names)
        # A stop waits for the checkpoint at the start of the next epoch, or for the end of the fit.
        with suppress(Interrupted):
            if metrics:
                self.run.log(metrics, step=epoch)


class _Saver(Callback):
    """A callback that saves a checkpoint due at the end of an epoch when the next begins, before any other callback.

    Schedulers that depend on a metric, and callbacks that stop early, act after `on_train_epoch_end`. The state of the
    loop is kept from the end of the epoch, because Lightning can continue from there.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._due: tuple[int, dict[str, Any]] | None = None  # epochs, and the state of the loop after them
        self._loop: dict[str, Any] | None = None  # the same while it is being saved

    def due(self, trainer: Trainer, epochs: int) -> None:
        self._due = epochs, copy.deepcopy(trainer.fit_loop.state_dict())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._due is None:
            return
        (epochs, self._loop), self._due = self._due, None
        path = self.run.dir / _FILE
        trainer.save_checkpoint(path, False)  # the whole state, not only the weights
        self._loop = None
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
        path.unlink()
        self.run.checkpoint({"lightning": torch.from_numpy(content)}, step=epochs)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._loop is not None:
            checkpoint["loops"]["fit_loop"] = self._loop
