"""A comparison as a Document: the best arm, the ranking, the matrix of pairs, and sentences for what is significant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sweep.analysis.compare import compare as compared
from sweep.analysis.comparison import Check, Comparison, Exploratory, Pair, Side
from sweep.errors import listed
from sweep.number import around, number, p_cell, percent, places, probability, signed
from sweep.number import limits as between
from sweep.report import document, pairs
from sweep.report.commands import resume
from sweep.report.document import Document, Kind, Note, Section, Table, rest
from sweep.report.intervals import limits, scale
from sweep.report.pairs import of_task, unadjusted
from sweep.report.remarks import design, said_of
from sweep.report.sentence import by_mean, count_of, failed_of, ranked, task_label, unranked
from sweep.stats import bonferroni_level
from sweep.store import Store, atomic
from sweep.variants import letter
from sweep.words import path_argument, plural, shown

__all__ = ["Told", "compare", "latex", "markdown", "standing", "text", "to_json", "view"]

FORMAT = 1
MOST_MATRIX = 20  # arms; for more, the matrix of pairs has no room
MOST_PAIRS = 12  # pairs, and exploratory metrics of pairs, with a row of numbers
MOST_SAID = 6  # pairs with a sentence; the others are in the matrix and in the table of pairs
VERDICTS: Mapping[int, tuple[Kind, str]] = {
    0: ("lead", "passed"), 1: ("failure", "contradicted"), 4: ("warning", "undecided"),
}  # fmt: skip
CONSTANT = "different by the same amount on every seed"
JSON = "--format json has every number"


@dataclass(frozen=True, repr=False)
class Told(Comparison):
    """A Comparison that a prompt shows as its text, and a notebook as HTML.

    next: the next commands. designs: for each pair the command that trains its planned seeds, "" for none.
    """

    next: tuple[str, ...] = ()
    designs: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return text(self, width=100)

    @property
    def why(self) -> str:
        """Return how the pairs were made."""
        return design(self.design)

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(map(said_of, self.remarks))

    def _repr_html_(self) -> str:
        return document.notebook(view(self))


def compare(*stores: Store, **asked: Any) -> Told:
    """Compare directories or the variants of one: see `sweep.analysis.compare.compare`."""
    made, manifests = compared(*stores, **asked), {store.shown: store.manifest for store in stores}
    rest = [resume(manifests[directory], directory, seeds=seeds) for directory, seeds in made.lacking.items()]
    here = " ".join(map(path_argument, manifests))
    designs = [
        resume(manifests[plan.directory], plan.directory, until=plan.rule, max_seeds=plan.max_seeds)
        if plan is not None and plan.rule else ""
        for plan in (pair.planned for pair in made.pairs)
    ]  # fmt: skip
    return Told(
        **{each.name: getattr(made, each.name) for each in fields(made)},
        next=(*rest, f"sweep report {here} --format latex"), designs=tuple(designs),
    )  # fmt: skip


def to_json(found: Told) -> Mapping[str, Any]:
    """Return every number unrounded with its method, and every sentence, as plain data for strict JSON."""
    body = asdict(found)
    for pair, made, command in zip(found.pairs, body["pairs"], body.pop("designs"), strict=True):
        made["a"]["expected_inflation"], made["b"]["expected_inflation"] = pair.a.inflation, pair.b.inflation
        made |= {
            "over": pairs.over(pair), "stamp": pairs.stamp(pair), "others": unadjusted(pair.looks),
            "reading": pairs.reading(pair), "sentence": pairs.sentence(pair, found.goal, family=len(found.pairs)),
            "plan": pairs.planned(pair.planned, pair.b.name, command),
        }  # fmt: skip
        if pair.planned is not None:
            made["planned"]["command"] = command
        if pair.permutation is not None:
            made["permutation"]["method"] = pairs.permutation(pair.permutation)
    for check, made in zip(found.checks, body["checks"], strict=True):
        made["stamp"] = pairs.stamp_of(check)
    said = {"why": design(found.design), "warnings": [*map(said_of, found.remarks)]}
    plain: Mapping[str, Any] = atomic.strict({"format": FORMAT, **body, **said, "exit_code": found.code})
    return plain


def text(found: Told, *, width: int = 80, color: bool = False) -> str:
    """Return the comparison for a terminal of `width` columns."""
    return document.text(view(found), width=width, color=color)


def view(found: Told) -> Document:
    """Return the whole view of a comparison."""
    tasks = list(dict.fromkeys(pair.task for pair in found.pairs))
    title = f"{'comparison of' if found.pairs or not found.checks else 'gate on'} {shown(found.metric)}"
    why = Note(design(found.design))
    if len(found.pairs) == 1:
        said: list[Note] = []
        [pair] = found.pairs
        sections = [
            Section("", [Note(pairs.sentence(pair, found.goal), "lead"), why]),
            Section("", [*_arms(found, pair.task), *_facts(pair, found)]),
        ]
    else:
        said = [Note(line, "lead") for task in tasks for line in standing(found, task)]
        looks = dict.fromkeys(unadjusted(pair.looks) for pair in found.pairs if pair.looks)
        peeked = [Note(f"intervals and tests are {one}") for one in looks]
        sections = [Section("", [*said, why, *peeked]), Section("", [*_sentences(found)])]
        for task in tasks:
            sections += [Section(task_label(task), [*_arms(found, task)]), Section("", [*_matrix(found, task)])]
        sections += [Section("", [_overview(found)])] if tasks else []
    checked = [note for check in found.checks for note in _check(check)]
    verdict = checked[:1]  # the verdict of a gate comes first and last
    if len(found.checks) > 1:
        verdict = [_verdict(found)]
        checked = [*verdict, *checked]
    return Document(title, [
        *([Section("", checked)] if checked else []),
        *sections,
        Section("", [*_exploratory(found)]),
        Section("", [Note(said_of(remark), "warning") for remark in found.remarks]),
        Section("", [*(Note(command, "command", "next") for command in found.next), *said, *verdict]),
    ])  # fmt: skip


def sides_of(found: Comparison, task: str) -> dict[str, Side]:
    """Return the arms of a task, in their order."""
    sides = {side.name: side for pair in found.pairs if pair.task == task for side in (pair.a, pair.b)}
    return {name: sides[name] for name in found.arms if name in sides}


def _letter(found: Comparison, name: str) -> str:
    """Return the letter of an arm in pairs."""
    return letter(found.arms.index(name))


def standing(found: Comparison, task: str) -> Iterator[str]:
    """Yield which arm is best and how the others compare with it, or how the arms compare with the baseline."""
    sides, its = sides_of(found, task), [pair for pair in found.pairs if pair.task == task]
    if 2 * len(its) < len(sides) * (len(sides) - 1):
        names: dict[str, list[str]] = {"better": [], "worse": [], "not distinguishable": [], CONSTANT: []}
        for pair in its:
            better = _better(pair, found)
            alike = CONSTANT if _is_constant(pair) else "not distinguishable"
            names[alike if better is None else "better" if better is pair.a else "worse"].append(shown(pair.a.name))
        parts = [f"{len(those)} {word} ({listed(those)})" for word, those in names.items() if those]
        yield f"{of_task(task)}of {plural(len(its), 'arm')} compared with {shown(its[0].b.name)}: {', '.join(parts)}"
        return
    best = next(iter(by_mean(sides.values(), found.goal)), None)
    if best is None or best.mean is None:
        return
    mine = [pair for pair in its if best.name in (pair.a.name, pair.b.name)]
    failed = any(side.failed for side in sides.values())
    name, value = f"{_letter(found, best.name)} ({shown(best.name)})", around(best.mean, best.half_width)
    value = f"{shown(found.metric)} {value}"
    if failed or found.goal is None:
        yield of_task(task) + unranked(name, value, found.goal, failed=failed)
        return
    constant = sum(map(_is_constant, mine))
    near = sum(pair.verdict == "none" for pair in mine) - constant
    yield of_task(task) + ranked(name, value, len(mine), near=near, constant=constant)


def _is_constant(pair: Pair) -> bool:
    return pair.difference is not None and pair.difference.constant


def _better(pair: Pair, found: Comparison) -> Side | None:
    """Return the better side of a pair, or the larger one without a goal; None if no difference is shown."""
    if pair.verdict == "none":
        return None
    return pair.a if (pair.verdict == "a") == (found.goal != "min") else pair.b


def _sentences(found: Comparison) -> Iterator[Note]:
    """Yield a sentence for each pair whose difference is significant, in the means or in the failure rates."""
    sure = 1 - found.level
    chosen = [pair for pair in found.pairs if pair.verdict != "none" or (pair.failures and pair.failures.p <= sure)]
    ordered = sorted(chosen, key=lambda pair: pair.verdict == "none")
    for pair in ordered[:MOST_SAID]:
        yield Note(of_task(pair.task) + pairs.sentence(pair, found.goal, family=len(found.pairs)))
    yield from rest(len(ordered) - MOST_SAID, "pair", JSON)


def _facts(pair: Pair, found: Told) -> Iterator[Note]:
    yield from (Note(value, "plain", name) for name, value in pairs.facts(pair, _superiority(found)))
    first, *command = pairs.planned(pair.planned, pair.b.name, found.designs[0]) or ("",)
    yield from (Note(line) for line in [first] if line)
    yield from (Note(line, "command") for line in command)


def _superiority(found: Comparison) -> str:
    """Return the name of the probability that a seed of A is better than one of B."""
    return "P(A < B)" if found.goal == "min" else "P(A > B)"


def _arms(found: Comparison, task: str) -> Iterator[Table]:
    """Yield the table of arms, the best mean first."""
    sides = list(sides_of(found, task).values())
    ranks = found.goal is not None and len(sides) > 2
    rows = []
    for side in by_mean(sides, found.goal) if ranks else sides:
        decimals = places(min(side.sd, side.half_width or 0.0)) if side.sd else None
        interval = "none" if side.low is None else between(side.low, side.high, decimals)
        n, failed = count_of(side.n, side.planned), failed_of(side.failed, side.ok)
        numbers = [number(value, decimals) for value in (side.mean, side.sd)]
        rows.append([_letter(found, side.name), side.name, n, *numbers, interval, failed])
    notes = ["ranked by mean; the first rank is partly due to chance, which the interval does not account for"]
    header = ["", "arm", "n", "mean", "sd", f"{percent(found.level)} CI", "failed"]
    yield Table(header, rows, names=2, notes=notes if ranks else [])


def _matrix(found: Comparison, task: str) -> Iterator[Table]:
    """Yield the matrix of pairs: the better arm of each."""
    names = list(sides_of(found, task))
    if not 2 < len(names) <= MOST_MATRIX:
        return
    won: dict[tuple[str, str], str] = {}
    for pair in found.pairs:
        if pair.task == task:
            better = _better(pair, found)
            winner = "·" if better is None else _letter(found, better.name)
            won[pair.a.name, pair.b.name] = won[pair.b.name, pair.a.name] = winner
    rows = [[_letter(found, row), *(won.get((row, column), "") for column in names)] for row in names]
    what = "the better" if found.goal is not None else "the larger"
    yield Table(["", *(_letter(found, name) for name in names)], rows, notes=[
        f"{what} of each pair at {percent(found.level)} after Holm over {plural(len(found.pairs), 'pair')}; "
        f"·: neither is shown to be {what.removeprefix('the ')}",
    ])  # fmt: skip


def _overview(found: Comparison) -> Table:
    """Return the table of pairs; among many, those with a shown difference come first."""
    first = sorted(range(len(found.pairs)), key=lambda i: found.pairs[i].verdict == "none")[:MOST_PAIRS]
    rows = []
    for pair in (found.pairs[i] for i in sorted(first)):
        letters = " - ".join(_letter(found, side.name) for side in (pair.a, pair.b))
        rows.append([f"{of_task(pair.task)}{letters}", *_numbers(pair, found)])
    notes = _stamps(found)
    if more := len(found.pairs) - len(rows):
        notes.append(f"… and {plural(more, 'more pair')}: {JSON}")
    notes.append("--baseline NAME compares every arm with that arm")
    return Table(["pair", "difference", *_columns(found)], rows, notes=notes)


def _columns(found: Comparison) -> list[str]:
    """Return the header of `_numbers`, except for the difference."""
    several = len(found.pairs) > 1
    level = percent(bonferroni_level(found.level, len(found.pairs) or 1), 4)
    return [f"Bonferroni {level} CI" if several else f"{level} CI", "p (Holm)" if several else "p", _superiority(found)]


def _numbers(pair: Pair, found: Comparison) -> Sequence[str]:
    """Return the cells of a pair: its difference, the interval that holds for all pairs, p after Holm, and P(A > B)."""
    decimals = scale(pair.interval)
    return [
        "—" if pair.difference is None else signed(pair.difference.estimate, decimals),
        limits(pair.simultaneous if len(found.pairs) > 1 else pair.interval, decimals, sign=True),
        "—" if pair.p_holm is None else p_cell(pair.p_holm),
        "—" if pair.superiority is None else probability(pair.superiority.probability),
    ]


def _stamps(found: Comparison) -> list[str]:
    """Return the looks that the intervals of a table do not account for."""
    return [f"intervals {said}" for said in sorted({pairs.stamp(pair) for pair in found.pairs} - {""})]


def _exploratory(found: Comparison) -> Iterator[Table | Note]:
    rows = []
    for one in found.exploratory[:MOST_PAIRS]:
        decimals = scale(one.difference.interval)
        name = f"{shown(one.metric)} ({_called(one)})" if len(found.pairs) > 1 else shown(one.metric)
        ends = limits(one.difference.interval, decimals, sign=True)
        rows.append([name, signed(one.difference.estimate, decimals), ends])
    if rows:
        yield Table(["exploratory, unadjusted", "difference", f"{percent(found.level)} CI"], rows)
    yield from rest(len(found.exploratory) - len(rows), "row", JSON)


def _called(pair: Pair | Exploratory) -> str:
    """Return "A - B" by the names of the arms, with the task."""
    a, b = (side.name if isinstance(side, Side) else side for side in (pair.a, pair.b))
    return f"{of_task(pair.task)}{shown(a)} - {shown(b)}"


def _verdict(found: Comparison) -> Note:
    """Return the verdict of a gate of several checks, with the number of checks for each verdict."""
    counts = Counter(check.decision.code for check in found.checks)
    kind, word = VERDICTS[found.code]
    return Note(f"{word} ({', '.join(f'{counts[code]} {VERDICTS[code][1]}' for code in sorted(counts))})", kind, "gate")


def _check(check: Check) -> Iterator[Note]:
    first, *rest = pairs.judged(check)
    yield Note(first, *VERDICTS[check.decision.code])
    yield from map(Note, rest)


def markdown(found: Comparison) -> str:
    """Return the pairs as a Markdown table with footnotes, for a paper."""
    return document.markdown(document.of(_paper(found)))


def latex(found: Comparison) -> str:
    """Return the table of `markdown` as LaTeX; needs only the booktabs package."""
    return document.latex(document.of(_paper(found)))


def _paper(found: Comparison) -> Table:
    rows = []
    for pair in found.pairs:
        made, a, b = pair.difference, pair.a, pair.b
        effect = "—" if pair.effect is None else signed(pair.effect.g, 2)
        n = f"{made.n_a} pairs" if made is not None and made.paired else f"{a.n}, {b.n}"
        failed = f"{failed_of(a.failed, a.ok)}, {failed_of(b.failed, b.ok)}"
        rows.append([_called(pair), *_numbers(pair, found), effect, n, failed])
    bold = frozenset((i, 1) for i, pair in enumerate(found.pairs) if pair.verdict != "none")
    header = ["A - B", f"{shown(found.metric)} difference", *_columns(found), "g", "n", "failed"]
    return Table(header, rows, bold=bold, notes=[*_footnotes(found)])


def _footnotes(found: Comparison) -> Iterator[str]:
    methods = sorted({pair.interval.method for pair in found.pairs if pair.interval is not None})
    what = sorted({pairs.over(pair) for pair in found.pairs})
    yield f"{design(found.design)}; intervals: {', '.join(methods) or 'none'} ({', '.join(what)})."
    if len(found.pairs) > 1:
        yield (
            f"p values are Holm's over {len(found.pairs)} pairs; Bonferroni intervals hold for all of them together at"
            f" {percent(found.level)}."
        )
    if any(pair.failures for pair in found.pairs):
        yield "P ranks failed seeds worst; means and intervals are over finished seeds."
    yield from (f"{said[0].upper()}{said[1:]}." for said in _stamps(found))
    for looks in sorted({unadjusted(pair.looks) for pair in found.pairs if pair.sequenced}):
        yield f"P and g are {looks}; the confidence sequence needs no adjustment."
    if any(pair.verdict != "none" for pair in found.pairs):
        yield "Bold: shown to differ."
    yield from (f"Warning: {said_of(remark)}." for remark in found.remarks)
