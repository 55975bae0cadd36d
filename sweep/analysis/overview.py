"""The overview of a run directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TypeVar

import pandas as pd

from sweep import evaluation, goals
from sweep.analysis import findings, frames, histories
from sweep.analysis.across import Pooled, across, improvements, logged_as, pooled, progress
from sweep.analysis.arms import mode_of
from sweep.analysis.ensemble import MOST_READ, finished, together
from sweep.analysis.frames import Cell, Runs
from sweep.analysis.histories import Histories
from sweep.analysis.model import Cause, Overview, Progress, Row, Scored, Together, by_split, counts_of
from sweep.analysis.pair import MOST_COMPARED, best_of
from sweep.analysis.remarks import Parts
from sweep.analysis.spread import medians, spreads
from sweep.shared_files import shared_by
from sweep.stats import clopper_pearson
from sweep.stats.sample import check_level
from sweep.store import Member, Store
from sweep.variants import regrouped, variants_of

T = TypeVar("T")


def overview(
    store: Store,
    *,
    level: float = 0.95,
    members: Iterable[Member] | None = None,
    group_by: Sequence[str] = (),
    curves: Histories | bool = False,
) -> Overview:
    """Return the overview of a run directory that is complete, running, or copied from another machine.

    Reads the records and, for the ensemble, the members' predictions, but never a model. The same directory gives the
    same overview, in whatever order its runs ended.
    curves: the histories of the runs, or True to read them if there are several tasks.
    members: those of `store.scan()`, to save scanning again. group_by: see `sweep.variants.regrouped`.
    Raises StatisticsError for a level outside (0, 1) or metrics whose columns collide.
    """
    check_level(level)
    manifest, parts = store.manifest, Parts()
    runs = Runs.of(store, regrouped(store.scan() if members is None else members, manifest, group_by), level)
    members, names = runs.members, frames.metric_names(runs.table)
    variants, counts = variants_of((m.variant for m in members), manifest), counts_of(members, adopted=manifest.adopted)
    changed = tuple(m.key for m in members if m.record is not None and m.record.files.get("changed"))
    ordered = by_split(names, runs.primary)
    rows = Parts().made("", lambda: _rows(runs, ordered), None)
    if rows is None:  # an error in one metric must not lose the others
        each = (parts.made(f"the row of {name}", partial(_rows, runs, [name]), ()) for name in ordered)
        rows = tuple(row for its in each for row in its)
    unscored: dict[str, Pooled] = {}
    scores = parts.made("the scores over tasks", lambda: pooled(runs), unscored)

    def over_steps() -> Iterable[Progress]:
        if not curves or not any(one.scores for one in scores.values()):
            return ()
        found = histories.read(store, members) if curves is True else curves
        metric = logged_as(list(found.logged), runs.primary)
        return progress(found.frame(metric), metric, scores, runs) if metric else ()

    def part(name: str, make: Callable[[], Iterable[T]]) -> tuple[T, ...]:
        return parts.made(name, lambda: tuple(make()), ())

    ensembles = part("the ensemble", lambda: () if group_by else _ensembles(runs))
    machines = part("the list of environments", lambda: findings.environments(members))
    files = part("the list of shared files", lambda: shared_by(members))
    same = part("the search for equal results", lambda: findings.identical(members))
    made = Overview(
        name=manifest.name,
        directory=store.shown,
        primary=runs.primary,
        level=level,
        counts=counts,
        rows=rows,
        causes=part(
            "the list of failures", lambda: (_cause(store, m) for m in members if m.status in ("failed", "lost"))
        ),
        together=ensembles,
        result_rules=part("the rule of the result", lambda: findings.result_rules(members)),
        mode=mode_of(manifest),
        device=str(manifest.experiment.get("device", "")),
        threads=int(manifest.experiment.get("threads", 1)),
        seeds=tuple(sorted(manifest.seeds)),
        repeats=1 if manifest.folds else int(manifest.experiment.get("repeats", 1)),
        folds=manifest.folds,
        extensions=manifest.extensions,
        until=dict(manifest.until),
        seed_log=tuple(asdict(entry) for entry in manifest.seed_log),
        stamp=dict(manifest.stamp),
        environments=machines,
        versions=dict(manifest.versions),
        remarks=part(
            "the list of warnings", lambda: findings.warnings(members, rows, machines, manifest, files, same)
        ),
        asides=part(
            "the list of notes",
            lambda: findings.notes(runs, files, names, cells=len(variants), failed=counts.failed),
        ),
        seconds=float(runs.table["seconds"].sum()),
        spreads=part("the spread of the seeds", lambda: spreads(runs)),
        medians=part("the medians", lambda: medians(runs)),
        across=part("the scores over tasks", lambda: across(scores, runs)),
        improvements=part("the probability of improvement", lambda: improvements(scores, level=level)),
        progress=part("the curve over tasks", over_steps),
        items=part("the scores of items", lambda: _items(runs)),
        identical=same,
        shared=files,
        changed=changed,
        group_by=tuple(group_by),
        vary=runs.vary,
        ratio=runs.ratio,
        variants=variants,
    )  # fmt: skip
    return replace(made, asides=(*parts.remarks, *made.asides))


def _rows(runs: Runs, metrics: Sequence[str]) -> tuple[Row, ...]:
    """Return a row for each of these metrics of each variant. The failure rate of adopted runs has no bound."""
    manifest = runs.store.manifest
    found = frames.summary_rows(runs.table, metrics, level=runs.level, ratio=runs.ratio, folds=manifest.folds)
    by_cell = {(one["metric"], one["task"], one["variant"]): one for one in found}
    best = _best(runs) if runs.primary in metrics else {}
    rows = []
    for metric in metrics:
        goal, primary = goals.direction(metric, runs.declared), metric == runs.primary
        for cell, label in runs.label.items():
            one = by_cell[metric, *cell]
            rate = clopper_pearson(one["failed"], one["ok"] + one["failed"], runs.level)
            rows.append(Row(
                **one, label=label, goal=goal, primary=primary, best=primary and cell in best,
                constant=primary and best.get(cell, False),
                failure_low=rate.low, failure_high=1.0 if manifest.adopted else rate.high,
            ))  # fmt: skip
    return tuple(rows)


def _best(runs: Runs) -> dict[Cell, bool]:
    """Return what `pair.best_of` finds in each task, by (task, variant): a table may set these in bold.

    Empty if splits of the same data vary, because the test behind the mark would have the wrong level.
    """
    manifest = runs.store.manifest
    by_task: dict[str, dict[str, pd.DataFrame]] = {}
    for (task, variant), cell in frames.cells(runs.table):
        by_task.setdefault(task, {})[variant] = cell
    found: dict[Cell, bool] = {}
    for task, its in by_task.items() if not (manifest.folds or "split" in runs.vary) else ():
        if len(its) <= MOST_COMPARED:
            numbers = {variant: frames.seed_values(cell, runs.primary)[1] for variant, cell in its.items()}
            planned = [cell["seed"].nunique() for cell in its.values()]
            kept = best_of(numbers, planned, runs.goal, paired=not manifest.numbered, level=runs.level)
            found |= {(task, variant): constant for variant, constant in kept.items()}
    return found


def _items(runs: Runs) -> Iterator[Scored]:
    """Yield the mean of every set of items with saved scores, in every variant and task."""
    for name in evaluation.names(runs.store, runs.members):
        for one in evaluation.items(runs.store, name, level=runs.level, members=runs.members):
            label, lacking = runs.label.get((one.task, one.variant), ""), one.planned - len(one.seeds)
            yield Scored(one.task, one.variant, label, name, one.mean, lacking)


def _ensembles(runs: Runs) -> Iterator[Together]:
    """Yield the scores of the ensemble of each variant and task, on the split of the primary metric if possible."""
    cells, wanted = frames.by_cell(runs.members), runs.primary.partition("/")[0]
    for cell, its in cells.items() if len(cells) <= MOST_READ else ():
        ready = finished(its)
        splits = {split for m in ready for split in runs.store.splits(m)}
        split = wanted if wanted in splits else "test" if "test" in splits else min(splits, default="")
        if split and len(ready) > 1:
            yield together(runs.store, its, label=runs.label[cell], split=split, declared=runs.declared)


def _cause(store: Store, member: Member) -> Cause:
    failure = member.record.failure if member.record else None
    log = store.log(member)
    return Cause(
        key=member.key, task=member.task, variant=member.variant, seed=member.seed, repeat=member.repeat,
        status=member.status,
        kind=failure.kind if failure else "lost", phase=failure.phase if failure else "",
        message=failure.message if failure else member.note,
        exception=failure.exception if failure else "", where=failure.where if failure else "",
        attempts=member.attempts, log=str(log.relative_to(store.path)) if log else "",
    )  # fmt: skip
