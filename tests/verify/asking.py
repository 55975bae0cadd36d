"""What the tests of `sweep.verify` ask of it."""

from __future__ import annotations

import os
from typing import Any

from sweep.job import Job
from sweep.plan import STREAMS, RunSpec, stream_seed
from sweep.target.function import resolve
from sweep.target.params import check_params
from sweep.train.recipes import classifier

SMALL: dict[str, Any] = {
    "data": {"name": "digits", "limit": 100}, "model": {"hidden": [16], "dropout": 0.2, "batch_norm": True},
    "batch_size": 17, "epochs": 3,
}  # fmt: skip
RECIPE = "sweep.train.recipes:classifier"


def spec_of(
    reference: str = RECIPE, params: dict[str, Any] | None = None, *, seed: int = 42, deterministic: bool = True,
    threads: int = 1,
) -> RunSpec:  # fmt: skip
    """A run of the recipe on a small part of digits, or of a function of the tests."""
    kind = "recipe" if reference == RECIPE else "function"
    target, called = resolve(kind, reference)
    if kind == "recipe":
        params = check_params(classifier, {**SMALL, **(params or {})}, kind="recipe")
    else:
        params = check_params(called, params or {}, kind="function")
    return RunSpec(
        target=target, params=params, variant="", task="", seed=seed,
        streams={name: stream_seed(seed, name) for name in STREAMS}, repeat=0, deterministic=deterministic,
        device="cpu", threads=threads, data="",
    )  # fmt: skip


def here() -> Job:
    return Job(folder=os.getcwd())
