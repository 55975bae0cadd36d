"""Hugging Face Transformers: `Trainer(callbacks=[SweepCallback(run)])` inside a training function.

    def train(run, *, epochs=3):
        callback = SweepCallback(run)
        trainer = Trainer(
            model_init=make_model, train_dataset=..., eval_dataset=..., callbacks=[callback],
            args=TrainingArguments(num_train_epochs=epochs, **training_options(run)),
        )
        trainer.train(resume_from_checkpoint=callback.restore())
        return named(trainer.evaluate(test, metric_key_prefix="test"))

The function may also return nothing: the metrics that were logged last are the result.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweep import integrations

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed
except ModuleNotFoundError as error:
    raise integrations.absent("Transformers", error) from error

from sweep.determinism import digest, seeding
from sweep.handle import Run
from sweep.job import Interrupted
from sweep.store import atomic

_CHECKPOINT = "checkpoint"
_OURS = {"loss": "train/loss", "grad_norm": "train/grad_norm", "learning_rate": "lr"}
_NO_METRICS = ("_runtime", "_per_second", "_time")  # times differ between runs and do not describe the model


def training_options(run: Run) -> dict[str, Any]:
    """Return arguments of `TrainingArguments`: seed, device and folder of the run, and no reports to other services."""
    return {
        "output_dir": os.fspath(run.dir / "transformers"), "seed": run.seed, "data_seed": run.seed,
        "use_cpu": run.device == "cpu", "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip


def named(metrics: Mapping[str, Any], names: Mapping[str, str] | None = None) -> dict[str, float]:
    """Return the metrics of `evaluate` and `predict` under our names, such as `test/accuracy`, without times."""
    kept = {k: v for k, v in metrics.items() if not k.endswith(_NO_METRICS) and k not in ("epoch", "total_flos")}
    return integrations.named(kept, {**_OURS, **(names or {})})


class SweepCallback(TrainerCallback):
    """A callback that passes seed, mode, metrics, checkpoints and digests between a training and the run.

    The seed is set even if `TrainingArguments` have none, because their default is 42 for every run.
    names: theirs -> ours, for metrics whose names do not begin with eval_ or test_.
    """

    def __init__(self, run: Run, *, names: Mapping[str, str] | None = None) -> None:
        self.run = run
        self.names = dict(names or {})
        self._asked = False
        self._resumed = False

    def restore(self) -> str | None:
        """Return the folder for `trainer.train(resume_from_checkpoint=…)`, or None to start from zero."""
        state = self.run.restore()
        if state is None:
            return None
        self._resumed = True
        folder = self.run.dir / "resume" / f"{_CHECKPOINT}-{state['step']}"
        for name, content in state["files"].items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(path, content.numpy().tobytes(), durable=False)
        return os.fspath(folder)

    # Trainer passes its arguments, state and control in this order, and the rest by name.
    def on_init_end(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        integrations.require_device(self.run.device, args.device.type, "TrainingArguments(**training_options(run), …)")
        args.seed, args.data_seed = self.run.seed, self.run.seed
        set_seed(self.run.seed)
        seeding.apply_mode(self.run.deterministic)

    def on_train_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
        if not self._resumed:
            self.run.digest("initial", digest.module(model))

    def on_log(self, args: Any, state: TrainerState, *_: Any, logs: Mapping[str, Any] | None = None, **__: Any) -> None:
        # The summary at the end has the mean loss of the whole training under another name.
        metrics = named({k: v for k, v in (logs or {}).items() if k != "train_loss"}, self.names)
        # A stop waits for the checkpoint that it requests.
        with suppress(Interrupted):
            if metrics:
                self.run.log(metrics, step=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        self._ask(control, epoch_end=False)

    def on_epoch_end(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        self.run.digest(f"epoch/{round(state.epoch or 0)}", digest.module(model))
        self._ask(control, epoch_end=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        if not self._asked:
            return
        self._asked = False
        folder = Path(args.output_dir or ".") / f"{_CHECKPOINT}-{state.global_step}"
        files = {
            path.relative_to(folder).as_posix(): torch.from_numpy(np.fromfile(path, dtype=np.uint8))
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        if args.save_strategy == "no":
            shutil.rmtree(folder)  # written only for us, and kept in the checkpoint of the run
        self.run.checkpoint({"files": files, "step": state.global_step}, step=state.global_step)

    def on_train_end(self, args: Any, state: TrainerState, *_: Any, model: Any = None, **__: Any) -> None:
        self.run.digest("final", digest.module(model))
        self.run.result("final", round(state.epoch or 0))

    def _ask(self, control: TrainerControl, *, epoch_end: bool) -> None:
        if self.run.checkpoint_due(epoch_end=epoch_end):
            control.should_save = self._asked = True
