"""A comparison as a table for a paper: one row a pair, in Markdown or LaTeX (booktabs)."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.analysis.comparison import Comparison, Pair
from sweep.number import percent, signed
from sweep.report import document
from sweep.report.document import Table
from sweep.report.intervals import scale
from sweep.report.pair_sentence import over, stamp, unadjusted
from sweep.report.pairs import better, numbers, pair_label
from sweep.report.remarks import design, said_of
from sweep.report.sentence import failed_of
from sweep.stats import Interval, bonferroni_level
from sweep.words import shown


def markdown(found: Comparison) -> str:
    """Return the pairs as a Markdown table with footnotes."""
    return document.markdown(document.of(_table(found)))


def latex(found: Comparison) -> str:
    """Return the table of `markdown` as LaTeX; needs only the booktabs package."""
    return document.latex(document.of(_table(found)))


def _table(found: Comparison) -> Table:
    several = len(found.pairs) > 1
    each = bonferroni_level(found.level, max(1, len(found.pairs)))
    interval = f"Bonferroni {percent(each, 4)} CI" if several else f"{percent(found.level)} CI"
    header = (
        "A - B", f"{shown(found.metric)} difference", interval,
        "p (Holm)" if several else "p", better(found), "g", "n", "failed",
    )  # fmt: skip
    rows = tuple(_row(pair, pair.simultaneous if several else pair.interval) for pair in found.pairs)
    bold = frozenset((i, 1) for i, pair in enumerate(found.pairs) if pair.verdict != "none")
    return Table(header, rows, bold=bold, notes=tuple(_notes(found)))


def _row(pair: Pair, interval: Interval | None) -> tuple[str, ...]:
    made = pair.difference
    n = f"{pair.a.n}, {pair.b.n}" if made is None or not made.paired else f"{made.n_a} pairs"
    return (
        pair_label(pair),
        *numbers(pair, interval, scale(interval)),
        "—" if pair.effect is None else signed(pair.effect.g, 2),
        n,
        f"{failed_of(pair.a.failed, pair.a.ok)}, {failed_of(pair.b.failed, pair.b.ok)}",
    )


def _notes(found: Comparison) -> Iterator[str]:
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
    for said in sorted({stamp(pair) for pair in found.pairs} - {""}):
        yield f"Intervals are {said}."
    for looks in sorted({unadjusted(pair.looks) for pair in found.pairs if pair.sequenced}):
        yield f"P and g are {looks}; the confidence sequence needs no adjustment."
    if any(pair.verdict != "none" for pair in found.pairs):
        yield "Bold: shown to differ."
    for remark in found.remarks:
        yield f"Warning: {said_of(remark)}."
