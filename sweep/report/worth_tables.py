"""The blocks of an ensemble's report, in order, before a terminal or Markdown sets them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sweep.ensemble import Assessment, Difference, ScoreRow, SizeCurve
from sweep.goals import ARROWS, direction
from sweep.number import number, percent, places, signed
from sweep.report.words import listed, plural, shown
from sweep.report.worth_model import Worth
from sweep.stats.planning import expected_best

MARKS = {"never negative": "*", "biased": "†"}
GOALS = {"aurc": "min"}
MOST_SIZES = 7


@dataclass(frozen=True)
class Block:
    """A table with the sentences below it; either may be missing. The first cell of header is its title."""

    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def title(found: Worth) -> str:
    """ "digits-mlp: an ensemble of 10 members on test, 450 examples"."""
    made = found.assessment
    of = "".join(f", {shown(part)}" for part in (found.task, found.variant) if part)
    count = plural(len(made.labels), "member")
    if len(made.labels) < found.planned:
        count = f"{len(made.labels)} of {found.planned} members"
    return f"{shown(found.name)}{of}: an ensemble of {count} on {shown(made.split)}, {plural(len(made.ids), 'example')}"


def headline(found: Worth) -> str:
    """Say in a sentence what the evidence is; of the calibrated ensemble only where no score is worse for it."""
    made = found.assessment
    fitted = made.calibration
    lead = [d for d in made.differences if d.metric == "nll" and d.calibrated] if fitted and fitted.recommended else []
    one = next(iter(lead), made.differences[0])
    scale = places(_half(one))
    kind = "The calibrated ensemble is at" if one.calibrated else "The ensemble is at"
    against = "calibrated single members" if one.calibrated else "single members"
    said = (
        f"{kind} {_name(one.metric)} {number(one.ensemble, scale)}, {against} at {number(one.members_mean, scale)}: "
        f"{signed(one.value, scale)}"
    )
    aside = ""
    if fitted is not None and fitted.worse:
        scores = ", ".join(
            f"{_name(name)} {number(fitted.before[name], 4)} → {number(fitted.after[name], 4)}" for name in fitted.worse
        )
        aside = f". Calibration makes it worse ({scores}): use it as it is"
    if one.examples is None:
        return f"{said} (no interval){aside}"
    low, high = one.examples
    up = direction(one.metric, GOALS) == "max"
    better, worse = (low > 0, high < 0) if up else (high < 0, low > 0)
    verdict = "better" if better else "worse" if worse else "not separated from 0"
    return f"{said} ({percent(one.level)} CI {_limits(one.examples, scale)} over examples, given these members): " + (
        verdict + aside
    )


def blocks(found: Worth) -> Iterator[Block]:
    """Everything below the headline."""
    made = found.assessment
    yield _scores(made)
    yield _evidence(made)
    yield from _calibration(made)
    yield from _selection(made)
    yield _unsure(made)
    yield from _disputed(made)
    yield _sizes(found)
    yield from _extra(made)


def _scores(made: Assessment) -> Block:
    rows, notes = [], []
    for row in made.scores:
        if row.ensemble is None:
            notes.append(f"{row.metric} is not there: {row.label.removeprefix('no AUROC: ')}")
            continue
        mark = next((sign for start, sign in MARKS.items() if start in row.label), "")
        rows.append((_metric(row.metric) + mark, *_score_cells(row)))
    present = {mark for _, mark in MARKS.items() if any(mark in row[0] for row in rows)}
    if "*" in present:
        notes.append("* never negative by construction: a gain over the members' mean here is no evidence")
    if "†" in present:
        notes.append("† biased on few examples, so it has no interval")
    count = len(made.labels)
    notes.append(
        f"the best of {count} lies {number(expected_best(count), 2)} sd of the members from their mean by chance alone:"
        " nothing here selects by it"
    )
    rules = {"geometric": "geometric mean", "vote": "majority vote"}
    others = [
        f"{rules[rule]} " + ", ".join(f"{_name(name)} {number(value, 4)}" for name, value in values.items())
        for rule, values in made.combinations.items() if values
    ]  # fmt: skip
    if others:
        notes.append("other rules: " + "; ".join(others))
    header = ("", "members' mean", "best, chosen after the fact", "ensemble", "ensemble - mean")
    return Block(header, tuple(rows), tuple(notes))


def _score_cells(row: ScoreRow) -> tuple[str, ...]:
    assert row.difference is not None
    scale = _fine(row.difference)
    best = f"{number(row.best, scale)} ({shown(row.best_member or '', 20)})"
    return number(row.members_mean, scale), best, number(row.ensemble, scale), signed(row.difference, scale)


def _evidence(made: Assessment) -> Block:
    rows = []
    for one in made.differences:
        scale = places(_half(one))
        which = _metric(one.metric) + (", calibrated" if one.calibrated else "")
        rows.append((
            which, number(one.ensemble, scale), number(one.members_mean, scale), signed(one.value, scale),
            _limits(one.examples, scale), _limits(one.seeds, scale),
        ))  # fmt: skip
    ci = f"{percent(made.level)} CI"
    header = ("evidence", "ensemble", "members", "difference", f"{ci}, examples", f"{ci}, seeds")
    both = any(one.calibrated for one in made.differences)
    fitted = "both sides calibrated, each on examples it is not scored on; " if both else ""
    if made.kind == "classification" and not both:
        fitted = "a gain in Brier is never negative by construction; "
    how = (
        f"{fitted}examples: paired, over examples, given these members; "
        "seeds: delete-one jackknife, over seeds, this split and test set"
    )
    return Block(header, tuple(rows), (how,))


def _calibration(made: Assessment) -> Iterator[Block]:
    found = made.calibration
    if found is None:
        return
    rows = tuple(
        (_metric(name), number(value, _fine(found.after[name] - value)),
         number(found.after[name], _fine(found.after[name] - value)))
        for name, value in found.before.items()
    )  # fmt: skip
    used = f"{found.parameter} {number(found.served, 3)}"
    if found.parameter == "temperature":
        used += " (above 1: it was overconfident)" if found.served > 1 else " (below 1: it was underconfident)"
    shows = "calibrated" if made.calibrated else "raw"
    note = f"{used}, {found.source}; the predictions listed are the {shows} ones"
    yield Block(("calibration of the ensemble", "raw", "calibrated"), rows, (note,))


def _selection(made: Assessment) -> Iterator[Block]:
    found = made.selection
    if found is None:
        return
    taken = [
        f"{label} x{count}" if count > 1 else label
        for label, count in zip(made.labels, found.counts, strict=True) if count
    ]  # fmt: skip
    rows = tuple(
        (_metric(name), number(value, _fine(found.greedy[name] - value)),
         number(found.greedy[name], _fine(found.greedy[name] - value)))
        for name, value in found.uniform.items()
    )  # fmt: skip
    note = f"greedy with replacement, by {_name(found.metric)} on {found.fitted_on}, took {listed(taken, 12)}"
    yield Block((f"selection, on {shown(made.split)}", "uniform", "greedy"), rows, (note,))


def _unsure(made: Assessment) -> Block:
    unsure = made.uncertainty
    total, epistemic = float(unsure.total.mean()), float(unsure.epistemic.mean())
    unit = "nats" if made.kind == "classification" else "squared units of the target"
    words = ("entropy", "mutual information") if made.kind == "classification" else ("variance", "variance of means")
    notes = []
    if unsure.aleatoric is None:
        notes.append(f"mean epistemic {words[0]} {number(total, 4)} {unit}; members gave none of their own")
    else:
        aleatoric = number(float(unsure.aleatoric.mean()), 4)
        notes.append(
            f"mean total {words[0]} {number(total, 4)} {unit} = {aleatoric} aleatoric + {number(epistemic, 4)} "
            f"epistemic ({words[1]})"
        )
    if made.kind == "classification":
        right = made.prediction == made.targets
        if right.any() and not right.all():
            notes.append(
                f"mean total entropy where the ensemble is right {number(float(unsure.total[right].mean()), 3)}, "
                f"where it is wrong {number(float(unsure.total[~right].mean()), 3)} "
                f"({int((~right).sum())} of {len(right)})"
            )
    notes.append(_diversity(made))
    gaps = [f"{_name(one.metric)} {number(one.gap, _fine(one.gap))}" for one in made.identities]
    worst = max(abs(one.residual) for one in made.identities)
    notes.append(f"members' mean - ensemble is their diversity exactly: {', '.join(gaps)} (checked to {worst:.0e})")
    return Block(("uncertainty and diversity",), (), tuple(notes))


def _diversity(made: Assessment) -> str:
    found = made.diversity
    if found.disagreement is None or found.kappa is None:
        assert found.rms_difference is not None
        return f"two members differ by {number(found.mean_of(found.rms_difference), 4)} (root mean square) on average"
    kappa = number(found.mean_of(found.kappa), 3)
    return f"two members disagree on {percent(found.mean_of(found.disagreement))} of the examples (kappa {kappa})"


def _disputed(made: Assessment) -> Iterator[Block]:
    if not made.disputed:
        return
    decimals = 0 if made.kind == "classification" else None
    rows = tuple(
        (shown(str(one.id), 30), number(one.target, decimals), number(one.prediction, decimals), number(one.total, 3),
         number(one.aleatoric, 3), number(one.epistemic, 3))
        for one in made.disputed
    )  # fmt: skip
    header = ("most disputed, by id", "target", "prediction", "total", "aleatoric", "epistemic")
    yield Block(header, rows)


def _sizes(found: Worth) -> Block:
    made = found.assessment
    count = len(made.labels)
    sizes = _some_sizes(count)
    rows = []
    for one in made.curves:
        scale = _curve_scale(one)
        rows.append((_metric(one.metric), *(number(float(one.value[k - 1]), scale) for k in sizes)))
        if np.isfinite(one.error).any():
            half = (one.high - one.low) / 2
            rows.append((f"  ± {percent(one.level)} CI", *(number(float(half[k - 1]), scale) for k in sizes)))
    methods = listed(list(dict.fromkeys(f"{_name(one.metric)}: {one.method}" for one in made.curves)))
    notes = [f"expected score of a random ensemble of so many of these members, ± over seeds ({methods})"]
    noise = [(one.metric, float(np.nanmax(one.noise))) for one in made.curves if np.nanmax(one.noise) > 0]
    if noise:
        told = ", ".join(f"{_name(metric)} {most:.1g}" for metric, most in noise)
        notes.append(f"standard error of the sampled sizes at most: {told}")
    notes += [
        f"{k} of {count} are enough to stay within {margin:g} of all {count} in {_name(metric)}"
        for metric, margin, k in found.enough
    ] or ["how many are enough? --margin names the loss you accept, e.g. --margin 0.005"]
    return Block(("members", *map(str, sizes)), tuple(rows), tuple(notes))


def _some_sizes(count: int) -> list[int]:
    if count <= MOST_SIZES:
        return list(range(1, count + 1))
    return sorted({round(float(k)) for k in np.geomspace(1, count, MOST_SIZES)})


def _extra(made: Assessment) -> Iterator[Block]:
    if not made.extra:
        return
    names = [row.metric for row in made.scores if row.metric in ("accuracy", "nll", "ece", "rmse", "crps")]
    total, epistemic = (float(part.mean()) for part in (made.uncertainty.total, made.uncertainty.epistemic))
    sets = [(made.split, len(made.ids), made.scores, total, epistemic)]
    sets += [(one.name, one.examples, one.scores, one.total, one.epistemic) for one in made.extra]
    rows = []
    for name, examples, scores, whole, part in sets:
        of = {row.metric: row.ensemble for row in scores}
        rows.append((
            shown(name), str(examples), *(number(of.get(metric), 4) for metric in names), number(whole, 4),
            number(part, 4),
        ))  # fmt: skip
    header = ("test sets, the ensemble", "examples", *map(_metric, names), "total", "epistemic")
    yield Block(header, tuple(rows), ("total, epistemic: mean uncertainty; the temperature is the one above",))


def _name(metric: str) -> str:
    return {"nll": "NLL", "ece": "ECE", "auroc": "AUROC", "aurc": "risk-coverage area", "brier": "Brier",
            "mse": "MSE", "rmse": "RMSE", "crps": "CRPS"}.get(metric, metric)  # fmt: skip


def _metric(metric: str) -> str:
    return f"{_name(metric)} {ARROWS[direction(metric, GOALS)]}".rstrip()


def _half(one: Difference) -> float | None:
    widths = [(high - low) / 2 for low, high in filter(None, (one.examples, one.seeds))]
    return min(widths) if widths else None


def _fine(difference: float) -> int:
    """Decimals that show a difference, within reason."""
    return min(max(places(abs(difference)) or 4, 3), 6)


def _curve_scale(one: SizeCurve) -> int:
    errors = one.error[np.isfinite(one.error) & (one.error > 0)]
    return _fine(float(errors.min())) if errors.size else 4


def _limits(interval: Sequence[float] | None, decimals: int | None) -> str:
    return "none" if interval is None else f"{signed(interval[0], decimals)} to {signed(interval[1], decimals)}"
