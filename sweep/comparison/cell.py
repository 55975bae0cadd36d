"""A comparison in a notebook's cell: what its text says, as HTML without script or style sheet."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from sweep.comparison import facts
from sweep.comparison.model import Check, Comparison, Pair
from sweep.report.notebook import block, bold, headline, paragraph, table


def fragment(found: Comparison) -> str:
    """The sentences, then a table of numbers for each of few pairs or one of many; everything foreign is escaped."""
    return block(_parts(found))


def _parts(found: Comparison) -> Iterator[Markup]:
    full = facts.told_in_full(found)
    yield bold(facts.title(found))
    yield from map(headline, facts.sentences(found))
    yield paragraph(found.why)
    for check in found.checks:
        yield from _check(check)
    yield from (paragraph(text, "warning") for text in found.warnings)
    for pair in full:
        yield from _pair(pair, found)
    if len(found.pairs) > len(full):
        yield table(*_split(facts.overview(found)))
        yield from map(paragraph, facts.stamps(found))
    if found.exploratory:
        yield table(*_split(facts.exploratory(found)))
        if more := facts.unlisted(found):
            yield paragraph(more)
    if found.next:
        yield Markup("<p>next: <code>{}</code></p>").format(found.next[0])


def _split(rows: facts.Rows) -> tuple[facts.Row, facts.Rows]:
    return rows[0], rows[1:]


def _pair(pair: Pair, found: Comparison) -> Iterator[Markup]:
    if len(found.pairs) > 1:
        yield bold(facts.pair_label(pair))
    yield table(*_split(facts.sides(pair)))
    rows = (
        Markup('<tr><th style="text-align:left">{}</th><td style="text-align:left">{}</td></tr>').format(name, value)
        for name, value in facts.facts(pair, found)
    )
    yield Markup("<table>{}</table>").format(Markup("").join(rows))
    yield from (paragraph(line) for line in (facts.flattery(pair), *pair.plan) if line)


def _check(check: Check) -> Iterator[Markup]:
    first, *rest = facts.judged(check)
    yield paragraph(first, facts.VERDICT[check.decision.code])
    yield from map(paragraph, rest)
