"""What reproducibility checklists of conferences ask, answered from the records of a directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sweep.analysis.model import Row
from sweep.errors import StoreError, listed
from sweep.number import number, percent
from sweep.report.document import Document, Note, Section, Table
from sweep.report.sentence import headline
from sweep.report.worded import Report
from sweep.store import Member, Store, record
from sweep.store.atomic import read
from sweep.store.manifest import ADOPTED
from sweep.store.member import attempts_of
from sweep.store.names import RECORD
from sweep.words import plural

UNKNOWN = "not recorded: to be answered by you"


def checklist(found: Report, store: Store) -> Document:
    """Return the answers, the compute that was used, and a methods paragraph; what no record says is named so."""
    members = list(store.scan())
    answers = [Note(f"{question}: {answer}") for question, answer in _answers(found, store, members)]
    return Document(
        f"{found.name}: reproducibility checklist",
        [
            Section("answers", answers), Section("compute", [_compute(members)]),
            Section("methods paragraph", [Note(methods(found))]),
        ],
    )  # fmt: skip


def _answers(found: Report, store: Store, members: list[Member]) -> Iterator[tuple[str, str]]:
    config, counts = store.manifest.config, found.counts
    varied = ", ".join(store.manifest.experiment.get("vary") or ()) or "everything that the seed controls"
    yield "seeds", f"{len(found.seeds)}: {listed([str(seed) for seed in found.seeds], 12)}"
    yield "what varies between seeds", varied
    yield "seeds added after results existed", plural(found.extensions, "extension") if found.extensions else "none"
    plain = f"{counts.planned} planned, {counts.ok} ok, {counts.failed} failed, {counts.lost} lost"
    yield "runs", str(counts) if found.mode == ADOPTED else plain
    yield "primary metric", f"{found.primary or UNKNOWN}; all other metrics are exploratory"
    for row in found.primary_rows:
        yield f"result{f' ({row.label})' if row.label else ''}", f"{headline(found, row)}; {row.method}"
    yield "assumption of the interval", "seeds are independent draws, roughly normal; no claim beyond what it is over"
    yield "epoch reported", found.result or UNKNOWN
    yield "hyperparameters", _parameters(config)
    yield "search", _search(config)
    yield "data", ", ".join(config.get("data") or ()) or str(_of(config, "data") or UNKNOWN)
    yield "splits", _splits(members)
    yield "code", _code(store)
    yield "mode", f"{found.mode}; {found.reproducibility}"
    for each in found.environments:
        yield f"machine of {plural(each.runs, 'run')}", each.summary
    yield "software", ", ".join(f"{name} {version}" for name, version in found.versions.items()) or UNKNOWN
    yield "licences, consent, broader impact", UNKNOWN


def _of(config: Mapping[str, Any], key: str) -> Any:
    params = config.get("params")
    return params.get(key) if isinstance(params, Mapping) else None


def _parameters(config: Mapping[str, Any]) -> str:
    params = config.get("params") or {}
    return ", ".join(f"{key}={value}" for key, value in params.items()) or "those of the code"


def _search(config: Mapping[str, Any]) -> str:
    grid = config.get("grid") or {}
    told = "; ".join(f"{key}: {listed([str(value) for value in values], 8)}" for key, values in grid.items())
    return f"grid of {told}" if told else "none in this directory"


def _splits(members: list[Member]) -> str:
    for member in members:
        sizes = member.record.result.get("examples") if member.record is not None else None
        if isinstance(sizes, Mapping) and sizes:
            return ", ".join(f"{split} {count}" for split, count in sizes.items())
    return UNKNOWN


def _code(store: Store) -> str:
    target = store.manifest.experiment.get("target")
    about = target if isinstance(target, Mapping) else {}
    name = about.get("reference") or " ".join(map(str, about.get("argv") or ())) or UNKNOWN
    digest = about.get("digest")
    return f"{name}, content {str(digest)[:12]}" if digest else str(name)


def _compute(members: list[Member]) -> Table:
    """Return seconds by outcome. Attempts that died before a record was written left no time, and are counted."""
    ended = [m.record for m in members if m.record is not None]
    ok = [each.seconds for each in ended if each.status == "ok"]
    failed = [each.seconds for each in ended if each.status == "failed"] + [s for m in members for s in _moved(m)]
    unknown = sum(max(m.attempts - 1 - m.retried, 0) if m.record else m.attempts for m in members)
    rows = [
        [name, str(len(seconds)), number(sum(seconds) / 3600, digits=3),
         number(sum(seconds) / len(seconds), digits=3) if seconds else "—"]
        for name, seconds in (("ok", ok), ("failed, retried ones included", failed), ("total", ok + failed))
    ]  # fmt: skip
    notes = [f"{plural(unknown, 'attempt')} died without a record; their time is not known"] if unknown else []
    return Table(("runs", "n", "hours", "seconds per run"), rows, notes=notes)


def _moved(member: Member) -> Iterator[float]:
    """Yield the seconds of failed records that a retry moved into their attempts."""
    for attempt in attempts_of(member.path):
        try:
            yield record.decode(read(attempt / RECORD, record.LIMIT)).seconds
        except (OSError, ValueError, StoreError):
            continue


def methods(found: Report) -> str:
    """Return a paragraph for the methods section of a paper."""
    counts = found.counts
    failed = "none failed" if not counts.failed else f"{counts.failed} of {counts.planned} runs failed"
    row: Row | None = next(iter(found.primary_rows), None)
    how = f" Intervals are {percent(found.level)} confidence intervals of the mean ({row.method})." if row else ""
    repeats = f", each {found.repeats} times" if found.repeats > 1 else ""
    repeats += f", each on the {found.folds} folds of a cross-validation" if found.folds else ""
    variants = len({each.variant for each in found.rows})
    each = f"each of {variants} configurations" if variants > 1 else "the model"
    if found.mode == ADOPTED:
        return f"We report {found.primary} of results that exist: {counts}.{how} The runs were {found.reproducibility}."
    return (
        f"We trained {each} with {plural(len(found.seeds), 'seed')}{repeats} in {found.mode} mode on {found.device} "
        f"and report {found.primary} of {found.result}; {failed}.{how} Bit-exact repetition: {found.reproducibility}."
    )
