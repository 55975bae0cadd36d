"""Sentences about a pair of configurations: the conclusion, the numbers with their names, and gate verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sweep import number as numbers
from sweep.analysis.comparison import Check, Looks, Pair, Planned
from sweep.analysis.planning import POWER, UPPER
from sweep.goals import Goal
from sweep.number import number, p_value, percent, probability, signed
from sweep.report.intervals import ci, limits, scale, short
from sweep.report.sentence import NO_SPREAD, POOL, task_label
from sweep.stats import Decision, Permutation, RateDifference, parse_gate
from sweep.words import plural, shown

SIGNIFICANT = ("significant, not meaningful", "significant, may be meaningful", "significant and meaningful")
HELD = {
    "fixed": "candidate",
    "scale": "candidate - bound",
    "offset": "candidate - base",
}  # form of a gate -> the quantity of its interval


def sentence(pair: Pair, goal: Goal | None, *, family: int = 1) -> str:
    """Return the conclusion and its interval; with failures, failure rates come first and means last."""
    if pair.failures is None:
        return _means(pair, goal, family)
    return f"{_failing(pair, pair.failures)} Over {over(pair)}: {_means(pair, goal, family)}"


def over(pair: Pair) -> str:
    """Return what a difference is over."""
    if pair.folds:
        return f"{'finished ' * (pair.failures is not None)}seeds and {pair.folds} folds, for new data"
    if pair.failures is not None:
        return "finished pairs only" if pair.paired else "finished seeds only"
    return "pairs of seeds" if pair.paired else "seeds"


def unadjusted(looks: Looks) -> str:
    """Return what a plain interval does not account for; "" without interim looks."""
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
    """Return the interpretation of P(A > B)."""
    if pair.superiority is None:
        return ""
    if pair.resplit:
        return "descriptive: the splits share data"
    turned = pair.superiority.probability < 0.5 and pair.reading in SIGNIFICANT
    return f"{'B over A: ' * turned}{pair.reading}"


def permutation(test: Permutation) -> str:
    """Return the kind of test and the number of its arrangements."""
    return f"exact {test.method}" if test.exact else f"Monte Carlo {test.method}, {test.arrangements} draws"


def planned(found: Planned | None, other: str, command: str) -> tuple[str, ...]:
    """Return how many seeds to budget for, and how to train them. other: the second arm."""
    if found is None:
        return ()
    if found.seeds is None:
        return ("planning estimate, not evidence: more than a million seeds would be needed",)
    sd, wanted = number(found.spread, digits=3), number(found.wanted, digits=3)
    aim = f"would give each mean a half-width of {wanted}"
    if found.aim != "half-width":
        what = "the margin" if found.aim == "margin" else "as large as the one observed"
        aim = f"would show a difference of {wanted} ({what}) with {percent(POWER)} power"
    seeds = f"{found.seeds} seeds{' each' * found.each}"
    estimate = f"planning estimate, not evidence: {seeds} {aim}, for an sd of {sd} (upper {percent(UPPER)} limit)"
    also = f", and the same for {shown(other)}" if found.both else ""
    return (estimate, f"valid sequential design{also}: {command}") if command else (estimate,)


def _failing(pair: Pair, found: RateDifference) -> str:
    a, b = shown(pair.a.name), shown(pair.b.name)
    counts = (
        f"{found.failed_a} of {plural(found.n_a, 'seed')} of {a} failed, and {found.failed_b} of {found.n_b} of {b}"
    )
    between = numbers.limits(100 * found.interval.low, 100 * found.interval.high, 0, sign=True)
    rate = f"{signed(100 * found.estimate, 0)} points, {percent(found.interval.level)} CI {between}"
    said = f"{counts} ({rate}; Fisher's exact {p_value(found.p)})."
    if pair.superiority is None:
        return said
    better = f"With failed seeds ranked worst, a seed of {a} does better than one of {b} with probability"
    chance = probability(pair.superiority.probability)
    return f"{said} {better} {chance} ({limits(pair.superiority.interval, 2)})."


def _means(pair: Pair, goal: Goal | None, family: int) -> str:
    a, b, metric = shown(pair.a.name), shown(pair.b.name), shown(pair.metric)
    found, interval, decimals = pair.difference, pair.interval, scale(pair.interval)
    if found is None:
        none = "".join(f"; {shown(side.name)} has no value of it" for side in (pair.a, pair.b) if side.n == 0)
        return f"nothing is known about {metric}: there are no two values to compare{none}."
    differs = f"{metric} differs by {signed(found.estimate, None)} between {a} and {b}"
    if found.interval is None:
        return f"{differs}, but one seed has no spread: this shows nothing."
    if found.constant:
        return f"{differs} on every seed: {NO_SPREAD}."
    if interval is None:
        return (
            f"no difference in {metric} between {a} and {b} is shown: after seeds were added, at least five are needed."
        )
    if pair.verdict == "none":
        difference = f"{signed(found.estimate, decimals)} ({_evidence(pair, family)})"
        return f"no difference in {metric} between {a} and {b} is shown: {difference}.{_proviso(pair, family)}"
    if pair.verdict == "b":  # in the order of the sentence; elsewhere it is A - B
        pair = replace(pair, interval=replace(interval, low=-interval.high, high=-interval.low))
    size = f"{number(abs(found.estimate), decimals)} ({_evidence(pair, family)})"
    larger, smaller = (a, b) if pair.verdict == "a" else (b, a)
    if goal is None:
        return f"{metric} of {larger} is larger than that of {smaller} by {size}."
    better, worse = (larger, smaller) if goal == "max" else (smaller, larger)
    return f"{better} is better than {worse} in {metric} by {size}."


def _evidence(pair: Pair, family: int) -> str:
    """Return the interval of a difference with its method, p, and what the interval does not account for."""
    interval, found = pair.interval, pair.difference
    if interval is None or found is None:
        return ""
    count = plural(found.n_a, "seed") if found.paired else f"{found.n_a} and {found.n_b} seeds"
    folds = f" and {found.folds} folds" if found.folds else ""
    said = [f"{ci(interval, scale(interval), sign=True)}, {short(interval.method)} over {count}{folds}"]
    if pair.p_holm is not None:
        said.append(p_value(pair.p_holm) + (f" after Holm over {family} pairs" if family > 1 else ""))
    return "; ".join([*said, *filter(None, [stamp(pair)])])


def _proviso(pair: Pair, family: int) -> str:
    """Return further facts about a difference that is not shown."""
    if pair.equivalence is not None and pair.equivalence.verdict == "equivalent":
        looks = f" ({unadjusted(pair.looks)})" if pair.looks else ""
        return f" They are equivalent within ± {number(pair.equivalence.margin, digits=12)}{looks}."
    if pair.difference is None or pair.interval is None or 0 in pair.interval:
        return ""
    if pair.folds and min(pair.difference.n_a, pair.difference.n_b) == 1:
        return " Another seed may reverse it: one seed is no evidence about the configurations."
    return " It is not significant after Holm correction." if family > 1 else ""


def facts(pair: Pair, better: str) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of each number of a pair. better: the name of the probability that A is better."""
    made, decimals, looks = pair.difference, scale(pair.interval), unadjusted(pair.looks)
    if made is not None:
        related = "" if made.correlation is None else f", correlation {number(made.correlation, 2)}"
        said = [f"{signed(made.estimate, decimals)}, {ci(made.interval, decimals, sign=True)}"
                f" ({short(made.method)} over {over(pair)}{related})"]  # fmt: skip
        said += [p_value(made.p)] if made.p is not None else []
        said += [stamp(pair)] if stamp(pair) else []
        said += ["descriptive, because looks were taken"] if pair.sequenced and made.interval else []
        yield "difference", "; ".join(said)
    if pair.interval is not None and pair.sequenced:
        between = limits(pair.interval, decimals, sign=True)
        yield "sequence", f"{percent(pair.interval.level)} {between}, valid at every look"
    if pair.permutation is not None:
        least = f"minimum attainable p = {number(pair.permutation.floor, digits=2)}"
        yield "permutation", f"{p_value(pair.permutation.p)} ({permutation(pair.permutation)}; {least})"
    if pair.superiority is not None:
        s, read = pair.superiority, f"{reading(pair)} ({looks})" if looks else reading(pair)
        how = "failed seeds ranked worst" if pair.failures else "independent seeds"
        yield better, f"{probability(s.probability)}, {ci(s.interval, 2)} ({how}): {read}"
    if pair.wins is not None:
        w = pair.wins
        ties = f", {plural(w.ties, 'tie')}" if w.ties else ""
        yield "same seed", f"A wins {w.wins} of {w.wins + w.losses} paired seeds{ties} ({ci(w.interval, 2)})"
    if pair.effect is not None:
        yield "Hedges' g", f"{signed(pair.effect.g, 2)} sd, {ci(pair.effect.interval, 2, sign=True)}"
    if pair.equivalence is not None:
        e = pair.equivalence
        within = f"{e.verdict} within ± {number(e.margin, digits=12)}"
        yield "equivalence", f"{within} ({ci(e.interval, decimals, sign=True)})"
    if pair.examples is not None:
        both = f"of the difference over seeds and {pair.examples.examples} shared examples"
        yield "examples", f"{ci(pair.examples.interval, scale(pair.examples.interval), sign=True)} {both}"
    if looks:
        but = " except the sequence" if pair.sequenced and pair.interval is not None else ""
        yield "looks", f"every p value and interval here{but} is {looks}"


def judged(check: Check) -> Iterator[str]:
    """Yield a requirement with its candidate and base, then the reason of its verdict."""
    made, alone = check.decision, check.base == check.candidate
    against = "" if alone else f" (base {shown(check.base)})"
    candidate = f"{shown(check.candidate)}{against}: " if check.candidate else ""
    yield f"{of_task(check.task)}{candidate}{check.requirement}"
    said = [_why(made)]
    if made.interval is not None:
        decimals = scale(made.interval)
        of = HELD["fixed" if alone else parse_gate(check.requirement).form]
        said.append(f"{of}: {ci(made.interval, decimals, sign=True)} against {number(made.threshold, decimals)}")
    yield "; ".join([*said, *filter(None, [stamp_of(check)])])
    if made.identical_passes is not None:
        which = "the same number of other seeds" if alone else "a candidate that does not differ from the base"
        yield f"{which} would pass with probability {probability(made.identical_passes)}"


def _why(made: Decision) -> str:
    """Return the reason of a verdict."""
    return {
        "unfinished": f"{plural(made.unfinished, 'seed')} without a result",
        "too few seeds": f"{' and '.join(map(str, made.seeds))} finished seeds are too few for an exact test",
        "no interval": "no interval exists",
        "no spread": "no spread between seeds in fast mode: are they different seeds?",
        "beyond": "the whole interval lies on the wrong side",
        "failed seeds": f"{plural(made.failed, 'candidate seed')} failed, more than allowed",
        "inside": "the whole interval lies on the allowed side",
        "both sides": "the interval reaches both sides: more seeds would narrow it",
    }[made.reason]


def of_task(task: str) -> str:
    """Return the task as a prefix of a name; "" if there is only one task."""
    return f"{task_label(task)}: " if task else ""
