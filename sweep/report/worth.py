"""What the ensemble of a directory is worth: gathered, assessed, and held with what was asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sweep import ensemble
from sweep.ensemble import Assessment, Members
from sweep.ensemble.gather import choose, gather
from sweep.ensemble.select import Metric
from sweep.errors import EnsembleError, SweepError
from sweep.report.worth_model import Worth
from sweep.report.worth_text import text
from sweep.store import Member, Store

# Of these one is trained or chosen on; any other split in the members is a test set.
OWN_SPLITS = frozenset({"train", "val", "test"})


@dataclass(frozen=True, repr=False)
class Told(Worth):
    """What `worth` returns: a Worth that a prompt shows as its text, and a notebook as HTML."""

    def __repr__(self) -> str:
        return text(self, width=100)

    def _repr_html_(self) -> str:
        from sweep.report.worth_cell import fragment

        return fragment(self)


def worth(
    store: Store,
    *,
    split: str = "test",
    variant: str | None = None,
    task: str | None = None,
    members: Sequence[str | int] | None = None,
    allow_missing: bool = False,
    calibrate: bool = False,
    select: Metric | Literal["greedy"] | None = None,
    margin: float | Mapping[str, float] | None = None,
    level: float = 0.95,
    disputed: int = 10,
) -> Worth:
    """Build the ensemble of a directory's finished members and say what it is worth on `split`.

    variant, task: needed where there are several. members: seeds or labels (`seed42`). calibrate: predictions
    and frame are the calibrated ones. select: greedy selection on val by this metric ("greedy": by NLL).
    margin: how many members are enough, in the unit of a metric (NLL, or RMSE), or one for each metric.
    Calibration is fitted on val where all members predicted it; splits beside train, val and test that all
    members predicted are scored as well.

    Raises: EnsembleError for members that are absent (unless allow_missing) or do not match.
    """
    found = gather(store, split, variant=variant, task=task, members=members, allow_missing=allow_missing)
    chosen = choose(store, variant=variant, task=task, members=members)
    runs = [(label, one) for label, one in chosen.runs if label in set(found.labels)]
    of: dict[str, Any] = {"variant": runs[0][1].variant, "task": runs[0][1].task}
    notes: list[str] = []
    val = None if split == "val" else _val(store, runs, of, notes)
    extra = _extra(store, runs, of, split, notes)
    made = ensemble.assess(
        found, val=val, extra=extra, calibrated=calibrate,
        select="nll" if select == "greedy" else select, level=level, disputed=disputed,
    )  # fmt: skip
    return Told(
        name=store.manifest.name,
        directory=store.shown,
        planned=len(chosen.runs) + len(chosen.missing),
        assessment=made,
        enough=_enough(made, margin),
        notes=(*made.notes, *notes),
        **of,
    )


Runs = Sequence[tuple[str, Member]]


def _val(store: Store, runs: Runs, of: Mapping[str, Any], notes: list[str]) -> Members | None:
    lacking = [label for label, one in runs if "val" not in store.splits(one)]
    if not lacking:
        return gather(store, "val", members=[label for label, _ in runs], **of)
    if len(lacking) < len(runs):
        notes.append(f"val was not used: {', '.join(lacking[:5])} saved no predictions for it")
    return None


def _extra(store: Store, runs: Runs, of: Mapping[str, Any], split: str, notes: list[str]) -> dict[str, Members]:
    """Every further test set, or a sentence saying why it is not scored."""
    splits = {label: set(store.splits(one)) for label, one in runs}
    found: dict[str, Members] = {}
    for name in sorted(set().union(*splits.values()) - OWN_SPLITS - {split}):
        lacking = [label for label, has in splits.items() if name not in has]
        if lacking:
            notes.append(f"{name} is not scored: {', '.join(lacking[:5])} saved no predictions for it")
            continue
        try:
            found[name] = gather(store, name, members=list(splits), **of)
        except SweepError as refused:
            notes.append(f"{name} is not scored: {refused.what}")
    return found


def _enough(made: Assessment, margin: float | Mapping[str, float] | None) -> tuple[tuple[str, float, int], ...]:
    if margin is None:
        return ()
    curves = {one.metric: one for one in made.curves}
    usual = "nll" if made.kind == "classification" else "rmse"
    asked = margin if isinstance(margin, Mapping) else {usual: margin}
    unknown = [name for name in asked if name not in curves]
    if unknown:
        raise EnsembleError(f"there is no size curve of {unknown[0]!r}", hint=f"choose one of {', '.join(curves)}")
    return tuple((name, float(value), ensemble.enough(curves[name], value)) for name, value in asked.items())
