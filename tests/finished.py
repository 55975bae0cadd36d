"""Run directories as training leaves them, made through the real store without training anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweep.config import load
from sweep.plan import Cell, Plan, RunSpec, Target
from sweep.store import Failure, Manifest, Predictions, Record, Store
from sweep.store.names import PREDICTIONS, SCORES

ENVIRONMENT = {"torch": "2.13.0", "threads": 1, "device": "cpu"}

Outcome = Mapping[str, Any]


def planned(
    seeds: Iterable[int], variants: Sequence[str], tasks: Sequence[str], repeats: int, *, deterministic: bool,
    folds: int = 0,
) -> Plan:  # fmt: skip
    cells = tuple(Cell(variant=v, task=t, params={"epochs": 3}) for t in tasks for v in variants)
    config = load(
        None, name="made-up", train="made:up", seeds=[*seeds], repeats=repeats, deterministic=deterministic, folds=folds
    )
    return Plan(config, Target("function", reference="made:up", digest="0" * 64), cells, "cpu")


def sweep_of(
    path: Path,
    outcome: Callable[[RunSpec], Outcome | None],
    *,
    seeds: Iterable[int] = range(3),
    variants: Sequence[str] = ("",),
    tasks: Sequence[str] = ("",),
    repeats: int = 1,
    folds: int = 0,
    config: Mapping[str, Any] | None = None,
    deterministic: bool = False,
    name: str = "made-up",
) -> Store:
    """A directory whose runs became what `outcome` says: fields of a Record, and `history`, `predictions`, `scores`.

    None leaves a run pending; {"lost": True} begins an attempt of a process that is no longer there,
    {"stopped": True} one that ended because that was asked for.
    """
    plan = planned(seeds, variants, tasks, repeats, deterministic=deterministic, folds=folds)
    config = {"primary": "test/accuracy", "deterministic": deterministic, **(config or {})}
    store = Store.create(path, Manifest(name, config, plan.experiment(), plan.config.seeds))
    for spec in plan:
        made = outcome(spec)
        if made is not None:
            put(store, spec, made)
    return store


def put(store: Store, spec: RunSpec, made: Outcome) -> None:
    attempt = store.begin(spec)
    fields = dict(made)
    if fields.pop("lost", False):
        (attempt.path / "attempt.json").unlink()
        return
    if fields.pop("stopped", False):
        attempt.abandon(stopped=True)
        return
    for row in fields.pop("history", ()):
        attempt.log_row(row["step"], {k: v for k, v in row.items() if k != "step"})
    for split, predictions in fields.pop("predictions", {}).items():
        attempt.write_arrays(PREDICTIONS.format(split=split), predictions)
    for name, scores in fields.pop("scores", {}).items():
        attempt.write_arrays(SCORES.format(name=name), scores)
    record = Record(
        spec=spec.to_json(), spec_id=spec.id, attempt=attempt.nonce, attempts=attempt.number,
        artifacts=attempt.artifacts(),
        **{
            "status": "failed" if "failure" in fields else "ok", "seconds": 1.5,
            "result": {"rule": "final", "epoch": 3}, "environment": ENVIRONMENT, "environment_id": "e" * 64,
            "digests": {"final": f"{spec.task}/{spec.variant}/{spec.seed}"}, **fields,
        },
    )  # fmt: skip
    assert store.commit(attempt, record)


def failure(kind: str = "raised", message: str = "no luck", **fields: str) -> Failure:
    return Failure(kind=kind, message=message, **fields)


def accuracies(values: Mapping[int, float], metric: str = "test/accuracy") -> Callable[[RunSpec], Outcome | None]:
    """Outcomes that report one metric; a seed that is not named stays pending."""
    return lambda spec: {"metrics": {metric: values[spec.seed]}} if spec.seed in values else None


def normal(seed: int, mean: float = 0.9, sd: float = 0.01) -> float:
    return float(np.random.default_rng(seed).normal(mean, sd))


def of_every_kind(spec: RunSpec) -> dict[str, Any] | None:
    """Runs that ended well, seed 3 that failed, seed 4 that was lost and seed 5 that is pending."""
    if spec.seed == 3:
        return {"failure": failure("raised", "boom")}
    if spec.seed == 4:
        return {"lost": True}
    if spec.seed == 5:
        return None
    probs = np.random.default_rng(spec.seed).dirichlet(np.ones(3), size=20)
    return {
        "metrics": {"test/accuracy": 0.9 + spec.seed / 100, "test/nll": 0.5, "odd/metric": float("nan")},
        "history": [{"step": 1, "val/loss": 0.5}],
        "predictions": {"test": Predictions(np.arange(20), np.arange(20) % 3, probs=probs)},
    }
