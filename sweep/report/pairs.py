"""What a comparison says, as words and rows of cells, before a terminal or a notebook sets them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweep.analysis.comparison import Check, Comparison, Exploratory, Pair, Side
from sweep.number import number, p_cell, p_value, percent, places, probability, signed
from sweep.report.intervals import level_of, limits, scale, short
from sweep.report.pair_sentence import over, reading, stamp, stamp_of, unadjusted
from sweep.report.sentence import count_of, failed_of
from sweep.stats import Decision, Interval, Permutation, bonferroni_level, parse_gate
from sweep.variants import letter, without_hash
from sweep.words import plural, shown

MOST_EXPLORATORY = 12
HELD = {"fixed": "candidate", "scale": "candidate - bound", "offset": "candidate - base"}  # form of a gate -> of what
VERDICT = {0: "passed", 1: "contradicted", 4: "undecided"}
Row = Sequence[str]  # cells
Rows = list[Row]  # the header first


def task_label(task: str) -> str:
    """Return a task without the hash of its folder."""
    return shown(without_hash([task])[0])


def of_task(task: str) -> str:
    """Return what stands before a name to say its task; "" where there is one task only."""
    return f"{task_label(task)}: " if task else ""


def better(found: Comparison) -> str:
    """Return what the probability that a seed of A does better than one of B is called."""
    return "P(A < B)" if found.goal == "min" else "P(A > B)"


def pair_label(pair: Pair | Exploratory) -> str:
    """Return "A - B", with its task."""
    a, b = (side.name if isinstance(side, Side) else side for side in (pair.a, pair.b))
    return f"{of_task(pair.task)}{shown(a)} - {shown(b)}"


def letter_of(found: Comparison, name: str) -> str:
    """Return the letter that stands for an arm in pairs."""
    return letter(found.arms.index(name))


def title(found: Comparison) -> str:
    return f"{'comparison of' if found.pairs or not found.checks else 'gate on'} {shown(found.metric)}"


def sides(pair: Pair) -> Rows:
    return [["", "n", "mean", "sd", "failed", "best"], _side(pair.a, pair), _side(pair.b, pair)]


def _side(side: Side, pair: Pair) -> list[str]:
    decimals, own = _column(pair), places(side.sd)
    if decimals is not None and own is not None:
        decimals = min(decimals, own + 3)  # beside an arm whose spread is far smaller, no digits without end
    n, failed = count_of(side.n, side.planned), failed_of(side.failed, side.ok)
    mean, sd, best = (number(value, decimals) for value in (side.mean, side.sd, side.best))
    return [shown(side.name), n, mean, sd, failed, best]


def _column(pair: Pair) -> int | None:
    """Return the decimals of both arms: those of the difference, more where the spread of one arm is far smaller."""
    spreads = (places(side.sd) for side in (pair.a, pair.b) if side.sd)
    known = [found for found in (scale(pair.interval), *spreads) if found is not None]
    return max(known, default=None)


def facts(pair: Pair, found: Comparison) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of each number of a pair."""
    made, places = pair.difference, scale(pair.interval)
    said, looks = stamp(pair), unadjusted(pair.looks)
    if made is not None:
        plain = made.interval
        related = "" if made.correlation is None else f", correlation {number(made.correlation, 2)}"
        how = f"{short(made.method)} over {over(pair)}{related}"
        ci = "no interval" if plain is None else f"{level_of(plain)} CI {limits(plain, places, sign=True)}"
        stamped = f"; {said}" if said else ""
        descriptive = "; descriptive, looks were taken" if pair.sequenced and plain else ""
        p = f"; {p_value(made.p)}" if made.p is not None else ""
        yield "difference", f"{signed(made.estimate, places)}, {ci} ({how}){p}{stamped}{descriptive}"
    if pair.interval is not None and pair.sequenced:
        looked = f"{level_of(pair.interval)} {limits(pair.interval, places, sign=True)}, valid at every look"
        yield "sequence", looked
    if len(found.pairs) > 1 and pair.simultaneous is not None:
        holm = f"{p_value(pair.p_holm)} after Holm; " if pair.p_holm is not None else ""
        sure = limits(pair.simultaneous, places, sign=True)
        yield "all pairs", f"{holm}Bonferroni {percent(pair.simultaneous.level, 4)} CI {sure}"
    if pair.permutation is not None:
        test = pair.permutation
        least = number(test.floor, digits=2)
        yield "permutation", f"{p_value(test.p)} ({permutation(test)}; minimum attainable p = {least})"
    if pair.superiority is not None:
        s = pair.superiority
        how = "failed seeds ranked worst" if pair.failures else "independent seeds"
        read = f"{reading(pair)} ({looks})" if looks else reading(pair)
        yield (
            better(found),
            f"{probability(s.probability)}, {level_of(s.interval)} CI {limits(s.interval, 2)} ({how}): {read}",
        )
    if pair.wins is not None:
        w = pair.wins
        ties = f", {plural(w.ties, 'tie')}" if w.ties else ""
        ci = f"{level_of(w.interval)} CI {limits(w.interval, 2)}"
        yield "same seed", f"A wins {w.wins} of {w.wins + w.losses} paired seeds{ties} ({ci})"
    if pair.effect is not None:
        g = pair.effect.interval
        ci = "" if g is None else f", {level_of(g)} CI {limits(g, 2, sign=True)}"
        yield "Hedges' g", f"{signed(pair.effect.g, 2)} sd{ci}"
    if pair.equivalence is not None:
        e = pair.equivalence
        ci = "" if e.interval is None else f" ({level_of(e.interval)} CI {limits(e.interval, places, sign=True)})"
        yield "equivalence", f"{e.verdict} within ± {number(e.margin, digits=12)}{ci}"
    if pair.examples is not None:
        gap = pair.examples.interval
        both = f"of the difference over seeds and {pair.examples.examples} shared examples"
        yield "examples", f"{level_of(gap)} CI {limits(gap, scale(gap), sign=True)} {both}"
    if looks:
        but = " but the sequence" if pair.sequenced and pair.interval is not None else ""
        yield "looks", f"every p value and interval here{but} is {looks}"


def permutation(test: Permutation) -> str:
    """Return which arrangements were counted."""
    how = f"Monte Carlo {test.method}, {test.arrangements} draws"
    return f"exact {test.method}" if test.exact else how


def flattery(pair: Pair) -> str:
    """Say by how much the best seeds flatter; "" where nothing is known of it."""
    known = [side for side in (pair.a, pair.b) if side.best is not None and side.inflation]
    if not known:
        return ""
    said = "; ".join(f"of {side.n}: {number(side.inflation, scale(pair.interval))}" for side in known)
    return f"the best seed flatters by chance alone ({said}): nothing here selects by it"


def overview(found: Comparison, *, paper: bool = False) -> Rows:
    """Return one row per pair; for a paper with the names of its arms, the effect, the seeds and the failures."""
    several = len(found.pairs) > 1
    each = percent(bonferroni_level(found.level, max(1, len(found.pairs))), 4)
    sure = f"Bonferroni {each} CI" if several else f"{percent(found.level)} CI"
    what = f"{shown(found.metric)} difference" if paper else "difference"
    header = ["A - B" if paper else "pair", what, sure, "p (Holm)" if several else "p", better(found)]
    rows: Rows = [header + ["g", "n", "failed"] * paper]
    for pair in found.pairs:
        letters = f"{letter_of(found, pair.a.name)} - {letter_of(found, pair.b.name)}"
        label = pair_label(pair) if paper else f"{of_task(pair.task)}{letters}"
        interval = pair.simultaneous if several else pair.interval
        rows.append([label, *_numbers(pair, interval), *(_more(pair) if paper else ())])
    return rows


def _numbers(pair: Pair, interval: Interval | None) -> Row:
    """Return the cells of a pair: its difference with this interval, p after Holm, and P(A > B)."""
    places = scale(pair.interval)
    return [
        "—" if pair.difference is None else signed(pair.difference.estimate, places),
        "none" if interval is None else limits(interval, places, sign=True),
        "—" if pair.p_holm is None else p_cell(pair.p_holm),
        "—" if pair.superiority is None else probability(pair.superiority.probability),
    ]


def _more(pair: Pair) -> Row:
    made, a, b = pair.difference, pair.a, pair.b
    return [
        "—" if pair.effect is None else signed(pair.effect.g, 2),
        f"{a.n}, {b.n}" if made is None or not made.paired else f"{made.n_a} pairs",
        f"{failed_of(a.failed, a.ok)}, {failed_of(b.failed, b.ok)}",
    ]


def stamps(found: Comparison) -> list[str]:
    """Say what the intervals of an overview do not account for."""
    return [f"intervals {said}" for said in sorted({stamp(pair) for pair in found.pairs} - {""})]


def exploratory(found: Comparison) -> Rows:
    """Return one row per further metric of a pair, as many as are shown."""
    rows: Rows = [["exploratory, unadjusted", "difference", f"{percent(found.level)} CI"]]
    several = len(found.pairs) > 1
    for one in found.exploratory[:MOST_EXPLORATORY]:
        places = scale(one.difference.interval)
        interval = "none" if one.difference.interval is None else limits(one.difference.interval, places, sign=True)
        name = f"{shown(one.metric)} ({pair_label(one)})" if several else shown(one.metric)
        rows.append([name, signed(one.difference.estimate, places), interval])
    return rows


def unlisted(found: Comparison) -> str:
    """Say how many further metrics have no row; "" where all have one."""
    more = len(found.exploratory) - MOST_EXPLORATORY
    return f"… and {more} more: --format json has every one" if more > 0 else ""


def _why(made: Decision) -> str:
    """Return why a gate was decided so."""
    return {
        "unfinished": f"{plural(made.unfinished, 'seed')} without a result",
        "too few seeds": f"{' and '.join(map(str, made.seeds))} converged seeds are too few for an exact test",
        "no interval": "no interval exists",
        "no spread": "no spread between seeds in fast mode: are they different seeds?",
        "beyond": "the interval lies wholly beyond",
        "failed seeds": f"{plural(made.failed, 'candidate seed')} failed, more than are allowed",
        "inside": "the interval lies wholly inside",
        "both sides": "the interval holds both sides: more seeds would narrow it",
    }[made.reason]


def judged(check: Check) -> Iterator[str]:
    """Yield a requirement and what it was held against, then why it was decided so."""
    made = check.decision
    against = "" if check.base == check.candidate else f" (base {shown(check.base)})"
    candidate = f"{shown(check.candidate)}{against}: " if check.candidate else ""
    yield f"{of_task(check.task)}{candidate}{check.requirement}"
    said = _why(made)
    if made.interval is not None:
        places = scale(made.interval)
        form = "fixed" if check.base == check.candidate else parse_gate(check.requirement).form
        said += f"; {HELD[form]}: {level_of(made.interval)} CI {limits(made.interval, places, sign=True)}"
        said += f" against {number(made.threshold, places)}"
    if stamped := stamp_of(check):
        said += f"; {stamped}"
    yield said
    if made.identical_passes is not None:
        chance = probability(made.identical_passes)
        alone = check.base == check.candidate
        which = "as many other seeds of it" if alone else "a candidate no different from the base"
        yield f"{which} would pass with probability {chance}"
