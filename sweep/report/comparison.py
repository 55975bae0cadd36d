"""A comparison as a Document: which is best, the arms ranked, which beats which, and prose for what is significant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sweep.analysis.compare import compare as compared
from sweep.analysis.comparison import Check, Comparison, Pair, Side
from sweep.errors import listed
from sweep.number import around, limits, number, percent, places
from sweep.report import document
from sweep.report import pairs as facts
from sweep.report.document import Document, Kind, Note, Section, Table
from sweep.report.pair_sentence import over, planned, reading, sentence, stamp, stamp_of, unadjusted
from sweep.report.remarks import design, said_of
from sweep.report.sentence import by_mean, count_of, failed_of, ranked
from sweep.store import Store, atomic
from sweep.words import plural, shown

__all__ = ["Told", "compare", "latex", "markdown", "standing", "text", "to_json", "view"]

FORMAT = 1
MOST_MATRIX = 20  # arms beyond which the matrix of pairs has no room
MOST_PAIRS = 12  # pairs with a row of numbers
KINDS: dict[int, Kind] = {0: "lead", 1: "failure", 4: "warning"}
JSON = "--format json has every number"


@dataclass(frozen=True, repr=False)
class Told(Comparison):
    """A Comparison that a prompt shows as its text, and a notebook as HTML."""

    def __repr__(self) -> str:
        return text(self, width=100)

    @property
    def why(self) -> str:
        """Return how pairs were made."""
        return design(self.design)

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(map(said_of, self.remarks))

    def _repr_html_(self) -> str:
        return document.notebook(view(self))


def compare(*stores: Store, **asked: Any) -> Told:
    """Compare directories or the variants of one: see `sweep.analysis.compare.compare`."""
    made = compared(*stores, **asked)
    return Told(**{each.name: getattr(made, each.name) for each in fields(made)})


def to_json(found: Comparison) -> Mapping[str, Any]:
    """Return every number unrounded with its method, and what is said of it, as plain data for strict JSON."""
    body = asdict(found)
    for pair, made in zip(found.pairs, body["pairs"], strict=True):
        made["a"]["expected_inflation"], made["b"]["expected_inflation"] = pair.a.inflation, pair.b.inflation
        made |= {
            "over": over(pair), "stamp": stamp(pair), "others": unadjusted(pair.looks), "reading": reading(pair),
            "sentence": sentence(pair, found.goal, family=len(found.pairs)), "plan": planned(pair.planned, pair.b.name),
        }  # fmt: skip
        if pair.permutation is not None:
            made["permutation"]["method"] = facts.permutation(pair.permutation)
    for check, made in zip(found.checks, body["checks"], strict=True):
        made["stamp"] = stamp_of(check)
    said = {"why": design(found.design), "warnings": [*map(said_of, found.remarks)]}
    plain: Mapping[str, Any] = atomic.strict({"format": FORMAT, **body, **said, "exit_code": found.code})
    return plain


def view(found: Comparison) -> Document:
    """Return everything that is printed of a comparison."""
    tasks = list(dict.fromkeys(pair.task for pair in found.pairs))
    one = found.pairs[0] if len(found.pairs) == 1 else None
    said = [Note(text, "lead") for task in tasks if one is None for text in standing(found, task)]
    first = (
        [*said, Note(design(found.design)), *_peeked(found)]
        if one is None
        else [Note(sentence(one, found.goal), "lead"), Note(design(found.design))]
    )
    sections = [Section("", first)]
    if one is not None:
        sections.append(Section("", [*_alone(one, found)]))
    elif found.pairs:
        sections.append(Section("", [*_sentences(found)]))
        for task in tasks:
            sections += [Section(facts.task_label(task), [*_arms(found, task)]), Section("", [*_matrix(found, task)])]
        sections.append(Section("", [_overview(found)]))
    return Document(facts.title(found), [
        *sections,
        Section("", [*_exploratory(found)]),
        Section("", [note for check in found.checks for note in _check(check)]),
        Section("", [Note(said_of(remark), "warning") for remark in found.remarks]),
        Section("", [*(Note(command, "command", "next") for command in found.next), *said]),
    ])  # fmt: skip


def _peeked(found: Comparison) -> Iterator[Note]:
    """Say once what the pairs are not adjusted for; a pair alone says it in its sentence."""
    for said in dict.fromkeys(unadjusted(pair.looks) for pair in found.pairs if pair.looks):
        yield Note(f"intervals and tests are {said}")


def text(found: Comparison, *, width: int = 80, color: bool = False) -> str:
    """Return the comparison for a terminal of `width` columns."""
    return document.text(view(found), width=width, color=color)


def markdown(found: Comparison) -> str:
    """Return the pairs as a Markdown table with footnotes, for a paper."""
    return document.markdown(document.of(_paper(found)))


def latex(found: Comparison) -> str:
    """Return the table of `markdown` as LaTeX; needs only the booktabs package."""
    return document.latex(document.of(_paper(found)))


def _paper(found: Comparison) -> Table:
    header, *rows = facts.overview(found, paper=True)
    bold = frozenset((i, 1) for i, pair in enumerate(found.pairs) if pair.verdict != "none")
    return Table(header, rows, bold=bold, notes=[*_footnotes(found)])


def _footnotes(found: Comparison) -> Iterator[str]:
    methods = sorted({pair.interval.method for pair in found.pairs if pair.interval is not None})
    what = sorted({over(pair) for pair in found.pairs})
    yield f"{design(found.design)}; intervals: {', '.join(methods) or 'none'} ({', '.join(what)})."
    if len(found.pairs) > 1:
        yield (
            f"p values are Holm's over {len(found.pairs)} pairs; Bonferroni intervals hold for all of them together at"
            f" {percent(found.level)}."
        )
    if any(pair.failures for pair in found.pairs):
        yield "With failures P ranks a failed seed worst; means and intervals are of those that converged."
    yield from (f"{said[0].upper()}{said[1:]}." for said in facts.stamps(found))
    for looks in sorted({unadjusted(pair.looks) for pair in found.pairs if pair.sequenced}):
        yield f"P and g are {looks}; the confidence sequence needs no adjustment."
    if any(pair.verdict != "none" for pair in found.pairs):
        yield "Bold: shown to differ."
    yield from (f"Warning: {said_of(remark)}." for remark in found.remarks)


def sides_of(found: Comparison, task: str) -> dict[str, Side]:
    """Return the arms of a task, in their order."""
    sides = {side.name: side for pair in found.pairs if pair.task == task for side in (pair.a, pair.b)}
    return {name: sides[name] for name in found.arms if name in sides}


def standing(found: Comparison, task: str) -> Iterator[str]:
    """Say which arm is best and how many are not distinguishable from it, or how the arms stand to the baseline."""
    sides, pairs = sides_of(found, task), [pair for pair in found.pairs if pair.task == task]
    of = facts.of_task(task)
    if 2 * len(pairs) < len(sides) * (len(sides) - 1):
        base = pairs[0].b.name
        names: dict[str, list[str]] = {"better": [], "worse": [], "not distinguishable": []}
        for pair in pairs:
            up = (pair.verdict == "a") == (found.goal != "min")
            names["not distinguishable" if pair.verdict == "none" else "better" if up else "worse"].append(pair.a.name)
        parts = [f"{len(its)} {word} ({listed([shown(name) for name in its])})" for word, its in names.items() if its]
        yield f"{of}of {plural(len(pairs), 'arm')} compared with {shown(base)}: {', '.join(parts)}"
        return
    best = next(iter(by_mean(sides.values(), found.goal)), None)
    if best is None or best.mean is None:
        return
    mine = [pair for pair in pairs if best.name in (pair.a.name, pair.b.name)]
    alike = sum(pair.verdict == "none" for pair in mine)
    failed = any(side.failed for side in sides.values())
    value = around(best.mean, best.half_width)
    yield of + ranked(
        f"{facts.letter_of(found, best.name)} ({shown(best.name)})", f"{shown(found.metric)} {value}", len(mine),
        None if failed or found.goal is None else alike, goal=found.goal, failed=failed,
    )  # fmt: skip


def _sentences(found: Comparison) -> Iterator[Note]:
    """Yield a sentence for each pair whose difference is significant, in the means or in how many failed."""
    sure = 1 - found.level
    chosen = [pair for pair in found.pairs if pair.verdict != "none" or (pair.failures and pair.failures.p <= sure)]
    ordered = sorted(chosen, key=lambda pair: pair.verdict == "none")
    for pair in ordered[:MOST_PAIRS]:
        yield Note(facts.of_task(pair.task) + sentence(pair, found.goal, family=len(found.pairs)))
    if len(ordered) > MOST_PAIRS:
        yield Note(f"… and {plural(len(ordered) - MOST_PAIRS, 'more pair')}: {JSON}")


def _alone(pair: Pair, found: Comparison) -> Iterator[Table | Note]:
    header, *rows = facts.sides(pair)
    yield Table(header, rows)
    yield from (Note(value, "plain", name) for name, value in facts.facts(pair, found))
    if best := facts.flattery(pair):
        yield Note(best, "aside")
    first, *command = planned(pair.planned, pair.b.name) or ("",)
    if first:
        yield Note(first)
    yield from (Note(line, "command") for line in command)


def _arms(found: Comparison, task: str) -> Iterator[Table]:
    """Yield the table of arms, the best mean first."""
    sides = list(sides_of(found, task).values())
    if found.goal is not None:
        sides = by_mean(sides, found.goal)
    rows = []
    for side in sides:
        scale = places(min(side.sd, side.half_width)) if side.sd is not None and side.half_width is not None else None
        interval = "none" if side.low is None or side.high is None else limits(side.low, side.high, scale)
        n, failed = count_of(side.n, side.planned), failed_of(side.failed, side.ok)
        numbers = [number(value, scale) for value in (side.mean, side.sd)]
        rows.append([facts.letter_of(found, side.name), side.name, n, *numbers, interval, failed])
    ranks = "ranked by mean; " if found.goal is not None else ""
    notes = [f"{ranks}that the first is first is in part chance, which its interval does not account for"]
    header = ["", "arm", "n", "mean", "sd", f"{percent(found.level)} CI", "failed"]
    yield Table(header, rows, names=2, notes=notes if found.goal is not None else [])


def _matrix(found: Comparison, task: str) -> Iterator[Table]:
    """Yield the table of which arm is better in each pair."""
    names = list(sides_of(found, task))
    if not 2 < len(names) <= MOST_MATRIX:
        return
    won: dict[tuple[str, str], str] = {}
    for pair in found.pairs:
        if pair.task == task:
            up = (pair.verdict == "a") == (found.goal != "min")
            winner = "·" if pair.verdict == "none" else facts.letter_of(found, pair.a.name if up else pair.b.name)
            won[pair.a.name, pair.b.name] = won[pair.b.name, pair.a.name] = winner
    rows = [[facts.letter_of(found, row), *(won.get((row, column), "") for column in names)] for row in names]
    what = "the better" if found.goal is not None else "the larger"
    yield Table(["", *(facts.letter_of(found, name) for name in names)], rows, notes=[
        f"{what} of each pair at {percent(found.level)} after Holm over {plural(len(found.pairs), 'pair')}; "
        "·: not distinguishable",
    ])  # fmt: skip


def _overview(found: Comparison) -> Table:
    header, *rows = facts.overview(found)
    order = sorted(range(len(rows)), key=lambda i: found.pairs[i].verdict == "none")[:MOST_PAIRS]
    notes = [*facts.stamps(found)]
    if len(rows) > len(order):
        notes.append(f"… and {plural(len(rows) - len(order), 'more pair')}: {JSON}")
    return Table(header, [rows[i] for i in sorted(order)], notes=[*notes, "--baseline NAME compares each with one"])


def _exploratory(found: Comparison) -> Iterator[Table | Note]:
    if found.exploratory:
        header, *rows = facts.exploratory(found)
        yield Table(header, rows)
        if more := facts.unlisted(found):
            yield Note(more)


def _check(check: Check) -> Iterator[Note]:
    first, *rest = facts.judged(check)
    code = check.decision.code
    yield Note(first, KINDS[code], facts.VERDICT[code])
    yield from map(Note, rest)
