"""Answers to the reproducibility checklists of conferences, from the records of a directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweep.errors import listed
from sweep.number import number, percent
from sweep.report.counts import counted
from sweep.report.document import Document, Note, Section, Table
from sweep.report.sentence import EVERYTHING, headline, machine
from sweep.report.worded import Report
from sweep.store import Member, Store
from sweep.store.manifest import ADOPTED
from sweep.words import plural

UNKNOWN = "not recorded: please answer this yourself"


def checklist(found: Report, store: Store) -> Document:
    """Return the answers, the compute used, and a methods paragraph. Missing records are marked."""
    members = list(store.scan())
    answers = [Note(f"{question}: {answer}") for question, answer in _answers(found, store, members)]
    return Document(
        f"{found.name}: reproducibility checklist",
        [
            Section("answers", answers), Section("compute", [_compute(members)]),
            Section("methods paragraph", [Note(methods(found))]),
        ],
    )  # fmt: skip


def _answers(found: Report, store: Store, members: Sequence[Member]) -> Iterator[tuple[str, str]]:
    experiment, config, counts = store.manifest.experiment, store.manifest.config, found.counts
    params = config.get("params") or {}
    grid = [f"{key}: {listed([str(value) for value in its], 8)}" for key, its in (config.get("grid") or {}).items()]
    plain = f"{counts.planned} planned, {counts.ok} ok, {counts.failed} failed, {counts.lost} lost"
    yield "seeds", f"{len(found.seeds)}: {listed([str(seed) for seed in found.seeds], 12)}"
    yield "what varies between seeds", ", ".join(experiment.get("vary") or ()) or EVERYTHING
    yield "seeds added after results existed", plural(found.extensions, "extension") if found.extensions else "none"
    yield "runs", counted(counts) if found.mode == ADOPTED else plain
    yield "primary metric", f"{found.primary or UNKNOWN}; all other metrics are exploratory"
    for row in found.primary_rows:
        yield f"result{f' ({row.label})' if row.label else ''}", f"{headline(found, row)}; {row.method}"
    yield (
        "assumption of the interval",
        "seeds are independent draws, roughly normal; nothing is claimed beyond the scope of the interval",
    )
    yield "epoch reported", found.result or UNKNOWN
    yield "hyperparameters", ", ".join(f"{key}={value}" for key, value in params.items()) or "those of the code"
    yield "search", f"grid of {'; '.join(grid)}" if grid else "none in this directory"
    yield "data", ", ".join(config.get("data") or ()) or str(params.get("data") or UNKNOWN)
    yield "splits", _splits(members)
    yield "code", _code(experiment.get("target") or {})
    yield "mode", f"{found.mode}; {found.reproducibility}"
    for each in found.environments:
        yield f"machine of {plural(each.runs, 'run')}", machine(each)
    yield "software", ", ".join(f"{name} {version}" for name, version in found.versions.items()) or UNKNOWN
    yield "licences, consent, broader impact", UNKNOWN


def _splits(members: Sequence[Member]) -> str:
    sizes = (member.record.result.get("examples") for member in members if member.record is not None)
    found = next((one for one in sizes if isinstance(one, Mapping) and one), {})
    return ", ".join(f"{split} {count}" for split, count in found.items()) or UNKNOWN


def _code(target: Mapping[str, Any]) -> str:
    name = target.get("reference") or " ".join(map(str, target.get("argv") or ())) or UNKNOWN
    digest = target.get("digest")
    return f"{name}, content {str(digest)[:12]}" if digest else str(name)


def _compute(members: Sequence[Member]) -> Table:
    """Return hours by outcome. Earlier attempts at a run recorded no time; their number is noted."""
    records = [member.record for member in members if member.record is not None]
    outcomes = {name: [one.seconds for one in records if one.status == name] for name in ("ok", "failed")}
    outcomes["total"] = [one.seconds for one in records]
    rows = [
        [name, str(len(seconds)), number(sum(seconds) / 3600, digits=3),
         number(sum(seconds) / len(seconds), digits=3) if seconds else "—"]
        for name, seconds in outcomes.items()
    ]  # fmt: skip
    unknown = sum(member.attempts - (member.record is not None) for member in members)
    notes = [f"{plural(unknown, 'earlier attempt')} without a recorded time"] if unknown > 0 else []
    return Table(("runs", "n", "hours", "seconds per run"), rows, notes=notes)


def methods(found: Report) -> str:
    """Return a paragraph for the methods section of a paper."""
    counts = found.counts
    failed = "none failed" if not counts.failed else f"{counts.failed} of {counts.planned} runs failed"
    row = next(iter(found.primary_rows), None)
    how = f" Intervals are {percent(found.level)} confidence intervals of the mean ({row.method})." if row else ""
    if found.mode == ADOPTED:
        known = f"{counted(counts)}.{how} The runs were {found.reproducibility}."
        return f"We report {found.primary} of existing results: {known}"
    repeats = f", each {found.repeats} times" if found.repeats > 1 else ""
    repeats += f", each on the {found.folds} folds of a cross-validation" if found.folds else ""
    each = f"each of {len(found.variants)} configurations" if len(found.variants) > 1 else "the model"
    return (
        f"We trained {each} with {plural(len(found.seeds), 'seed')}{repeats} in {found.mode} mode on {found.device} "
        f"and report {found.primary} of {found.result}; {failed}.{how} Bit-exact repetition: {found.reproducibility}."
    )
