"""The report as HTML: a page in one file, or the output of a notebook cell.

The page needs no network, and no content of a run directory can run in it. It consists of an autoescaped template, a
style sheet and a script of our own; the content security policy allows only these two, by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from sweep.analysis import frames, histories
from sweep.analysis.model import Together
from sweep.analysis.remarks import Parts
from sweep.config import to_yaml
from sweep.ensemble import Classification
from sweep.errors import StatisticsError, listed, printable
from sweep.evaluation import answers
from sweep.goals import is_score
from sweep.report import document, ensemble_figures, figures, overview
from sweep.report.checklist import methods
from sweep.report.commands import repeatable
from sweep.report.comparison import Told
from sweep.report.comparison import view as compared
from sweep.report.counts import counted
from sweep.report.document import Document, Note, Section, Table
from sweep.report.ensemble import view, worth
from sweep.report.evaluation import answers_view, scored
from sweep.report.figures import Size
from sweep.report.remarks import said_of
from sweep.report.sentence import differences, leading, machine, standing
from sweep.report.worded import Report, build
from sweep.seeds import format_seeds
from sweep.store import Member, Store
from sweep.words import path_argument, shown

MOST_CARDS = 8  # metrics with a picture besides the primary one; the table has all
MOST_CURVES = 5  # metrics whose learning curves are drawn
MOST_TASKS = 6  # tasks whose pictures are drawn
MOST_ROWS = 400  # rows of the table of metrics
MOST_CAUSES = 40  # kinds of failure
ASSESSED = ("scores", "evidence", "calibration")  # sections of an ensemble that the page shows


@dataclass(frozen=True)
class Card:
    """A picture with its text. wide: it takes the whole width of the page, and is drawn again for a phone."""

    title: str
    picture: Markup
    wide: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ensemble:
    """The ensemble that is assessed in full: its verdict, tables and pictures."""

    of: Together
    lead: str
    tables: Markup
    cards: tuple[Card, ...]


def page(store: Store, *, level: float = 0.95, comparison: Told | str | None = None) -> str:
    """Return the whole report of a run directory as HTML text.

    comparison: that of its variants, or the reason why there is none. Each history and predictions file is read once.
    The same directory gives the same bytes.
    """
    members, parts = sorted(store.scan(), key=frames.order_of), Parts()
    logged = parts.made("the histories", lambda: histories.read(store, members), histories.Histories())
    report = build(store, level=level, members=members, curves=logged)
    table, said = frames.frame_of(members), standing(report)
    draw = partial(figures.members, table, level=report.level, called=report.called, vary=report.vary,
                   goals=store.manifest.config.get("goals"), ratio=report.ratio, folds=report.folds)  # fmt: skip
    style, script = _asset("report.css"), _asset("report.js")
    pairs = comparison if isinstance(comparison, Told) else None
    made: dict[str, tuple[str, Callable[[], Any], Any]] = {
        "leading": ("the picture of each seed", lambda: _both(
            partial(draw, report.primary), "p", f"each seed's {shown(report.primary)}"
        ) if any(row.n for row in report.primary_rows) else "", ""),
        "forests": ("the picture of the differences", lambda: list(_forests(pairs)) if pairs else [], []),
        "compared": ("the comparison", lambda: _compared(pairs), ("", "")),
        "across": ("the scores over tasks", lambda: _html([
            *overview.across(report.across), *overview.improvements(report), *overview.progress(report.progress),
        ]), ""),
        "items": ("the scores of items", lambda: _html(scored(report.items)), ""),
        "over_tasks": ("the pictures over tasks", lambda: list(_over_tasks(report)), []),
        "spreads": ("the spread of the seeds", lambda: _html(overview.spread(report.spreads)), ""),
        "cards": ("the pictures of metrics", lambda: list(_cards(report, draw)), []),
        "table": ("the table of metrics", lambda: _html(overview.metrics(report, MOST_ROWS)), ""),
        "failures": ("the list of failures", lambda: _html(overview.causes(report, MOST_CAUSES, clean=True)), ""),
        "ensemble": ("the ensemble", lambda: _ensemble(store, report), None),
        "ensembles": ("the table of ensembles", lambda: _html(overview.together(report.together)), ""),
        "curves": ("the learning curves", lambda: list(_curves(report, store, logged, table)), []),
    }  # fmt: skip
    drawn = {key: parts.made(*one) for key, one in made.items()}
    report = replace(report, asides=(*parts.remarks, *report.asides))
    answers = {
        **drawn,
        "report": report,
        "counted": counted(report.counts),
        "machine": machine,
        "differences": differences,
        "details": parts.made("the details", lambda: _html(overview.details(report, 20)), ""),
        "style": Markup(style),
        "script": Markup(script),
        "policy": "; ".join([
            "default-src 'none'", f"style-src {digest(style)}", f"script-src {digest(script)}", "img-src data:",
            "base-uri 'none'", "form-action 'none'",
        ]),
        "headlines": said[:MOST_TASKS],
        "untold": len(said[MOST_TASKS:]),
        "uncurved": [shown(name) for name in histories.preferred([*logged.logged], report.primary)[MOST_CURVES:]],
        "comparison": comparison,
        "remarks": [said_of(remark) for remark in pairs.remarks] if pairs else [],
        "stamp": [(key, _plain(value)) for key, value in report.stamp.items()],
        "seed_log": [{**entry, "added": format_seeds(entry["added"])} for entry in report.seed_log],
        "config": printable(to_yaml(store.manifest.config)).rstrip(),
        "source": store.manifest.source,
        "commands": _commands(store, report, members),
        "citation": shown(f"{'; '.join(report.headlines[:4])}. {methods(report)}", 4000),
        "version": report.versions.get("seed-sweep", ""),
    }  # fmt: skip
    return document.templates().get_template("report.html").render(answers)


def fragment(report: Report, members: Sequence[Member]) -> str:
    """Return the brief report, with a picture of the primary metric, for a notebook cell."""
    said = overview.brief(report)
    lead, *rest = said.sections
    if any(row.n for row in report.primary_rows):
        with suppress(StatisticsError):
            table = frames.frame_of(members)
            made = figures.members(table, report.primary, level=report.level, called=report.called)
            picture = figures.inline(made, "sweep", f"each seed's {shown(report.primary)}")
            lead = Section("", [*lead.items, picture])
    return document.notebook(Document(said.title, [lead, *rest]))


def digest(text: str) -> str:
    """Return a source expression for a content security policy: 'sha256-…' of the text of an inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("sweep.report").joinpath(name).read_text(encoding="utf-8")


def _html(items: Iterable[Table | Note]) -> Markup:
    found = list(items)
    return document.html(document.of(*found)) if found else Markup("")


def _compared(found: Told | None) -> tuple[Markup, Markup]:
    """Return the first section of a comparison, and the others except its warnings and next commands."""
    if found is None:
        return Markup(""), Markup("")
    first, *rest = compared(found).sections
    lead, more = (document.html(Document(sections=its), level=3) for its in ([first], rest[:-2]))
    return lead, more


def _picture(draw: Callable[..., Figure], name: str, label: str, size: Size = "card") -> Markup:
    """Return a picture, or the reason why there is none."""
    try:
        return figures.inline(draw(size=size), name, label)
    except StatisticsError as error:
        return Markup("<p>{}</p>").format(error.what)


def _both(draw: Callable[..., Figure], name: str, label: str) -> Markup:
    """Return a picture in the width of the page and in that of a phone; the style sheet shows one of them."""
    sizes: tuple[Size, ...] = ("wide", "card")
    made = {size: _picture(draw, name + size[0], label, size) for size in sizes}
    return Markup("").join(Markup('<div class="on-{}">{}</div>').format(size, made[size]) for size in sizes)


def _cards(report: Report, draw: Callable[..., Figure]) -> Iterator[Card]:
    varied = {row.metric for row in report.rows if row.n and row.sd != 0}
    others = [m for m in report.metrics if m != report.primary and is_score(m) and m in varied]
    for i, metric in enumerate(others[:MOST_CARDS]):
        yield Card(shown(metric), _picture(partial(draw, metric), f"m{i}", shown(metric)))


def _over_tasks(report: Report) -> Iterator[Card]:
    if any(one.profile for one in report.across):
        title = "Performance profiles"
        yield Card(title, _both(partial(figures.profiles, report.across), "tp", title), wide=True)
    if any(one.curve for one in report.progress):
        title = "Interquartile mean over the steps of training"
        yield Card(title, _both(partial(figures.progress, report.progress), "ts", title), wide=True)


def _forests(found: Told) -> Iterator[Markup]:
    tasks = {pair.task for pair in found.pairs if pair.difference is not None and pair.interval is not None}
    for i, task in enumerate(sorted(tasks)[:MOST_TASKS]):
        yield _both(partial(figures.forest, found, task=task), f"d{i}", "differences")


def _curves(report: Report, store: Store, found: histories.Histories, table: pd.DataFrame) -> Iterator[Card]:
    """Yield the learning curves of each metric and task, the variant with the best mean first."""
    worst = {"max": -math.inf, "min": math.inf, None: 0.0}
    ranked = sorted(report.primary_rows, reverse=report.primary_rows[0].goal == "max" if report.primary_rows else False,
                    key=lambda row: worst[row.goal] if row.mean is None else row.mean)  # fmt: skip
    order = [(row.task, row.variant) for row in ranked]
    together = len({variant for _, variant in order}) <= figures.MOST_TOGETHER
    refused = f"not drawn, because the history differs from the recorded one: {listed(found.refused)}"
    notes = (refused,) if found.refused else ()
    drawn = 0
    for metric in histories.preferred([*found.logged], report.primary)[:MOST_CURVES]:
        by_task = found.frame(metric).groupby("task", observed=True)
        for task, its in [*by_task][:MOST_TASKS]:
            if not np.isfinite(its[metric]).any():
                continue
            title = f"{shown(metric)} · {shown(task)}" if task else shown(metric)
            wide, name = not drawn or not together, f"c{drawn}"
            try:
                made = figures.Curves(its, metric, runs=table, order=order, called=report.called, level=report.level,
                                      goals=store.manifest.config.get("goals"))  # fmt: skip
                picture = (_both if wide else _picture)(made.figure, name, title)
            except StatisticsError as error:
                picture = Markup("<p>{}</p>").format(error.what)
            yield Card(title, picture, wide, notes)
            drawn += 1


def _ensemble(store: Store, report: Report) -> Ensemble | None:
    """Assess the ensemble of the variant with the best mean; for the others, only scores are shown."""
    best = leading(report.primary_rows)
    ready = [one for one in report.together if not one.reason]
    one = min(ready, key=lambda one: best is None or one.variant != best.variant, default=None)
    if one is None:
        return None
    which: dict[str, Any] = {"split": one.split, "variant": one.variant, "task": one.task, "allow_missing": True}
    found = worth(store, **which, level=report.level)
    sections = view(found).sections
    told = [section for section in sections if section.title in ASSESSED]
    drawn = ensemble_figures.drawable(found.assessment)
    if isinstance(found.assessment, Classification) and one.members > 1:
        voted = answers(store, which, level=report.level)
        told += answers_view(voted).sections
        drawn.append(("Answers on which members agree", partial(ensemble_figures.agreement, voted)))
    cards = []
    for i, (title, draw) in enumerate(drawn):
        with suppress(StatisticsError):  # these members have no such picture
            cards.append(Card(title, figures.inline(draw(size="card"), f"e{i}", title)))
    lead = next(item.text for item in sections[0].items if isinstance(item, Note))
    return Ensemble(one, lead, document.html(Document("", told), level=4), tuple(cards))


def _plain(value: Any) -> str:
    return shown(value if isinstance(value, str) else json.dumps(value, default=str), 600)


def _commands(store: Store, report: Report, members: Sequence[Member]) -> list[tuple[str, str]]:
    """Return (what a command does, the command) pairs."""
    here = path_argument(store.shown)
    if store.manifest.adopted or not repeatable(store.manifest.experiment["target"]):
        return []
    found = [("Run the whole sweep again, after saving the configuration above as sweep.yaml", "sweep run sweep.yaml")]
    if recorded := [member.seed for member in members if member.status == "ok"]:
        once_more = f"sweep reproduce {here} --seed {min(recorded)}"
        found.append(("Train one seed again and compare every recorded digest", once_more))
    if report.mode == "deterministic":
        found.append(("Prove that a run repeats its bits", f"sweep verify {here}"))
    return found
