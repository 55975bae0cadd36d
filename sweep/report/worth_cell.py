"""An ensemble's report in a notebook's cell: what its text says, as HTML without script or style sheet."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from sweep.report.notebook import block, bold, headline, paragraph, table
from sweep.report.words import shown
from sweep.report.worth_model import Worth
from sweep.report.worth_tables import blocks, title
from sweep.report.worth_tables import headline as evidence


def fragment(found: Worth) -> str:
    """The evidence in a sentence, notes, and a table for each block; everything foreign is escaped."""
    return block(_parts(found))


def _parts(found: Worth) -> Iterator[Markup]:
    yield bold(title(found))
    yield headline(evidence(found))
    yield from (paragraph(shown(note, 500), "note") for note in found.notes)
    for one in blocks(found):
        yield table(one.header, one.rows) if one.rows else bold(" ".join(one.header))
        yield from map(paragraph, one.notes)
