"""What a careful reader of a run directory would notice: rules, machines, odd results, the next command."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import isfinite
from typing import Any

import numpy as np

from sweep.analysis import frames
from sweep.analysis.model import Environment, ResultRule, Row
from sweep.analysis.remarks import Remark
from sweep.analysis.together import finished
from sweep.goals import direction, is_score
from sweep.store import Manifest, Member, Record
from sweep.store.manifest import differences
from sweep.store.names import HISTORY
from sweep.store.record import verdict_of
from sweep.written import Shared

DIGITS = 8  # of a metric, times the other seeds: by chance, so many do not agree
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
    """The distinct machines and software that finished runs report, the most used first."""
    runs: Counter[str] = Counter()
    records: dict[str, Record] = {}
    for member in members:
        if member.record is not None and member.record.environment_id:
            runs[member.record.environment_id] += 1
            records.setdefault(member.record.environment_id, member.record)
    ordered = sorted(runs, key=lambda found: (-runs[found], found))
    return tuple(_environment(records[found], runs[found], records[ordered[0]]) for found in ordered)


def _environment(record: Record, runs: int, most_used: Record) -> Environment:
    fields, common = record.environment, most_used.environment
    return Environment(
        id=record.environment_id, runs=runs, summary=_machine(fields), fields=fields,
        differences=tuple(f"{path}: {before} -> {after}" for path, before, after in differences(common, fields)),
        verdict={} if record is most_used else verdict_of(most_used, record).to_json(),
    )  # fmt: skip


def _machine(fields: Mapping[str, Any]) -> str:
    gpu = fields.get("gpu")
    hardware = gpu if isinstance(gpu, str) else fields.get("cpu_model") or fields.get("device")
    known = [f"torch {fields['torch']}"] if fields.get("torch") else []
    known += [f"Python {fields['python']}"] if fields.get("python") else []
    known += [str(hardware)] if hardware else []
    return ", ".join(known)


def written_together(found: Iterable[Shared], manifest: Manifest, *, in_turn: bool = False) -> Iterable[Remark]:
    """Note the files below the launch folder that runs wrote side by side, or one after the other."""
    those = [each for each in found if each.in_turn == in_turn]
    if those:
        allowed = bool(manifest.config.get("allow_shared"))
        yield Remark("shared file", {"first": those[0], "more": len(those) - 1, "in_turn": in_turn, "allowed": allowed})


def warnings(
    members: Sequence[Member],
    rows: Sequence[Row],
    found: Sequence[Environment],
    manifest: Manifest,
    files: Sequence[Shared] = (),
    same: Iterable[tuple[str, ...]] = (),
) -> tuple[Remark, ...]:
    """Return what should make a reader hesitate, most serious first. same: see `identical`."""
    return (
        *_broken(manifest.stamp), *_two_programs(members), *written_together(files, manifest),
        *(Remark("identical results", {"runs": keys}) for keys in same), *_mixed(found), *_moved(manifest),
        *_late(manifest), *_flat(rows), *_retried(members), *_rules(members), *_lengths(members), *_readings(members),
    )  # fmt: skip


def _broken(stamp: Mapping[str, Any]) -> Iterable[Remark]:
    if stamp.get("status") == "differs":
        yield Remark("not bit-exact", {"difference": stamp.get("culprit") or stamp.get("difference") or ""})


def _two_programs(members: Sequence[Member]) -> Iterable[Remark]:
    ended = {m.key: list(m.record.files.get("changed") or ()) for m in members if m.record is not None}
    if any(ended.values()):
        yield Remark("two programs", {"changed": ended})


def identical(members: Iterable[Member]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of runs, of different seeds of one variant and task, that gave the very same result.

    The same: equal digests of their final weights, or of all their predictions. Without either, of all finished seeds,
    equal histories of some length, or equal metrics of which one is fine enough (see `_digits`): accuracies of 0.90
    agree by chance. Clocks and counts among the metrics do not matter.
    """
    return tuple(group for its in frames.by_cell(finished(members)).values() for group in _alike(its))


def _alike(its: Sequence[Member]) -> Iterable[tuple[str, ...]]:
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
    """Return how many digits of a metric tell seeds apart: 0 for what may be a share of counted examples.

    Three seeds of a model that classifies all but three borderline examples alike have one accuracy in 11 % of 20,000
    simulated sweeps, on 50 examples as on 10,000, and in 24 % with one such example. So a fraction with a denominator
    up to 10,000, as near as its precision tells, is no evidence, and nor is a loss printed with four decimals. Of what
    is left the digits times the other seeds have to be 8: two seeds need 8 digits, three need 4. With a spread between
    seeds of 0.5 % of a loss, none of those 20,000 sweeps of 2, 3 or 5 seeds then agreed.
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
    """What identifies the model of a run: the digest of its final weights, else of its predictions, else ""."""
    if member.record is None:
        return ""
    files = sorted(
        f"{name} {artifact.sha256}" for name, artifact in member.record.artifacts.items()
        if name.startswith("predictions-") and name.endswith(".npz")
    )  # fmt: skip
    return member.record.digests.get("final") or " ".join(files)


def _mixed(found: Sequence[Environment]) -> Iterable[Remark]:
    if len(found) > 1:
        changed = sorted({line.partition(":")[0] for one in found[1:] for line in one.differences})
        answers = sorted({str(one.verdict["answer"]) for one in found[1:]})
        yield Remark("environments", {"runs": [one.runs for one in found], "in": changed, "verdicts": answers})


def _moved(manifest: Manifest) -> Iterable[Remark]:
    if manifest.primary_before not in ("", str(manifest.config.get("primary") or "the default")):
        yield Remark("primary moved", {"before": manifest.primary_before})


def _late(manifest: Manifest) -> Iterable[Remark]:
    if manifest.until.get("named_late"):
        yield Remark("rule named late", {"before": [str(rule) for rule in manifest.until.get("before") or ()]})


def _flat(rows: Sequence[Row]) -> Iterable[Remark]:
    for row in rows:
        if row.primary and row.n > 1 and row.sd == 0:
            yield Remark("no spread", {"n": row.n, "label": row.label, "metric": row.metric})


def _retried(members: Sequence[Member]) -> Iterable[Remark]:
    again = [member.key for member in members if member.retried]
    if again:
        yield Remark("retried", {"runs": again})


def _rules(members: Sequence[Member]) -> Iterable[Remark]:
    rules = {str(m.record.result.get("rule")) for m in members if m.record is not None and m.status == "ok"}
    if len(rules) > 1:
        yield Remark("different rules", {"rules": sorted(rules)})


def _lengths(members: Sequence[Member]) -> Iterable[Remark]:
    """Note which runs of a program ended at another step than most: one that fell silent has no newer value."""
    cells: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for m in members:
        epoch = m.record.result.get("epoch") if m.record is not None and m.record.collected else None
        if m.status == "ok" and isinstance(epoch, int):
            cells[m.task, m.variant][m.key] = epoch
    for ends in cells.values():
        usual = Counter(ends.values()).most_common(1)[0][0]
        if odd := {key: end for key, end in ends.items() if end != usual}:
            yield Remark("different ends", {"odd": odd, "usual": usual})


def _readings(members: Sequence[Member]) -> Iterable[Remark]:
    ways = {str(m.record.collected["id"]) for m in members if m.record is not None and "id" in m.record.collected}
    if len(ways) > 1:
        yield Remark("read differently")


def notes(members: Iterable[Member]) -> Iterable[Remark]:
    """Return what runs noted, each note once with the runs that it is of; a finished run's own damage too."""
    said: dict[str, list[str]] = defaultdict(list)
    for member in members:
        for note in (*(member.record.notes if member.record else ()), member.note):
            said[note].append(member.key)
    said.pop("", None)
    return (Remark("noted", {"note": note, "runs": keys}) for note, keys in said.items())


def choices(manifest: Manifest, names: Sequence[str], primary: str, *, cells: int, failed: int) -> Iterable[Remark]:
    """Note which metric was chosen as the primary one where nobody chose, and what an unknown direction costs."""
    config, kind = manifest.config, manifest.experiment.get("target", {}).get("kind")
    others = [name for name in names if name != primary and is_score(name)]
    plain = primary.startswith("test/") and direction(primary, config.get("goals") or {}) is not None
    if primary and kind != "recipe" and not plain and not config.get("primary") and others:
        yield Remark("primary chosen", {"primary": primary, "other": others[0]})
    if primary and direction(primary, config.get("goals") or {}) is None and (cells > 1 or failed):
        yield Remark("no direction", {"primary": primary, "several": cells > 1})
