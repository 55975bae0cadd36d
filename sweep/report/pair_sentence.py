"""What may be said of a pair, in one plain sentence."""

from __future__ import annotations

from sweep import number as numbers
from sweep.analysis.comparison import Check, Looks, Pair, Planned
from sweep.analysis.planning import POWER, UPPER
from sweep.goals import Goal
from sweep.number import number, p_value, percent, probability, signed
from sweep.report.intervals import level_of, limits, negated, scale, short
from sweep.report.sentence import POOL
from sweep.words import plural, shown

SIGNIFICANT = ("significant, not meaningful", "significant, may be meaningful", "significant and meaningful")


def sentence(pair: Pair, goal: Goal | None, *, family: int = 1) -> str:
    """Return the conclusion and its interval; with failures the failure rates come first, the means last."""
    if pair.failures is None:
        return _means(pair, goal, family)
    return f"{_failing(pair)} Of {over(pair)}: {_means(pair, goal, family)}"


def over(pair: Pair) -> str:
    """Return what a difference is over."""
    if pair.folds:
        return f"{'converged ' * (pair.failures is not None)}seeds and {pair.folds} folds, for new data"
    if pair.failures is not None:
        return "converged pairs only" if pair.paired else "converged seeds only"
    return "pairs of seeds" if pair.paired else "seeds"


def unadjusted(looks: Looks) -> str:
    """Return what a plain interval does not account for; "" where nobody looked before the last seed."""
    if looks.extensions:
        return f"unadjusted for {plural(looks.extensions, 'extension')}"
    return "unadjusted for the looks of a stopping rule" if looks.by_rule else ""


def stamp(pair: Pair) -> str:
    """Return what the interval that counts does not account for, or nothing."""
    if pair.sequenced:
        return ""
    if pair.resplit and not pair.looks:
        return "" if pair.ratio is not None else POOL
    return unadjusted(pair.looks)


def stamp_of(check: Check) -> str:
    """Return what the interval of a gate does not account for."""
    adopted = "adopted: whether runs failed is unknown" if check.adopted else ""
    return "; ".join(filter(None, (unadjusted(check.looks), adopted)))


def reading(pair: Pair) -> str:
    """Return what P(A > B) may be read as."""
    if pair.superiority is None:
        return ""
    if pair.resplit:
        return "descriptive: the splits share data"
    said = str(pair.reading)
    turned = pair.superiority.probability < 0.5 and pair.reading in SIGNIFICANT
    return f"B over A {said}" if turned else said


def planned(found: Planned | None, other: str) -> tuple[str, ...]:
    """Return how many seeds a budget should hold; the last sentence is a command. other: the second arm."""
    if found is None:
        return ()
    if found.seeds is None:
        return ("planning estimate, not evidence: more than a million seeds would be needed",)
    sd, wanted = number(found.spread, digits=3), number(found.wanted, digits=3)
    given = f"for an sd of {sd} (upper {percent(UPPER)} limit)"
    aim = f"would give each mean a half-width of {wanted}"
    if found.aim != "half-width":
        what = "the margin" if found.aim == "margin" else "as large as the one observed"
        aim = f"would show a difference of {wanted} ({what}) with {percent(POWER)} power"
    each = " each" if found.each else ""
    also = f", and the same for {shown(other)}" if found.both else ""
    estimate = f"planning estimate, not evidence: {found.seeds} seeds{each} {aim}, {given}"
    return (estimate, f"valid sequential design{also}: {found.command}") if found.command else (estimate,)


def _failing(pair: Pair) -> str:
    found = pair.failures
    if found is None:
        return ""
    a, b = shown(pair.a.name), shown(pair.b.name)
    counts = f"{a} failed {found.failed_a} of {found.n_a} and {b} {found.failed_b} of {found.n_b}"
    between = numbers.limits(100 * found.interval.low, 100 * found.interval.high, 0, sign=True)
    rate = f"{signed(100 * found.estimate, 0)} points, {level_of(found.interval)} CI {between}"
    text = f"{counts} ({rate}; Fisher's exact {p_value(found.p)})."
    if pair.superiority is not None:
        text += (
            f" A seed of {a} does better than one of {b}, failed ones ranked worst, with probability"
            f" {probability(pair.superiority.probability)} ({limits(pair.superiority.interval, 2)})."
        )
    return text


def _means(pair: Pair, goal: Goal | None, family: int) -> str:
    a, b, metric = shown(pair.a.name), shown(pair.b.name), shown(pair.metric)
    found = pair.difference
    if found is None:
        empty = [shown(side.name) for side in (pair.a, pair.b) if side.n == 0]
        none = (
            f"{' and '.join(empty)} {'have' if len(empty) > 1 else 'has'} no value of it"
            if empty
            else "no shared seed has one"
        )
        return f"nothing can be said of {metric}: {none}."
    if found.interval is None:
        return f"{metric} of {a} is {_by(pair)} that of {b}, but one seed has no spread: this shows nothing."
    if found.error == 0:
        return (
            f"{metric} differs by {signed(found.estimate, None)} between {a} and {b} on every seed:"
            " without spread there is nothing to test it against."
        )
    if pair.interval is None:
        return f"no difference in {metric} between {a} and {b} is shown: with seeds added, five are needed to say more."
    places = scale(pair.interval)
    up = pair.verdict == "a" if goal is None else (pair.verdict == "a") == (goal == "max")
    # A sentence about the larger of two gives the difference in its own order; all else is A - B.
    interval = negated(pair.interval) if pair.verdict == "b" else pair.interval
    how = f"{level_of(interval)} CI {limits(interval, places, sign=True)}, {_method(pair)}"
    if pair.p_holm is not None:
        how += f"; {p_value(pair.p_holm)}" + (f" after Holm over {family} pairs" if family > 1 else "")
    if said := stamp(pair):
        how += f"; {said}"
    if pair.verdict != "none":
        size = number(abs(found.estimate), places)
        first, second = (a, b) if up else (b, a)
        if goal is None:
            return f"{metric} of {first} is larger than that of {second} by {size} ({how})."
        return f"{first} is better than {second} in {metric} by {size} ({how})."
    text = f"no difference in {metric} between {a} and {b} is shown: {signed(found.estimate, places)} ({how})."
    if pair.equivalence is not None and pair.equivalence.verdict == "equivalent":
        looks = f" ({unadjusted(pair.looks)})" if pair.looks else ""
        text += f" They are equivalent within ± {number(pair.equivalence.margin, digits=12)}{looks}."
    elif 0 not in pair.interval and pair.folds and min(found.n_a, found.n_b) == 1:
        text += " Another seed may reverse it: one seed is no evidence about the configurations."
    elif 0 not in pair.interval and family > 1:
        text += " It is not significant after Holm correction."
    return text


def _method(pair: Pair) -> str:
    interval, found = pair.interval, pair.difference
    if interval is None or found is None:
        return ""
    count = plural(found.n_a, "seed") if found.paired else f"{found.n_a} and {found.n_b} seeds"
    return f"{short(interval.method)} over {count}" + (f" and {found.folds} folds" if found.folds else "")


def _by(pair: Pair) -> str:
    estimate = pair.difference.estimate if pair.difference else 0.0
    if estimate == 0:
        return "equal to"
    return f"{number(abs(estimate), None)} {'above' if estimate > 0 else 'below'}"
