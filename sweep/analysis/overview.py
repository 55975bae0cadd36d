"""A run directory becomes an Overview."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pandas as pd

from sweep import evaluation, goals
from sweep.analysis import findings, frames, histories
from sweep.analysis.across import Pooled, across, improvements, pooled
from sweep.analysis.arms import mode_of
from sweep.analysis.commands import next_commands
from sweep.analysis.histories import Histories
from sweep.analysis.model import Cause, Overview, Progress, Row, Scored, Together, by_split, counts_of
from sweep.analysis.pair import MOST_COMPARED, best_of
from sweep.analysis.parts import Parts
from sweep.analysis.progress import logged_as, progress
from sweep.analysis.spread import medians, spreads
from sweep.analysis.together import MOST_READ, finished, together
from sweep.stats import clopper_pearson
from sweep.stats.sample import check_level
from sweep.store import Member, Store
from sweep.variants import labels_of, regrouped, variants_of
from sweep.written import shared_by


def overview(
    store: Store,
    *,
    level: float = 0.95,
    members: Iterable[Member] | None = None,
    group_by: Sequence[str] = (),
    curves: Histories | bool = False,
) -> Overview:
    """Return what a run directory holds: finished, running, or copied from another machine.

    Reads the records and, for the ensemble, the members' predictions; never a model. The same directory gives the same
    overview, whatever the order in which its runs finished.
    curves: what the runs logged, or True to read it where it tells something about several tasks.
    members: those of `store.scan()`, to save scanning again. group_by: see `sweep.variants.regrouped`.
    StatisticsError for a level outside (0, 1) or metrics whose columns collide.
    """
    check_level(level)
    members = regrouped(store.scan() if members is None else members, store.manifest, group_by)
    members = sorted(members, key=lambda m: (m.task, m.variant, m.seed, m.repeat))
    manifest, config = store.manifest, store.manifest.config
    table = frames.frame_of(members)
    declared = config.get("goals") or {}
    names = frames.metric_names(table)
    primary = primary_metric(config.get("primary"), names, declared)
    goal = goals.direction(primary, declared)
    label = labels_of(((m.task, m.variant) for m in members), manifest)
    variants = variants_of((m.variant for m in members), manifest)
    vary = tuple(manifest.experiment.get("vary") or ())
    ratio = frames.test_to_train(members, vary)
    counts = counts_of(members, adopted=manifest.adopted)
    parts = Parts()

    references = config.get("references") or {}
    named = {folder: one.label for folder, one in variants.items()}
    unscored: dict[str, Pooled] = {}
    scores = parts.made("the scores over tasks", lambda: pooled(table, primary, references), unscored)

    def over_steps() -> Iterable[Progress]:
        if not curves or not any(one.scores for one in scores.values()):
            return ()
        found = histories.read(store, members) if curves is True else curves
        metric = logged_as(list(found.logged), primary)
        return progress(found.frame(metric), metric, scores, references, named, level=level) if metric else ()

    def rows_of(metrics: Sequence[str]) -> tuple[Row, ...]:
        summary = frames.summary(table, metrics, level=level, ratio=ratio, folds=manifest.folds)
        rows = _rows(summary, metrics, primary, label, declared)
        if manifest.adopted:
            rows = tuple(replace(row, failure_high=1.0) for row in rows)
        # Where splits of the same data vary, the test behind the mark would have the wrong level.
        resplit = manifest.folds or "split" in vary
        return rows if resplit else tuple(_marked(rows, table, paired=not manifest.numbered))

    ordered = by_split(names, primary)
    rows = Parts().made("", lambda: rows_of(ordered), None)
    if rows is None:  # one metric must not cost the others
        each = (parts.made(f"the row of {name}", partial(rows_of, [name]), ()) for name in ordered)
        rows = tuple(row for its in each for row in its)
    ensembles = parts.made(
        "the ensemble", lambda: () if group_by else _ensembles(store, members, label, primary, declared), ()
    )
    environments = parts.made("the list of environments", lambda: findings.environments(members), ())
    files = parts.made("the list of shared files", lambda: shared_by(members), ())
    same = parts.made("the search for equal results", lambda: findings.identical(members), ())
    changed = tuple(m.key for m in members if m.record is not None and m.record.files.get("changed"))
    together = bool(ensembles) and "split" not in vary
    made = Overview(
        name=manifest.name,
        directory=store.shown,
        primary=primary,
        level=level,
        counts=counts,
        rows=rows,
        causes=parts.made(
            "the list of failures",
            lambda: tuple(_cause(store, m) for m in members if m.status in ("failed", "lost")), (),
        ),
        together=ensembles,
        result_rules=parts.made("the rule of the result", lambda: findings.result_rules(members), ()),
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
        environments=environments,
        versions=dict(manifest.versions),
        remarks=parts.made(
            "the list of warnings", lambda: findings.warnings(members, rows, environments, manifest, files, same), ()
        ),
        asides=parts.made(
            "the list of notes",
            lambda: (
                *findings.choices(manifest, names, primary, cells=len(variants), failed=counts.failed),
                *findings.written_together(files, manifest, in_turn=True),
                *findings.notes(members),
            ),
            (),
        ),
        next=parts.made(
            "the next command",
            lambda: next_commands(store, counts, cells=len(label), together=together, changed=bool(changed)),
            (),
        ),
        seconds=float(table["seconds"].sum()),
        spreads=parts.made(
            "the spread of the seeds",
            lambda: tuple(spreads(store, members, table, primary, label, goal=goal, vary=vary, level=level)), (),
        ),
        medians=parts.made(
            "the medians", lambda: tuple(medians(table, primary, label, goal=goal, level=level)), ()
        ),
        across=parts.made(
            "the scores over tasks",
            lambda: tuple(across(scores, primary, table["task"].nunique(), named, level=level)), (),
        ),
        improvements=parts.made(
            "the probability of improvement", lambda: tuple(improvements(scores, level=level)), ()
        ),
        progress=parts.made("the curve over tasks", lambda: tuple(over_steps()), ()),
        items=parts.made("the scores of items", lambda: tuple(_items(store, members, label, level)), ()),
        identical=same,
        shared=files,
        changed=changed,
        group_by=tuple(group_by),
        vary=vary,
        ratio=ratio,
        variants=variants,
    )  # fmt: skip
    return replace(made, asides=(*parts.remarks, *made.asides))


def primary_metric(asked: Any, names: Sequence[str], declared: Mapping[str, str] | None = None) -> str:
    """Return the headline: the metric that the config names, else the one that `goals.primary_of` chooses."""
    return frames.column_name(str(asked)) if asked else goals.primary_of(names, declared)


def _items(
    store: Store, members: Sequence[Member], label: Mapping[tuple[str, str], str], level: float
) -> Iterable[Scored]:
    """Yield the mean of every set of items that runs saved scores of, in every variant and task."""
    for name in evaluation.names(store, members):
        for one in evaluation.items(store, name, level=level, members=members):
            yield Scored(
                name, one.variant, one.task, label.get((one.task, one.variant), ""), one.mean,
                one.planned - len(one.seeds),
            )  # fmt: skip


def _rows(
    summary: pd.DataFrame,
    names: Sequence[str],
    primary: str,
    label: Mapping[tuple[str, str], str],
    declared: Mapping[str, str],
) -> tuple[Row, ...]:
    records: list[dict[str, Any]] = summary.to_dict("records")  # type: ignore[assignment]  # names are str
    found = {(r["metric"], r["task"], r["variant"]): r for r in records}
    return tuple(
        _row(found[metric, *cell], label[cell], goals.direction(metric, declared), metric == primary)
        for metric in names for cell in label
    )  # fmt: skip


def _row(r: Mapping[str, Any], label: str, goal: goals.Goal | None, primary: bool) -> Row:
    def value(name: str) -> float | None:
        return None if pd.isna(r[name]) else float(r[name])

    rate = clopper_pearson(r["failed"], r["ok"] + r["failed"], r["level"])
    return Row(
        metric=r["metric"], task=r["task"], variant=r["variant"], label=label, goal=goal, primary=primary,
        n=int(r["n"]), mean=value("mean"), sd=value("sd"), low=value("low"), high=value("high"),
        min=value("min"), max=value("max"), missing=int(r["missing"]), planned=int(r["planned"]),
        ok=int(r["ok"]), failed=int(r["failed"]), lost=int(r["lost"]), pending=int(r["pending"]),
        failure_low=rate.low, failure_high=rate.high, level=float(r["level"]),
        method=r["method"], over=r["over"],
    )  # fmt: skip


def _marked(rows: Sequence[Row], table: pd.DataFrame, *, paired: bool) -> Iterable[Row]:
    """Return rows with those marked that a table may set in bold: what `pair.best_of` finds in each task."""
    arms: dict[str, list[Row]] = {}
    for row in rows:
        if row.primary:
            arms.setdefault(row.task, []).append(row)
    values = dict(frames.cells(table)) if len(rows) > 1 else {}
    marked = set()
    for task, its in arms.items():
        if 1 < len(its) <= MOST_COMPARED:
            numbers = {row.variant: frames.seed_values(values[task, row.variant], row.metric)[1] for row in its}
            kept = best_of(numbers, [row.planned for row in its], its[0].goal, paired=paired, level=its[0].level)
            marked |= {(task, variant) for variant in kept}
    return (replace(row, best=row.primary and (row.task, row.variant) in marked) for row in rows)


def _cause(store: Store, member: Member) -> Cause:
    failure = member.record.failure if member.record else None
    log = store.log(member)
    lost = "its process ended without a record; the next sweep run tries this seed again"
    return Cause(
        key=member.key, task=member.task, variant=member.variant, seed=member.seed, repeat=member.repeat,
        status=member.status,
        kind=failure.kind if failure else "lost", phase=failure.phase if failure else "",
        message=failure.message if failure else member.note or lost,
        exception=failure.exception if failure else "", where=failure.where if failure else "",
        attempts=member.attempts, log=str(log.relative_to(store.path)) if log else "",
    )  # fmt: skip


def _ensembles(
    store: Store,
    members: Sequence[Member],
    label: Mapping[tuple[str, str], str],
    primary: str,
    declared: Mapping[str, str],
) -> tuple[Together, ...]:
    cells = frames.by_cell(members)
    made = []
    for cell, its in cells.items() if len(cells) <= MOST_READ else ():
        ready = finished(its)
        splits = {split for m in ready for split in store.splits(m)}
        wanted = primary.partition("/")[0]
        split = wanted if wanted in splits else "test" if "test" in splits else min(splits, default="")
        if split and len(ready) > 1:
            made.append(together(store, its, label=label[cell], split=split, declared=declared))
    return tuple(made)
