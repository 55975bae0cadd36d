"""The report as one HTML file: drawings from data, no network, nothing in it that a run directory could make act.

A template with autoescaping, a style sheet and a script of our own; the content security policy allows exactly
these two by their digests and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sweep import aggregate
from sweep.goals import ARROWS, Goal
from sweep.number import around, limits, number, p_value, percent, places, probability, signed
from sweep.origin import asked_again
from sweep.report import across, charts
from sweep.report.assemble import build
from sweep.report.ensembles import pooled
from sweep.report.findings import repeatable
from sweep.report.model import Report, Row
from sweep.report.parts import Parts
from sweep.report.plain_spread import training
from sweep.report.sentence import labels, rates
from sweep.report.thinned import curves, preferred
from sweep.report.words import listed, path_argument, plural, shown
from sweep.seeds import format_seeds
from sweep.store import Member, Store
from sweep.store.record import IN_WORDS

MOST_CARDS = 24  # metrics with a picture; every one is in the table
MOST_ARMS = 24  # variants in a picture
MOST_CURVES = 8  # metrics whose learning curves are drawn
MOST_ROWS = 400  # of the table of metrics
MOST_CAUSES = 200


class Compared(Protocol):
    """What the page shows of a comparison of its variants, which is made a layer above."""

    @property
    def metric(self) -> str: ...
    @property
    def goal(self) -> Goal | None: ...
    @property
    def level(self) -> float: ...
    @property
    def why(self) -> str: ...
    @property
    def pairs(self) -> Sequence[Any]: ...
    @property
    def warnings(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Card:
    """A picture with its words."""

    title: str
    picture: Markup
    legend: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()
    value: str = ""


def page(store: Store, *, level: float = 0.95, comparison: Compared | str | None = None) -> str:
    """The whole report of a run directory as HTML text.

    comparison: of its variants, or why there is none. Histories are read in one pass and thinned, visibly.
    The same directory gives the same bytes.
    """
    members = sorted(store.scan(), key=lambda m: (m.task, m.variant, m.seed, m.repeat))
    report = build(store, level=level, members=members)
    return render(report, store, members, comparison)


def render(report: Report, store: Store, members: Sequence[Member], comparison: Compared | str | None) -> str:
    style, script = _asset("report.css"), _asset("report.js")
    parts = Parts()
    answers: dict[str, Any] = {
        "report": report,
        "style": Markup(style),
        "script": Markup(script),
        "policy": "; ".join([
            "default-src 'none'", f"style-src {digest(style)}", f"script-src {digest(script)}", "img-src data:",
            "base-uri 'none'", "form-action 'none'",
        ]),
        "headlines": [_headline(text) for text in report.headlines],
        "counts": charts.counts([(s, getattr(report.counts, s)) for s in ("ok", "failed", "lost", "pending")]),
        "rates": list(rates(report.primary_rows)),
        "across": parts.made("the scores over tasks", lambda: [across.sentence(one) for one in report.across], []),
        "medians": [one.sentence for one in report.medians if one.failed],
        "cards": parts.made("the pictures of metrics", lambda: list(_metric_cards(report, members)), []),
        "unpictured": max(0, len(report.metrics) - MOST_CARDS),
        "table": [{**numbers_of(row), "rank": _rank(row, report.rows)} for row in report.rows[:MOST_ROWS]],
        "untabled": max(0, len(report.rows) - MOST_ROWS),
        "labelled": any(row.label for row in report.rows),
        "causes": report.causes[:MOST_CAUSES],
        "in_words": IN_WORDS,
        "uncaused": max(0, len(report.causes) - MOST_CAUSES),
        "ensembles": parts.made("the ensembles", lambda: list(pooled(store, report)), []),
        "comparison": comparison,
        "stamp": [(key, _plain(value)) for key, value in report.stamp.items()],
        "seeds": format_seeds(report.seeds),
        "seed_log": [{**entry, "added": format_seeds(entry["added"])} for entry in report.seed_log],
        "config": _yaml(store.manifest.config),
        "source": store.manifest.source,
        "commands": _commands(store, report, members),
        "citation": _citation(report),
        "bibtex": _bibtex(report),
        "version": report.versions.get("seed-sweep", ""),
    }  # fmt: skip
    none: tuple[list[Card], list[str]] = ([], [])
    answers["curves"], answers["uncurved"] = parts.made(
        "the learning curves", lambda: _curve_cards(report, store, members), none
    )
    answers["report"] = replace(report, notes=(*parts.notes, *report.notes))
    text: str = _template().render(answers)
    return text


def digest(text: str) -> str:
    """A source expression for a content security policy: 'sha256-…' of an inline element's text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("sweep.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "shown": shown, "number": number, "percent": percent, "listed": listed, "plural": plural,
        "places": places,
        "finer": _finer,
        "signed": signed, "p_value": p_value, "probability": probability,
        "half_width": lambda interval: None if interval is None else interval.half_width,
        "winner": _winner,
        "training": training,
    }  # fmt: skip
    made.globals |= {"limits": limits}
    return made.from_string(_asset("report.html"))


def _winner(pair: Any, goal: Goal | None) -> str:
    """The arm with the better mean, or of a metric without a goal the larger, where that is shown."""
    if pair.verdict == "none":
        return "not shown"
    return "A" if (pair.verdict == "a") == (goal != "min") else "B"


def _finer(difference: float) -> int:
    """Decimals that show a difference that is no zero as none, four at least."""
    return min(max(places(difference) or 4, 4), 6)


def _headline(text: str) -> tuple[str, str, str]:
    """("test/accuracy", "0.9681 ± 0.0042", "95 % CI over seeds, …")."""
    head, _, rest = text.partition(" (")
    words = head.split(" ")
    for i in range(1, len(words)):
        if _is_number(words[i]) and words[i + 1 : i + 2] in ([], ["±"]):
            return " ".join(words[:i]), " ".join(words[i:]), rest.removesuffix(")")
    return head, "", rest.removesuffix(")")


def _is_number(word: str) -> bool:
    try:
        float(word.replace("−", "-").replace(",", ""))
    except ValueError:
        return False
    return True


def _metric_cards(report: Report, members: Sequence[Member]) -> Iterator[Card]:
    table = aggregate.frame_of(members)
    for metric in report.metrics[:MOST_CARDS]:
        rows = [row for row in report.rows if row.metric == metric]
        drawn = rows[:MOST_ARMS]
        picture = charts.distribution(drawn, _seed_values(table, drawn))
        notes = [f"{len(rows) - MOST_ARMS} more variants in the table"] if len(rows) > MOST_ARMS else []
        missing = sum(row.missing for row in rows)
        if missing:
            notes.append(f"{plural(missing, 'ok seed')} without a finite value")
        one = rows[0]
        yield Card(
            title=f"{shown(metric)} {ARROWS[one.goal]}".rstrip(), picture=picture, notes=tuple(notes),
            value=_value(one) if len(rows) == 1 else "",
        )  # fmt: skip


def _value(row: Row) -> str:
    return "no value" if row.mean is None else around(row.mean, row.half_width)


def values_of(rows: Sequence[Row], members: Sequence[Member]) -> dict[tuple[str, str], tuple[list[int], Any]]:
    """(task, variant) -> (seeds, values of the rows' metric) over the seeds that enter its mean."""
    return _seed_values(aggregate.frame_of(members), rows)


def _seed_values(table: pd.DataFrame, rows: Sequence[Row]) -> dict[tuple[str, str], tuple[list[int], Any]]:
    cells = table.groupby(["task", "variant"], sort=False).indices
    numbers, seeds, status = table[rows[0].metric].to_numpy(np.float64), table["seed"].to_numpy(), table["status"]
    states = status.to_numpy(dtype=str)
    found = {}
    for row in rows:
        at = cells[row.task, row.variant]
        kept = at[aggregate.converged(seeds[at], states[at])]
        its, values = aggregate.values_by_seed(seeds[kept], numbers[kept])
        found[row.task, row.variant] = (its.tolist(), values)
    return found


def _curve_cards(report: Report, store: Store, members: Sequence[Member]) -> tuple[list[Card], list[str]]:
    refused: list[str] = []
    found = curves(store, members, refused=refused)
    label = labels((m.task, m.variant) for m in members)
    wanted = preferred(list(found), report.primary)
    cards = []
    for metric in wanted[:MOST_CURVES]:
        for task in dict.fromkeys(task for task, _ in found[metric]):
            cells = {cell: runs for cell, runs in found[metric].items() if cell[0] == task}
            drawn = dict(list(cells.items())[:7])
            picture, legend, notes = charts.learning(drawn, label, metric, report.level)
            if len(cells) > len(drawn):
                notes.append(f"{len(cells) - len(drawn)} more variants are not drawn")
            if refused:
                notes.append(f"not drawn, because a history is not the one that was recorded: {listed(refused)}")
            title = f"{shown(metric)} · {shown(task)}" if task else shown(metric)
            cards.append(Card(title, picture, tuple(legend), tuple(notes)))
    return cards, [shown(name) for name in wanted[MOST_CURVES:]]


def numbers_of(row: Row) -> Mapping[str, Any]:
    """A row of the table of metrics, rounded to what its spread supports."""
    scale = places(min(row.sd, row.half_width)) if row.sd is not None and row.half_width is not None else None
    numbers = {name: number(getattr(row, name), scale) for name in ("mean", "sd", "low", "high", "min", "max")}
    count = str(row.n) if row.n == row.planned else f"{row.n} of {row.planned}"
    return {"metric": shown(row.metric), "arrow": ARROWS[row.goal], "label": shown(row.label), "primary": row.primary,
            "best": row.best, "failed": row.failed, **numbers, "n": count,
            "interval": "none" if row.low is None else limits(row.low, row.high, scale)}  # fmt: skip


def _rank(row: Row, rows: Sequence[Row]) -> str:
    """How a row stands among those that Holm over all pairs does not separate from the best mean of their task."""
    if not row.best or row.mean is None:
        return ""
    kept = [one.mean for one in rows if one.best and (one.metric, one.task) == (row.metric, row.task)]
    leads = row.mean == (max if row.goal == "max" else min)(mean for mean in kept if mean is not None)
    return "best" if leads else "not separated from the best"


def _plain(value: Any) -> str:
    return shown(value if isinstance(value, str) else json.dumps(value, default=str), 600)


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    kept = {key: value for key, value in config.items() if value not in (None, {}, [])}
    kept = {key: format_seeds(value) if key == "seeds" else value for key, value in kept.items()}
    text: str = yaml.safe_dump(kept, sort_keys=False, allow_unicode=False, width=100)
    return text.rstrip()


def _commands(store: Store, report: Report, members: Sequence[Member]) -> list[tuple[str, str]]:
    """(what it does, the command)."""
    here = path_argument(store.shown)
    found = [("Run the whole sweep again", asked_again(store.manifest.origin, seeds=report.seeds))]
    if not repeatable(store.manifest.experiment["target"]):
        return found
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
    if report.result:
        parts.append(f"Reported values: {report.result}.")
    parts.append(f"Bit-exactness: {report.reproducibility}.")
    return " ".join(shown(part, 2000) for part in parts)


def _bibtex(report: Report) -> str:
    version = report.versions.get("seed-sweep", "")
    return "\n".join([
        "@software{seed_sweep,", "  title   = {sweep: training over many seeds},", f"  version = {{{version}}},",
        "  note    = {Python package seed-sweep}", "}",
    ])  # fmt: skip
