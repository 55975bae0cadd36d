"""Findings in a run directory: rules of results, machines, suspicious results."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import isfinite

import numpy as np

from sweep.analysis import frames
from sweep.analysis.ensemble import finished
from sweep.analysis.model import Environment, ResultRule, Row
from sweep.analysis.remarks import Remark
from sweep.determinism.environment import of_environments
from sweep.goals import is_score
from sweep.shared_files import Shared
from sweep.store import Manifest, Member, Record
from sweep.store.manifest import differences
from sweep.store.names import HISTORY
from sweep.store.record import origin_of

DIGITS = 8  # digits of a metric times the number of other seeds: this many do not agree by chance
LONG = 500  # bytes of a history; a dozen rows


def result_rules(members: Iterable[Member]) -> tuple[ResultRule, ...]:
    """Return how the reported value of each ok run was chosen."""
    epochs: dict[str, list[int]] = defaultdict(list)
    for member in members:
        if member.record is not None and member.status == "ok":
            found = epochs[str(member.record.result.get("rule") or "returned")]
            epoch = member.record.result.get("epoch")
            if isinstance(epoch, int):
                found.append(epoch)
    return tuple(
        ResultRule(rule, min(found, default=None), max(found, default=None)) for rule, found in sorted(epochs.items())
    )


def environments(members: Iterable[Member]) -> tuple[Environment, ...]:
    """Return the distinct machines and software in the records, the most used first."""
    records: dict[str, list[Record]] = defaultdict(list)
    for member in members:
        if member.record is not None and member.record.environment_id:
            records[member.record.environment_id].append(member.record)
    ordered = sorted(records.values(), key=lambda its: (-len(its), its[0].environment_id))
    return tuple(_environment(its[0], len(its), ordered[0][0]) for its in ordered)


def _environment(record: Record, runs: int, most_used: Record) -> Environment:
    fields = record.environment
    return Environment(
        id=record.environment_id, runs=runs, fields=fields,
        differences=tuple(differences(most_used.environment, fields)),
        verdict={} if record is most_used else of_environments(origin_of(most_used), origin_of(record)).to_json(),
    )  # fmt: skip


def warnings(
    members: Sequence[Member],
    rows: Sequence[Row],
    machines: Sequence[Environment],
    manifest: Manifest,
    files: Sequence[Shared] = (),
    same: Iterable[tuple[str, ...]] = (),
) -> Iterator[Remark]:
    """Yield warnings, most serious first. same: the result of `identical`."""
    records = {member.key: member.record for member in members if member.record is not None}
    results = [records[member.key].result for member in members if member.status == "ok" and member.key in records]
    if manifest.stamp.get("status") == "differs":
        culprit = manifest.stamp.get("culprit") or manifest.stamp.get("difference") or ""
        yield Remark("not bit-exact", {"difference": culprit})
    changed = {key: list(record.files.get("changed") or ()) for key, record in records.items()}
    if any(changed.values()):
        yield Remark("two programs", {"changed": changed})
    yield from written_together(files, manifest)
    yield from (Remark("identical results", {"runs": keys}) for keys in same)
    if len(machines) > 1:
        differ = sorted({path for one in machines[1:] for path, _, _ in one.differences})
        answers = sorted({str(one.verdict["answer"]) for one in machines[1:]})
        yield Remark("environments", {"runs": [one.runs for one in machines], "in": differ, "verdicts": answers})
    if manifest.primary_before not in ("", str(manifest.config.get("primary") or "the default")):
        yield Remark("primary moved", {"before": manifest.primary_before})
    if manifest.until.get("named_late"):
        yield Remark("rule named late", {"before": [str(rule) for rule in manifest.until.get("before") or ()]})
    for row in rows:
        if row.primary and row.n > 1 and row.sd == 0:
            yield Remark("no spread", {"n": row.n, "label": row.label, "metric": row.metric})
    if again := [member.key for member in members if member.retried]:
        yield Remark("retried", {"runs": again})
    rules = {str(result.get("rule")) for result in results}
    if len(rules) > 1:
        yield Remark("different rules", {"rules": sorted(rules)})
    yield from _lengths(members)
    if len({str(record.collected["id"]) for record in records.values() if "id" in record.collected}) > 1:
        yield Remark("read differently")


def _lengths(members: Sequence[Member]) -> Iterator[Remark]:
    """Yield the runs of a program that ended at another step than most: the last value may not be the final one."""
    cells: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for m in members:
        epoch = m.record.result.get("epoch") if m.record is not None and m.record.collected else None
        if m.status == "ok" and isinstance(epoch, int):
            cells[m.task, m.variant][m.key] = epoch
    for ends in cells.values():
        usual = Counter(ends.values()).most_common(1)[0][0]
        if odd := {key: end for key, end in ends.items() if end != usual}:
            yield Remark("different ends", {"odd": odd, "usual": usual})


def written_together(found: Iterable[Shared], manifest: Manifest, *, in_turn: bool = False) -> Iterator[Remark]:
    """Yield the files below the launch folder that runs wrote side by side, or one after another."""
    those = [each for each in found if each.in_turn == in_turn]
    if those:
        allowed = bool(manifest.config.get("allow_shared"))
        yield Remark("shared file", {"first": those[0], "more": len(those) - 1, "in_turn": in_turn, "allowed": allowed})


def notes(
    runs: frames.Runs, files: Sequence[Shared], names: Sequence[str], *, cells: int, failed: int
) -> Iterator[Remark]:
    """Yield notes.

    They report the primary metric chosen by default, the effect of an unknown direction, files that runs wrote in
    turn, notes of runs (each once, with its runs), and damaged records.
    """
    manifest, primary, goal = runs.store.manifest, runs.primary, runs.goal
    config, kind = manifest.config, manifest.experiment.get("target", {}).get("kind")
    others = [name for name in names if name != primary and is_score(name)]
    plain = primary.startswith("test/") and goal is not None
    if primary and kind != "recipe" and not plain and not config.get("primary") and others:
        yield Remark("primary chosen", {"primary": primary, "other": others[0]})
    if primary and goal is None and (cells > 1 or failed):
        yield Remark("no direction", {"primary": primary, "several": cells > 1})
    yield from written_together(files, manifest, in_turn=True)
    said: dict[str, list[str]] = defaultdict(list)
    for member in runs.members:
        for note in (*(member.record.notes if member.record else ()), member.note):
            said[note].append(member.key)
    said.pop("", None)
    yield from (Remark("noted", {"note": note, "runs": keys}) for note, keys in said.items())


def identical(members: Iterable[Member]) -> tuple[tuple[str, ...], ...]:
    """Return groups of runs, of different seeds of one variant and task, that gave exactly the same result.

    Results are the same if the digests of the final weights, or of all predictions, are equal. Without digests, the
    metrics and histories of all finished seeds must be equal, and a history long enough or a metric fine enough (see
    `_digits`): accuracies of 0.90 agree by chance. Clocks and counts among the metrics do not matter.
    """
    return tuple(group for its in frames.by_cell(finished(members)).values() for group in _alike(its))


def _alike(its: Sequence[Member]) -> Iterator[tuple[str, ...]]:
    by_digest: dict[str, list[str]] = defaultdict(list)
    for member in its:
        if digest := _digest(member):
            by_digest[digest].append(member.key)
    yield from (tuple(keys) for keys in by_digest.values() if len(keys) > 1)
    records = [member.record for member in its if member.record]
    if by_digest or len(records) < 2:
        return
    scores = [{name: value for name, value in one.metrics.items() if is_score(name)} for one in records]
    if any(one != scores[0] for one in scores):
        return
    kept = [one.artifacts.get(HISTORY) for one in records]
    if any(one != kept[0] for one in kept):
        return
    fine = max(map(_digits, scores[0].values()), default=0) * (len(records) - 1) >= DIGITS
    if fine or (kept[0] is not None and kept[0].bytes >= LONG):
        yield tuple(member.key for member in its)


def _digits(value: float) -> int:
    """Return how many digits of a metric distinguish seeds: 0 for a number that may be a share of counted examples.

    If three seeds of a model differ only on three borderline examples, their accuracies agree in 11 % of 20,000
    simulated sweeps, with 50 examples as with 10,000; with one such example in 24 %. So a fraction with a denominator
    up to 10,000, within the precision of the number, is no evidence, nor is a loss printed with four decimals. For
    other numbers, the digits times the other seeds must reach 8: two seeds need 8 digits, three need 4. With a spread
    between seeds of 0.5 % of a loss, none of those 20,000 sweeps of 2, 3 or 5 seeds then agreed.
    """
    value = abs(value)
    if not value or not isfinite(value):
        return 0
    single = float(np.float32(value)) == value
    near = Fraction(value).limit_denominator(10_000)
    if abs(near - Fraction(value)) <= (6e-8 if single else 1e-12) * max(value, 1.0):
        return 0
    return len(repr(value).partition("e")[0].replace(".", "").strip("0"))


def _digest(member: Member) -> str:
    """Return the digest of the final weights of a run, else of its predictions, else ""."""
    if member.record is None:
        return ""
    files = sorted(
        f"{name} {artifact.sha256}" for name, artifact in member.record.artifacts.items()
        if name.startswith("predictions-") and name.endswith(".npz")
    )  # fmt: skip
    return member.record.digests.get("final") or " ".join(files)
