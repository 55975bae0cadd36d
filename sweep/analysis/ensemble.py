"""The ensemble of finished members beside their mean. Predictions are matched by example id, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sweep import ensemble, goals
from sweep.analysis.model import Score, Together
from sweep.analysis.remarks import Remark
from sweep.ensemble.assess import BY_CONSTRUCTION
from sweep.ensemble.gather import BUDGET, read
from sweep.ensemble.members import Members
from sweep.errors import SweepError
from sweep.store import Member, Store, by_seed
from sweep.store.names import PREDICTIONS

MOST_READ = 24  # variants x tasks; with more, a report does not read the predictions of members


def together(
    store: Store, members: Sequence[Member], *, label: str, split: str, declared: Mapping[str, str]
) -> Together:
    """Score the ensemble of one variant and task on `split`; its `reason` is set if it cannot be built.

    members: all planned runs of the cell; only those that are ok count, see `by_seed`.
    """
    first = members[0]
    planned = len({member.seed for member in members})
    having = sum(store.has(m, PREDICTIONS.format(split=split)) for m in finished(members))
    blank = Together(first.task, first.variant, label, split, having, planned, 0)
    found = cell(store, members, split)
    if isinstance(found, Remark):
        return replace(blank, reason=found)
    scores = tuple(
        Score(name, goals.direction(name, declared), whole, mean, whole - mean, name in BY_CONSTRUCTION)
        for name, (whole, mean) in ensemble.brief(found).items()
    )
    return replace(blank, examples=len(found.ids), scores=scores)


def finished(members: Iterable[Member]) -> list[Member]:
    return [m for m in by_seed(members) if m.status == "ok" and m.record is not None]


def cell(store: Store, members: Sequence[Member], split: str) -> Members | Remark:
    """Return the matched predictions of one variant and task, by seed, or why there are none."""
    name, chosen = PREDICTIONS.format(split=split), finished(members)
    having = [m for m in chosen if store.has(m, name)]
    if len(having) < len(chosen):
        of = {"without": len(chosen) - len(having), "of": len(chosen), "split": split}
        return Remark("members without predictions", of)
    size = sum(file.bytes for m in having for file in m.artifacts(name))
    if size > BUDGET:
        return Remark("too many predictions", {"mebibytes": size >> 20})
    try:
        return read(store, [(f"seed{m.seed}", m) for m in having], split)
    except SweepError as refused:
        return Remark("refused", {"why": str(refused)})
