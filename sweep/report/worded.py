"""The report of a run directory: an Overview with its sentences as properties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

from sweep.analysis.histories import Histories
from sweep.analysis.model import Overview
from sweep.analysis.overview import overview
from sweep.analysis.remarks import Parts
from sweep.report import remarks, sentence, stopping
from sweep.report.commands import next_commands
from sweep.report.sentence import POOL, headline, scope, silence
from sweep.store import Member, Store, atomic
from sweep.store.manifest import ADOPTED
from sweep.words import plural

FORMAT = 1


@dataclass(frozen=True)
class Report(Overview):
    """The content of `sweep report`; `to_json` has every number unrounded."""

    next: tuple[str, ...] = ()

    @cached_property
    def headlines(self) -> tuple[str, ...]:
        """Return the headline of each row of the primary metric, or why there is none."""
        return tuple(str(headline(self, row)) for row in self.primary_rows) or (silence(self.counts),)

    @property
    def headline(self) -> str:
        return "\n".join(self.headlines)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        return tuple(map(remarks.said_of, self.remarks))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        return tuple(map(remarks.said_of, self.asides))

    @property
    def result(self) -> str:
        """Return how the reported values were chosen."""
        return remarks.result_rule(self.result_rules)

    @property
    def reproducibility(self) -> str:
        """Return what was proven about equal bits."""
        return remarks.reproducibility(self.stamp)

    @property
    def stopping(self) -> str:
        """Return the state of the rule that chose the number of seeds."""
        said = stopping.summary(self.until, self.called)
        return f"{said}; {POOL}" if said and "split" in self.vary else said

    @property
    def over(self) -> str:
        """Return what the interval of the primary metric is over, and what it applies to."""
        return scope("" if self.mode == ADOPTED else self.primary, self.vary, self.ratio, self.folds)

    @property
    def how(self) -> str:
        """Return how the runs were made: "fast, cpu, 1 thread per run"."""
        threads = plural(self.threads, "thread")
        return "adopted: not run here" if self.mode == ADOPTED else f"{self.mode}, {self.device}, {threads} per run"


def build(
    store: Store, *, level: float = 0.95, members: Iterable[Member] | None = None, group_by: Sequence[str] = (),
    curves: Histories | bool = False,
) -> Report:  # fmt: skip
    """Return the report of a run directory: see `sweep.analysis.overview.overview`."""
    made, parts = overview(store, level=level, members=members, group_by=group_by, curves=curves), Parts()
    commands = parts.made("the next command", lambda: next_commands(store, made), ())
    made = replace(made, asides=(*parts.remarks, *made.asides))
    return Report(**{each.name: getattr(made, each.name) for each in fields(made)}, next=commands)


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data for strict JSON: non-finite numbers are "nan", "inf", "-inf"."""
    body = asdict(report)
    if report.until:
        body["until"]["summary"] = report.stopping
    for row, made in zip(report.rows, body["rows"], strict=True):
        made["headline"] = str(headline(report, row))
    for cause, made in zip(report.causes, body["causes"], strict=True):
        made["message"] = sentence.cause(cause)
    for machine, made in zip(report.environments, body["environments"], strict=True):
        made |= {"summary": sentence.machine(machine), "differences": sentence.differences(machine)}
    for spread, made in zip(report.spreads, body["spreads"], strict=True):
        made |= {"sentence": sentence.chance(spread), "source": sentence.source(spread), "reason": sentence.why(spread)}
        made["true_method"] = spread.true_method or ""
    for median, made in zip(report.medians, body["medians"], strict=True):
        made |= {"sentence": sentence.median(median), "method": sentence.order(median)}
    for pooled, made in zip(report.together, body["together"], strict=True):
        made["reason"] = sentence.why(pooled)
    for one, made in zip(report.across, body["across"], strict=True):
        made |= {"method": sentence.method(one), "reason": sentence.why(one) if one.mean is None else ""}
    for steps, made in zip(report.progress, body["progress"], strict=True):
        made |= {"method": steps.method or "", "reason": sentence.why(steps)}
    said = ("headline", "headlines", "warnings", "notes", "result", "reproducibility", "over")
    plain: dict[str, Any] = atomic.strict({**body, **{name: getattr(report, name) for name in said}, "format": FORMAT})
    return plain
