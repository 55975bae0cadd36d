"""The report as one HTML file: drawings from data, no network, nothing in it that a run directory could make act.

A template with autoescaping, a style sheet and a script of our own; the content security policy allows exactly
these two by their digests and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from sweep.analysis import frames, histories
from sweep.analysis.commands import repeatable
from sweep.analysis.comparison import Comparison
from sweep.analysis.parts import Parts
from sweep.config import to_yaml
from sweep.errors import StatisticsError, listed, printable
from sweep.goals import is_score
from sweep.report import document, failures, figures, overview, spreads, task_figures
from sweep.report.comparison import view
from sweep.report.document import Document, Note, Table
from sweep.report.ensembles import Pooled, pooled
from sweep.report.evaluation import scored
from sweep.report.figures import Size
from sweep.report.remarks import said_of
from sweep.report.sentence import leading, rates, standing
from sweep.report.worded import Report, build
from sweep.seeds import format_seeds
from sweep.store import Member, Store
from sweep.store.manifest import ADOPTED
from sweep.words import path_argument, plural, shown

MOST_CARDS = 8  # metrics beside the primary one with a picture; every one is in the table
MOST_CURVES = 5  # metrics whose learning curves are drawn
MOST_TASKS = 6  # whose pictures are drawn
MOST_ROWS = 400  # of the table of metrics
MOST_CAUSES = 40  # kinds of failure


@dataclass(frozen=True)
class Card:
    """A picture with its words. wide: it takes the page's whole width, and is drawn once more for a phone."""

    title: str
    picture: Markup
    wide: bool = False
    notes: tuple[str, ...] = ()


def page(store: Store, *, level: float = 0.95, comparison: Comparison | str | None = None) -> str:
    """Return the whole report of a run directory as HTML text.

    comparison: of its variants, or why there is none. Each history and each file of predictions is read once.
    The same directory gives the same bytes.
    """
    members, parts = sorted(store.scan(), key=frames.order_of), Parts()
    logged = parts.made("the histories", lambda: histories.read(store, members), histories.Histories())
    report = build(store, level=level, members=members, curves=logged)
    style, script = _asset("report.css"), _asset("report.js")
    table = frames.frame_of(members)
    draw = partial(figures.members, table, level=report.level, called=report.called, vary=report.vary,
                   goals=store.manifest.config.get("goals"), ratio=report.ratio, folds=report.folds)  # fmt: skip
    varied = {row.metric for row in report.rows if row.n and row.sd != 0}
    rest = [m for m in report.metrics if m != report.primary and is_score(m) and m in varied]
    causes, said = _grouped(report), standing(report)
    first = leader.variant if (leader := leading(report.primary_rows)) else ""
    ensembles: list[Pooled] = parts.made("the ensembles", lambda: list(pooled(store, report, first)), [])
    answers: dict[str, Any] = {
        "report": report,
        "style": Markup(style),
        "script": Markup(script),
        "policy": "; ".join([
            "default-src 'none'", f"style-src {digest(style)}", f"script-src {digest(script)}", "img-src data:",
            "base-uri 'none'", "form-action 'none'",
        ]),
        "headlines": said[:MOST_TASKS],
        "untold": len(said[MOST_TASKS:]),
        "leading": parts.made("the picture of each seed", lambda: _both(
            partial(draw, report.primary), "p", f"each seed's {shown(report.primary)}"
        ) if any(row.n for row in report.primary_rows) else "", ""),
        "forests": parts.made("the picture of the differences", lambda: list(_forests(comparison)), []),
        "rates": list(rates(report.primary_rows)),
        "across": parts.made("the scores over tasks", lambda: _set([
            *overview.across(report.across), *overview.improvements(report),
            *overview.progress(report.progress),
        ]), ""),
        "items": parts.made("the scores of items", lambda: _set(scored(report.items)), ""),
        "over_tasks": parts.made("the pictures over tasks", lambda: list(_over_tasks(report)), []),
        "spreads": parts.made("the spread of the seeds", lambda: _set(overview.spread(report.spreads)), ""),
        "medians": [spreads.median(one) for one in report.medians if one.failed],
        "cards": parts.made("the pictures of metrics", lambda: [
            Card(shown(m), _picture(partial(draw, m, size="card"), f"m{i}", shown(m)))
            for i, m in enumerate(rest[:MOST_CARDS])
        ], []),
        "table": parts.made("the table of metrics", lambda: _set(overview.metrics(report, MOST_ROWS)), ""),
        "causes": causes[:MOST_CAUSES],
        "uncaused": max(0, len(causes) - MOST_CAUSES),
        "ensembles": ensembles,
        "others": parts.made("the other ensembles", lambda: _set(
            overview.together([one.of for one in ensembles if not one.lead])
        ), ""),
        "comparison": comparison,
        "compared": _compared(comparison),
        "stamp": [(key, _plain(value)) for key, value in report.stamp.items()],
        "seeds": format_seeds(report.seeds),
        "seed_log": [{**entry, "added": format_seeds(entry["added"])} for entry in report.seed_log],
        "config": printable(to_yaml(store.manifest.config)).rstrip(),
        "source": store.manifest.source,
        "commands": _commands(store, report, members),
        "citation": _citation(report),
        "bibtex": _bibtex(report),
        "version": report.versions.get("seed-sweep", ""),
    }  # fmt: skip
    none: tuple[list[Card], list[str]] = ([], [])
    answers["curves"], answers["uncurved"] = parts.made(
        "the learning curves", lambda: _curve_cards(report, store, logged, table), none
    )
    answers["report"] = replace(report, asides=(*parts.remarks, *report.asides))
    text: str = _template().render(answers)
    return text


def _compared(comparison: Comparison | str | None) -> tuple[Markup, Markup]:
    """Return what a comparison says first, and all the rest but the next command."""
    if comparison is None or isinstance(comparison, str):
        return Markup(""), Markup("")
    first, *rest = view(comparison).sections
    lead, more = (document.html(Document(sections=its), level=3) for its in ([first], rest[:-1]))
    return lead, more


def _set(items: Iterable[Table | Note]) -> Markup:
    found = list(items)
    return document.html(document.of(*found)) if found else Markup("")


def digest(text: str) -> str:
    """A source expression for a content security policy: 'sha256-…' of an inline element's text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("sweep.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"shown": shown, "listed": listed, "plural": plural, "said_of": said_of}
    return made.from_string(_asset("report.html"))


def _grouped(report: Report) -> list[dict[str, str]]:
    """Return the runs without a result by what went wrong and where."""
    made = []
    for group in failures.groups_of(report.causes):
        first, several = group[0], len(group) > 1
        log = f"; log of the first: {shown(first.log, 300)}" if first.log else ""
        made.append({
            "title": failures.title(group, report),
            "message": shown(failures.message(group), 600),
            "runs": f"{listed([shown(one.key) for one in group], 12)}; "
            f"{plural(first.attempts, 'attempt')}{' of the first' if several else ''}{log}",
        })  # fmt: skip
    return made


def _picture(draw: Callable[[], Figure], name: str, label: str) -> Markup:
    """Return a picture, or why there is none."""
    try:
        return figures.inline(draw(), name, label)
    except StatisticsError as error:
        return Markup("<p>{}</p>").format(error.what)


def _both(draw: Callable[..., Figure], name: str, label: str) -> Markup:
    """Return a picture in the width of the page, and once more in that of a phone: the style sheet shows one."""
    sizes: tuple[Size, ...] = ("wide", "card")
    made = {size: _picture(partial(draw, size=size), name + size[0], label) for size in sizes}
    return Markup("").join(Markup('<div class="on-{}">{}</div>').format(size, made[size]) for size in sizes)


def _over_tasks(report: Report) -> Iterator[Card]:
    if any(one.profile for one in report.across):
        title = "Performance profiles"
        yield Card(title, _both(partial(task_figures.profiles, report.across), "tp", title), wide=True)
    if any(one.curve for one in report.progress):
        title = "Interquartile mean over the steps of training"
        yield Card(title, _both(partial(task_figures.progress, report.progress), "ts", title), wide=True)


def _forests(comparison: Comparison | str | None) -> Iterator[Markup]:
    if comparison is None or isinstance(comparison, str):
        return
    tasks = {pair.task for pair in comparison.pairs if pair.difference is not None and pair.interval is not None}
    for i, task in enumerate(sorted(tasks)[:MOST_TASKS]):
        yield _both(partial(figures.forest, comparison, task=task), f"d{i}", "differences")


def _curve_cards(
    report: Report, store: Store, found: histories.Histories, table: pd.DataFrame
) -> tuple[list[Card], list[str]]:
    wanted = histories.preferred(list(found.logged), report.primary)
    worst = {"max": -math.inf, "min": math.inf, None: 0.0}
    ranked = sorted(report.primary_rows, reverse=report.primary_rows[0].goal == "max" if report.primary_rows else False,
                    key=lambda row: worst[row.goal] if row.mean is None else row.mean)  # fmt: skip
    order = [(row.task, row.variant) for row in ranked]
    notes = [f"not drawn, because a history is not the one that was recorded: {listed(found.refused)}"]
    cards: list[Card] = []
    for i, metric in enumerate(wanted[:MOST_CURVES]):
        history = found.frame(metric)
        for task, found_of in [*history.groupby("task", observed=True)][:MOST_TASKS]:
            if not np.isfinite(found_of[metric]).any():
                continue
            title = f"{shown(metric)} · {shown(task)}" if task else shown(metric)
            wide = not cards or len({variant for _, variant in order}) > figures.MOST_TOGETHER
            name = f"c{i}-{len(cards)}"
            try:
                made = figures.Curves(found_of, metric, runs=table, order=order, called=report.called,
                                      level=report.level, goals=store.manifest.config.get("goals"))  # fmt: skip
            except StatisticsError as error:
                picture = Markup("<p>{}</p>").format(error.what)
            else:
                draw = made.figure
                picture = _both(draw, name, title) if wide else _picture(partial(draw, "card"), name, title)
            cards.append(Card(title, picture, wide, tuple(notes if found.refused else ())))
    return cards, [shown(name) for name in wanted[MOST_CURVES:]]


def _plain(value: Any) -> str:
    return shown(value if isinstance(value, str) else json.dumps(value, default=str), 600)


def _commands(store: Store, report: Report, members: Sequence[Member]) -> list[tuple[str, str]]:
    """(what it does, the command)."""
    here = path_argument(store.shown)
    if store.manifest.adopted:
        return []
    if not repeatable(store.manifest.experiment["target"]):
        return []
    found = [("Run the whole sweep again, once the configuration above is saved as sweep.yaml", "sweep run sweep.yaml")]
    if recorded := [member.seed for member in members if member.status == "ok"]:
        once_more = f"sweep reproduce {here} --seed {min(recorded)}"
        found.append(("Train one seed again and compare every recorded digest", once_more))
    if report.mode == "deterministic":
        found.append(("Prove that a run repeats its bits", f"sweep verify {here}"))
    return found


def _citation(report: Report) -> str:
    made = [f"{name} {version}" for name, version in report.versions.items() if name in ("torch", "python")]
    version = report.versions.get("seed-sweep", "")
    where = f"{report.mode} mode on {report.device}, {plural(report.threads, 'thread')} a run"
    said = f"seeds {format_seeds(report.seeds)}; {where}"
    parts = [f"{'; '.join(report.headlines[:4])}.", f"Trained with sweep {version} ({said}; {', '.join(made)})."]
    if report.mode == ADOPTED:
        return shown(f"{parts[0]} Seeds {format_seeds(report.seeds)}, {report.reproducibility}.", 2000)
    if report.result:
        parts.append(f"Reported values: {report.result}.")
    parts.append(f"Bit-exactness: {report.reproducibility}.")
    return " ".join(shown(part, 2000) for part in parts)


def _bibtex(report: Report) -> str:
    return "\n".join([
        "@software{sweep,",
        "  title = {sweep: training over many seeds, with what the spread means},",
        "  author = {{The sweep authors}},",
        "  year = {2026},",
        f"  version = {{{report.versions.get('seed-sweep', '')}}},",
        "  note = {Python package seed-sweep},",
        "  license = {Apache-2.0}",
        "}",
    ])  # fmt: skip
