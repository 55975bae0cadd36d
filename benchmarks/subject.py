"""The subject of `benchmarks/lanes.py`: data, models, recipe, runs, and one lane of it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
EPOCHS, WHOLE = 3, 430  # steps of an epoch of all 55,000 examples, in batches of 128
BATCHES = {"mlp": 128, "cnn": 128, "resnet": 128, "small": 64, "tabular": 128, "gpt": 32}
MODELS: dict[str, dict[str, Any]] = {  # of the built-in classifier, on Fashion-MNIST
    "mlp": {"name": "mlp", "hidden": [256, 256]},
    "cnn": {"name": "cnn", "channels": [32, 64], "hidden": [128]},
    "resnet": {"name": "resnet", "channels": [16, 32, 64], "blocks": 2},
}


def recipe_of(model: str, data: str, precision: str, compiled: bool, limit: int, epochs: int = EPOCHS) -> Any:
    """Return the recipe of this model.

    It is built in, on the first `limit` examples of Fashion-MNIST in the folder `data`, or one such as a user writes,
    on data that are drawn here.
    """
    from sweep.target.params import bind, check_params
    from sweep.train.recipes import classifier

    if model not in MODELS:
        return replace(own(model, limit), epochs=epochs, precision=precision, compile=compiled)
    params = {
        "model": MODELS[model], "data": {"name": "idx", "folder": data, "limit": limit},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        "epochs": epochs, "batch_size": BATCHES[model], "precision": precision, "compile": compiled,
    }  # fmt: skip
    return classifier(**bind(classifier, check_params(classifier, params, kind="recipe"), kind="recipe"))


def own(model: str, limit: int) -> Any:
    """small: an MLP 64-32-10. tabular: two layers of 128 with batch norm and dropout, of 40 columns.
    gpt: configs/examples/gpt.py without dropout, two layers of 64, on text. All with AdamW."""
    from torch import nn

    import sweep

    if model == "gpt":
        sys.path.append(str(Path(__file__).parents[1] / "configs" / "examples"))
        import gpt

        return gpt.recipe(dropout=0.0)
    columns, classes = (64, 10) if model == "small" else (40, 2)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(limit, columns)).astype(np.float32)
    y = (x @ draw.normal(size=(columns, classes))).argmax(1)

    def layers(data: Any) -> nn.Module:
        if model == "small":
            return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        made: list[nn.Module] = []
        for before in (40, 128):
            made += [nn.Linear(before, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2)]
        return nn.Sequential(*made, nn.Linear(128, 2))

    return sweep.recipe(
        model=layers, data=sweep.data.arrays(x, y), optimizer=sweep.adamw(lr=1e-3), batch_size=BATCHES[model],
        drop_last=True,
    )  # fmt: skip


def runs_of(count: int, folder: Path, label: str, deterministic: bool = True, vectorize: int = 0) -> list[Any]:
    """Return runs of the seeds 0 .. count - 1 that write into `folder`."""
    from sweep.handle import Run
    from sweep.plan import STREAMS, RunSpec, Target, stream_seed
    from sweep.store import Attempt
    from sweep.store.owner import this_process

    runs = []
    for seed in range(count):
        spec = RunSpec(
            target=Target("recipe", "sweep.train.recipes:classifier"), params={"label": label}, variant="",
            task="", seed=seed, streams={name: stream_seed(seed, name) for name in STREAMS}, repeat=0,
            deterministic=deterministic, device="cuda", threads=1, data="", vectorize=vectorize,
        )  # fmt: skip
        path = folder / f"{label}-{seed}"
        path.mkdir(parents=True)
        runs.append(Run(spec, Attempt(path, spec.id, this_process(), number=1)))
    return runs


def lane_of(recipe: Any, scratch: Path, label: str) -> tuple[Any, list[Any]]:
    """Return the lane of seed 0 at its start, and the positions of its whole batches of epoch 1 on the device."""
    from sweep.determinism import seeding
    from sweep.train.lane import fresh, set_up, start_epoch

    (run,) = runs_of(1, scratch, label)
    seeding.fill_memory(False)
    seeding.seed_everything(0, deterministic=True)
    lane = fresh(set_up(recipe, run, compiled=recipe.compile), run)
    return lane, [b.to("cuda") for b in start_epoch(lane) if len(b) == recipe.batch_size]
