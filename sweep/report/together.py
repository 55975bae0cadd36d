"""The ensemble of the finished members beside the members' mean: rows matched by example id or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep import ensemble, goals
from sweep.errors import EnsembleError, SweepError
from sweep.report.model import Score, Together
from sweep.store import Member, Predictions, Store

BUDGET = 256 << 20  # bytes of float64 predictions that a report holds at once

# Jensen's inequality: never worse than the members' mean, whatever the members are.
BY_CONSTRUCTION = frozenset({"nll", "brier", "mse", "rmse"})


def together(
    store: Store, members: Sequence[Member], *, label: str, split: str, declared: Mapping[str, str]
) -> Together:
    """The ensemble of one variant and task on `split`; its `reason` is set where it cannot be built.

    members: all planned runs of the cell; those that are ok count, the first repeat of each seed.
    """
    first = members[0]
    planned = len({member.seed for member in members})
    chosen = [m for m in members if m.status == "ok" and m.repeat == 0]
    about: dict[str, Any] = {
        "task": first.task, "variant": first.variant, "label": label, "split": split, "planned": planned,
    }  # fmt: skip
    name = f"predictions-{split}.npz"
    having = [m for m in chosen if store.has(m, name)]
    blank = Together(members=len(having), examples=0, **about)
    if len(having) < len(chosen):
        return replace(
            blank, reason=f"{len(chosen) - len(having)} of {len(chosen)} members kept no {split} predictions"
        )
    size = sum(m.record.artifacts[name].bytes for m in having if m.record)
    if size > BUDGET:
        return replace(blank, reason=f"{size >> 20} MiB of predictions: sweep ensemble reads them")
    try:
        made = [_read(store, member, split) for member in having]
        stacked, targets = matched(made, [member.key for member in having])
        found = ensemble.brief(stacked.pop("probs", None), targets, **stacked)
    except SweepError as error:
        return replace(blank, reason=str(error).replace("\n  ", "; "))
    scores = tuple(_score(k, v, found["members_mean"][k], declared) for k, v in found["ensemble"].items())
    return Together(members=len(having), examples=len(made[0].ids), scores=scores, **about)


def _read(store: Store, member: Member, split: str) -> Predictions:
    found = store.predictions(member, split)
    if found is None:
        raise EnsembleError(f"{member.key} has no {split} predictions")
    return found


def matched(
    made: Sequence[Predictions], keys: Sequence[str]
) -> tuple[dict[str, npt.NDArray[np.float64]], npt.NDArray[Any]]:
    """(name -> (members, examples, …), targets), rows in the order of the sorted ids, members as given.

    EnsembleError where `ensemble.stack` refuses them.
    """
    found = ensemble.stack(zip(keys, made, strict=True))
    order = [found.labels.index(key) for key in keys]
    arrays = {"probs": found.probs, "mean": found.mean, "var": found.var}
    return {name: array[order] for name, array in arrays.items() if array is not None}, found.targets


def _score(metric: str, value: float, members_mean: float, declared: Mapping[str, str]) -> Score:
    return Score(
        metric=metric, goal=goals.direction(metric, declared), ensemble=value, members_mean=members_mean,
        difference=value - members_mean, by_construction=metric in BY_CONSTRUCTION,
    )  # fmt: skip
