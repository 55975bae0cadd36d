"""The comparison of directories: its design, its pairs, and the interval that counts for each pair."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sweep import goals
from sweep.analysis import pair as pairs_of
from sweep.analysis.arms import Arm, arms_of, declared, metric_names, pairable, shared_seeds
from sweep.analysis.comparison import Comparison, Design, Exploratory, Pair
from sweep.analysis.findings import identical
from sweep.analysis.frames import primary_metric
from sweep.analysis.gate import checks, require_direction
from sweep.analysis.remarks import Remark
from sweep.errors import ConfigError, StatisticsError, listed, unreported
from sweep.number import number
from sweep.stats import bonferroni_level, holm, parse_gate
from sweep.stats.sample import unit
from sweep.store import Store
from sweep.variants import letter, without_hash
from sweep.words import shown

SEED = 0
Wanted = tuple[Arm, Arm, bool]  # two arms, and whether they are compared seed by seed


def compare(
    *stores: Store,
    baseline: str | None = None,
    metric: str | None = None,
    paired: bool = True,
    margin: float | None = None,
    require: Sequence[str] = (),
    max_failures: int = 0,
    group_by: Sequence[str] = (),
    fresh: bool = False,
    level: float = 0.95,
    seed: int = SEED,
) -> Comparison:
    """Compare configurations: the variants of one directory, or those of several.

    Every pair is tested on the primary metric (or `metric`). With `baseline` (a variant, a directory or its position
    from 1), each other configuration is tested against that one; differences are then candidate - baseline.
    The design is paired by the seeds that both plan if these are most of them and `paired` is true. Tasks are
    compared separately and share one family for Holm. margin: what counts as equal (see `equivalence`).
    require: gates, see `sweep.stats.parse_gate`; the base is the baseline, or the first configuration.
    fresh: only seeds of the last extension. seed: of the generator for permutations too many to enumerate.

    Raises ConfigError for unknown names, StatisticsError if nothing can be compared.
    """
    if not stores:
        raise StatisticsError("there is nothing to compare", hint="name two directories, or one that has variants")
    arms = arms_of(stores, group_by=group_by, fresh=fresh)
    gates = [parse_gate(text) for text in require]
    base = _named(arms, baseline) if baseline is not None else None
    by_task = _by_task(arms)
    absolute = bool(gates) and all(gate.form == "fixed" for gate in gates)
    by_task = {task: found for task, found in by_task.items() if len(found) > 1 or absolute}
    if not by_task:
        raise StatisticsError(
            "there is one configuration, and nothing to compare it with" if len(arms) < 2
            else "these directories have no task in common",
            hint="name a second directory, or run a grid: params.optimizer.lr=0.01,0.1",
        )  # fmt: skip
    known = metric_names(arms)
    goal_of = declared(stores)
    require_direction(gates, goal_of)
    primary = metric or (gates[0].metric if gates else None) or _primary(stores, known, goal_of)
    for name in (primary, *(gate.metric for gate in gates)):
        if name not in known and any(arm.count("ok") for arm in arms):
            raise ConfigError.of([unreported(name, known)], where="metric")
    for name in dict.fromkeys((primary, *(gate.metric for gate in gates))):
        _comparable([arm for found in by_task.values() for arm in found], name)
    pairs = (pair for found in by_task.values() for pair in _pairs(found, base))
    wanted = [(a, b, paired and pairable(a, b)) for a, b in itertools.islice(pairs, pairs_of.MOST + 1)]
    if len(wanted) > pairs_of.MOST:
        raise StatisticsError(
            f"{len(arms):,} configurations give more than {pairs_of.MOST:,} pairs",
            hint="compare each with one of them (--baseline NAME), or group the grid with --group-by",
        )
    rng = np.random.default_rng(seed)
    each = bonferroni_level(level, max(1, len(wanted)))
    goal = goals.direction(primary, goal_of)
    raw = [
        pairs_of.pair(a, b, primary, goal, paired=both, level=level, each=each, margin=margin, rng=rng,
                      permute=len(wanted) <= pairs_of.MOST_PERMUTED)
        for a, b, both in wanted
    ]  # fmt: skip
    made = [
        pairs_of.judged(pair, a, b, p, level=level)
        for pair, (a, b, _), p in zip(raw, wanted, holm([pairs_of.tested(pair) for pair in raw]), strict=True)
    ]
    others = [name for name in known if name != primary]
    return Comparison(
        metric=primary, goal=goal, level=level, design=_design(paired, wanted),
        paired=bool(wanted) and all(both for _, _, both in wanted),
        arms=tuple(dict.fromkeys(arm.name for arm in arms)), pairs=tuple(made),
        exploratory=tuple(_exploratory(wanted, others, goal_of, level)),
        checks=tuple(checks(gates, by_task.values(), base, paired=paired, max_failures=max_failures, level=level)),
        remarks=tuple(_remarks(by_task, len(arms), made)), seed=seed,
        lacking=_lacking(wanted),
    )  # fmt: skip


def _by_task(arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    found: dict[str, list[Arm]] = {}
    for arm in arms:
        found.setdefault(arm.task, []).append(arm)
    return found


def _comparable(arms: Sequence[Arm], metric: str) -> None:
    for arm in arms:
        found = arm.values.get(metric, {})
        if unit([*found.values()]) != 1:
            seed = max(found, key=lambda seed: abs(found[seed]))
            of = f" of {shown(arm.name)}" if arm.name else ""
            raise StatisticsError(
                f"{metric}{of} is {number(found[seed])} at seed {seed}: its variance does not fit a float",
                hint="compare another metric with --metric, or log its logarithm",
            )


def _primary(stores: Sequence[Store], known: Sequence[str], goal_of: Mapping[str, str]) -> str:
    asked = {str(p) for store in stores if (p := store.manifest.config.get("primary"))}
    if len(asked) > 1:
        raise StatisticsError(
            f"the directories name different primary metrics: {listed(sorted(asked))}",
            hint="choose one of them: --metric test/accuracy",
        )
    return primary_metric(next(iter(asked), None), known, goal_of)


def _named(arms: Sequence[Arm], name: str) -> str:
    """Return the full name of an arm from a short one; the first way of matching that finds any arm decides."""
    wanted = name.rstrip("/")
    by_name = {arm.name: arm for arm in arms}
    names = list(by_name)
    folders = {n: arm.members[0].variant for n, arm in by_name.items() if arm.members}
    ways: list[Callable[[str], bool]] = [
        lambda n: n == name,
        lambda n: wanted in (n.partition(": ")[0], n.partition(": ")[2]) or n.endswith((f"-{wanted}", f"={wanted}")),
        lambda n: len(names) > 1 and wanted == letter(names.index(n)),
        lambda n: n == wanted.rpartition("/")[2],
        lambda n: n in folders and wanted in (folders[n], *without_hash([folders[n]])),
        lambda n: wanted == str(names.index(n) + 1),
    ]
    close = next(filter(None, ([n for n in names if way(n)] for way in ways)), [])
    if len(close) == 1:
        return close[0]
    what = "names several configurations" if close else "is not a configuration here"
    raise ConfigError(f"{name!r} {what}", where="--baseline", hint=f"name one of: {listed(names, 20)}")


def _pairs(arms: Sequence[Arm], base: str | None) -> Iterator[tuple[Arm, Arm]]:
    if base is None:
        yield from itertools.combinations(arms, 2)
        return
    at = next((arm for arm in arms if arm.name == base), None)
    if at is not None:
        yield from ((arm, at) for arm in arms if arm.name != base)


def _design(paired: bool, wanted: Sequence[Wanted]) -> Design:
    if not wanted:
        return Design("bounds")
    if paired and any(arm.store.manifest.numbered for a, b, _ in wanted for arm in (a, b)):
        return Design("no seeds")
    if not any(both or pairable(a, b) for a, b, both in wanted):
        return Design("other seeds")
    if not paired:
        return Design("as asked")
    if not all(both for _, _, both in wanted):
        return Design("mostly shared")
    if all(a.seeds == b.seeds for a, b, _ in wanted):
        return Design("same seeds")
    return Design("shared seeds", tuple(sorted({len(shared_seeds(a, b)) for a, b, _ in wanted})))


def _exploratory(
    wanted: Sequence[Wanted], names: Sequence[str], goal_of: Mapping[str, str], level: float
) -> Iterator[Exploratory]:
    for name in names:
        for a, b, both in wanted:
            usual = all(unit(values) == 1 for values in pairs_of.outcomes(a, b, name, paired=both))
            made = pairs_of.difference_of(a, b, name, paired=both, level=level) if usual else None
            if made is not None:
                yield Exploratory(name, a.task, a.name, b.name, goals.direction(name, goal_of), made)


def _remarks(by_task: Mapping[str, Sequence[Arm]], compared: int, made: Sequence[Pair]) -> Iterator[Remark]:
    left = compared - sum(len(found) for found in by_task.values())
    if left:
        yield Remark("tasks of one arm", {"left": left, "of": compared})
    for what in ("data", "mode", "device", "threads", "result"):
        for found in by_task.values():
            different = sorted({arm.about[what] for arm in found})
            if len(different) > 1:
                yield Remark("arms differ", {"in": what, "values": different})
                break
    for arm in (arm for found in by_task.values() for arm in found):
        for keys in identical(arm.members):
            yield Remark("identical results", {"arm": arm.name, "runs": keys})
    if any(arm.adopted for found in by_task.values() for arm in found):
        missing = sum(arm.count("pending") for found in by_task.values() for arm in found if arm.adopted)
        yield Remark("adopted", {"missing": missing})
    elif any(pair.a.pending + pair.a.lost + pair.b.pending + pair.b.lost for pair in made):
        yield Remark("seeds to come")


def _lacking(wanted: Sequence[Wanted]) -> Mapping[str, Sequence[int]]:
    """Return, by directory, the seeds that a paired comparison leaves out because they are not planned there."""
    found: dict[str, Sequence[int]] = {}
    for a, b, both in wanted:
        for arm, other in ((a, b), (b, a)):
            new = sorted({*other.seeds} - {*arm.seeds}) if both and not arm.adopted else []
            if new:
                found[arm.directory] = new
    return found


def best(
    stores: Sequence[Store], metric: str, goal_of: Mapping[str, Any], *, level: float = 0.95
) -> frozenset[tuple[str, str, str]]:
    """Return (directory, task, variant) of every arm that `pair.best_of` finds in each task."""
    goal = goals.direction(metric, goal_of)
    found: set[tuple[str, str, str]] = set()
    for arms in _by_task(arms_of(stores)).values():
        if len(arms) > pairs_of.MOST_COMPARED or any(arm.folds or "split" in arm.vary for arm in arms):
            continue
        # All arms form one matrix, so they need equal seeds, not only shared ones.
        paired = all(arm.seeds == arms[0].seeds and pairable(arm, arms[0]) for arm in arms)
        values = {str(i): arm.outcomes(metric, [*arm.values.get(metric, {})]) for i, arm in enumerate(arms)}
        kept = pairs_of.best_of(values, [len(arm.states) for arm in arms], goal, paired=paired, level=level)
        found |= {(a.store.shown, a.task, a.members[0].variant) for i, a in enumerate(arms) if str(i) in kept}
    return frozenset(found)
