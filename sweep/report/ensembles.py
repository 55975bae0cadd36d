"""The ensembles of a directory as the HTML report shows them: scores and evidence as tables, and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from markupsafe import Markup

from sweep.analysis.model import Together
from sweep.ensemble import Assessment, Classification
from sweep.errors import SweepError
from sweep.evaluation import answers
from sweep.report import document
from sweep.report import ensemble_figures as figures
from sweep.report.document import Document
from sweep.report.drawing import inline
from sweep.report.evaluation import answers_view
from sweep.report.worded import Report
from sweep.report.worth import worth
from sweep.report.worth_view import view
from sweep.store import Store

MOST = 1  # ensembles assessed in full; of further ones the scores alone
SECTIONS = ("scores", "evidence", "calibration")


@dataclass(frozen=True)
class Pooled:
    """One ensemble: its scores, and where it was assessed in full its tables and pictures."""

    of: Together
    lead: str = ""
    tables: str = ""
    pictures: tuple[tuple[str, Markup], ...] = ()
    note: str = ""


def pooled(store: Store, report: Report, first: str = "") -> Iterator[Pooled]:
    """Yield every ensemble that the report scored, that of the variant `first` at first, and assess it in full."""
    assessed = 0
    for one in sorted(report.together, key=lambda one: one.variant != first):
        if one.reason or assessed >= MOST:
            yield Pooled(one)
            continue
        assessed += 1
        try:
            found = worth(
                store, split=one.split, variant=one.variant, task=one.task, allow_missing=True, level=report.level
            )
        except SweepError as error:
            yield Pooled(one, note=error.what)
            continue
        sections = view(found).sections
        told = [section for section in sections if section.title in SECTIONS]
        lead = next(item.text for item in sections[0].items if isinstance(item, document.Note))
        pictures = [*_pictures(found.assessment, f"e{assessed}")]
        if isinstance(found.assessment, Classification) and one.members > 1:
            which = {"split": one.split, "variant": one.variant, "task": one.task, "allow_missing": True}
            voted = answers(store, which, level=report.level)
            told += answers_view(voted, None, None).sections
            title = "Answers on which members agree"
            pictures.append((title, inline(figures.agreement(voted, size="card"), f"e{assessed}-a", title)))
        tables = document.html(Document("", told), level=4)
        yield Pooled(one, lead, tables, tuple(pictures))


def _pictures(found: Assessment, name: str) -> Iterator[tuple[str, Markup]]:
    """Yield (title, picture) of what an ensemble has; name: what the pictures' ids begin with."""
    curves = [c.metric for c in found.curves if np.isfinite(c.value).any()][:2]
    wanted = [(f"{metric} by number of members", partial(figures.size_curve, found, metric)) for metric in curves]
    if isinstance(found, Classification):
        if found.calibration is not None and found.calibration.diagram_before is not None:
            wanted.append(("Reliability: accuracy by confidence", partial(figures.reliability, found)))
        wanted.append(("Risk by coverage", partial(figures.risk_coverage, found)))
    if 1 < len(found.labels) <= figures.MOST_MEMBERS:
        wanted.append(("Disagreement of members", partial(figures.disagreement, found)))
    if isinstance(found, Classification):
        wanted += [("Total uncertainty", partial(figures.uncertainty, found, "total")),
                   ("Epistemic uncertainty", partial(figures.uncertainty, found, "epistemic"))]  # fmt: skip
    for i, (title, draw) in enumerate(wanted):
        yield title, inline(draw(size="card"), f"{name}-{i}", title)
