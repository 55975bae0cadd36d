"""Runs of the built-in trainer on a small part of digits, each with a real attempt folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, is_grad_enabled

from sweep.determinism.seeding import restored, seed_everything, set_threads
from sweep.handle import Run
from sweep.job import Interrupted
from sweep.plan import STREAMS, RunSpec, Target, stream_seed
from sweep.store import Attempt, Failure
from sweep.store.owner import this_process
from sweep.target.params import bind, check_params
from sweep.train.loop import train
from sweep.train.recipe import Recipe
from sweep.train.recipes import classifier

SMALL: dict[str, Any] = {
    # 85 training examples in batches of 17: 5 steps an epoch, 20 in all.
    "data": {"name": "digits", "limit": 100},
    "model": {"hidden": [16], "dropout": 0.2, "batch_norm": True},
    "batch_size": 17,
    "epochs": 4,
}


def spec_of(seed: int, params: Mapping[str, Any], streams: Mapping[str, int] | None = None) -> RunSpec:
    return RunSpec(
        target=Target("recipe", "sweep.train.recipes:classifier"), params=params, variant="", task="",
        seed=seed,
        streams={name: stream_seed(seed, name) for name in STREAMS} | dict(streams or {}), repeat=0,
        deterministic=True, device="cpu", threads=1, data="",
    )  # fmt: skip


def handle(
    folder: Path, seed: int = 42, params: Mapping[str, Any] | None = None, *,
    streams: Mapping[str, int] | None = None, every: tuple[int, float] = (0, 60.0),
    previous: tuple[Path, ...] = (),
) -> Run:  # fmt: skip
    """A run whose attempt is in `folder`; `previous` are the folders of attempts that died, newest first."""
    folder.mkdir(parents=True)
    spec = spec_of(seed, params or {}, streams)
    attempt = Attempt(folder, spec.id, this_process(), number=1 + len(previous), previous=previous)
    return Run(spec, attempt, every)


def recipe_of(params: Mapping[str, Any] | None = None) -> Recipe:
    plain = check_params(classifier, {**SMALL, **(params or {})}, kind="recipe")
    made: Recipe = classifier(**bind(classifier, plain, kind="recipe"))
    return made


def finish(recipe: Recipe, run: Run) -> dict[str, float] | Failure:
    """Train one run to its end; what it wrote on the way is flushed."""
    set_threads(run.threads)
    seed_everything(run.seed, deterministic=run.deterministic)
    try:
        ((_, result),) = train(recipe, [run])
    finally:
        run.attempt.close()
    return result


class Killed(Exception):
    """The machine went away."""


def dies_at(recipe: Recipe, step: int) -> Recipe:
    """The recipe, but gone in the middle of training step `step` (from 0), gradients not yet computed."""
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        if is_grad_enabled():
            if calls == step:
                raise Killed
            calls += 1
        return recipe.loss(outputs, targets)

    return replace(recipe, loss=loss)


def trained(folder: Path, params: Mapping[str, Any] | None = None, **options: Any) -> Run:
    """A finished run of the small recipe."""
    run = handle(folder, **options)
    result = finish(recipe_of(params), run)
    assert isinstance(result, dict), result
    return run


def as_seeded(function: Callable[[Run], Any], run: Run) -> Run:
    """The run, after a training function of a user's had it, seeded as a worker would."""
    with restored():
        seed_everything(run.seed, deterministic=run.deterministic)
        try:
            function(run)
        finally:
            run.attempt.close()
    return run


__all__ = ["SMALL", "Interrupted", "Killed", "as_seeded", "dies_at", "finish", "handle", "recipe_of", "trained"]
