"""What `benchmarks/lanes.py` trains by every way that it measures: data, models, recipe, runs, one lane of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
BATCH, EPOCHS, WHOLE = 128, 3, 430  # steps of an epoch of all 55,000 examples
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "hidden": [256, 256]},
    "cnn": {"name": "cnn", "channels": [32, 64], "hidden": [128]},
    "resnet": {"name": "resnet", "channels": [16, 32, 64], "blocks": 2},
}


def recipe_of(model: str, data: str, precision: str, compiled: bool, limit: int, epochs: int = EPOCHS) -> Any:
    """The built-in classifier of this model on the first `limit` examples of Fashion-MNIST, in the folder `data`."""
    from sweep.target.params import bind, check_params
    from sweep.train.recipes import classifier

    params = {
        "model": MODELS[model], "data": {"name": "idx", "folder": data, "limit": limit},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        "epochs": epochs, "batch_size": BATCH, "precision": precision, "compile": compiled,
    }  # fmt: skip
    return classifier(**bind(classifier, check_params(classifier, params, kind="recipe"), kind="recipe"))


def runs_of(count: int, folder: Path, label: str, deterministic: bool = True, vectorize: int = 0) -> list[Any]:
    """Runs of the seeds 0 .. count - 1 that write into `folder`."""
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
    """The lane of seed 0 at its start, and the positions of its whole batches of the first epoch on the device."""
    from sweep.determinism import seeding
    from sweep.train.lane import fresh, set_up, start_epoch

    (run,) = runs_of(1, scratch, label)
    seeding.fill_memory(False)
    seeding.seed_everything(0, deterministic=True)
    lane = fresh(set_up(recipe, "cuda", compiled=recipe.compile), run)
    return lane, [b.to("cuda") for b in start_epoch(lane) if len(b) == BATCH]
