"""The part of a report on a terminal that says why seeds differ, and what several tasks say together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sweep.number import limits as between
from sweep.number import number, percent, places
from sweep.report.across import over
from sweep.report.layout import DIM, Line, aligned, wrapped
from sweep.report.model import Across, Report, Spread
from sweep.report.words import shown

MOST_CELLS = 8


def spread_lines(found: Sequence[Spread], width: int) -> list[str]:
    """Each cell's sd with its interval, the best seed beside what chance alone makes of it, and why."""
    told = found[:MOST_CELLS]
    if not told:
        return []
    level = percent(told[0].level)
    table: list[Line | str] = [["spread between seeds", "sd", f"{level} CI of the sd", "best", "expected by chance"]]
    for one in told:
        scale = places(min(one.sd, (one.sd_high - one.sd_low) / 2))  # with many seeds the interval is the finer
        limits = between(one.sd_low, one.sd_high, scale)
        best = "—" if one.best is None else number(one.best, scale)
        table.append([shown(one.label or one.metric), number(one.sd, scale), limits, best, number(one.expected, scale)])
        if one.repeat_sd is not None:
            limits = between(one.repeat_low, one.repeat_high, scale)
            table.append(["  repeats of one seed", number(one.repeat_sd, scale), limits, "", ""])
    lines = aligned(table, width)
    if len(found) > len(told):
        lines.append(f"  … and {len(found) - len(told)} more: --format json has every one")
    counts = sorted({one.seeds for one in told})
    of = f"{counts[0]}" if len(counts) == 1 else "so many"
    lines += wrapped(f"expected by chance: the expected best of {of} seeds when they differ by chance only", width, DIM)
    for text in _sentences(told):
        lines += wrapped(text, width)
    return lines


def _sentences(found: Sequence[Spread]) -> Iterator[str]:
    for one in found:
        if one.true_low is None or one.true_high is None or one.true_mean is None:
            continue
        name = f"{shown(one.label)}: " if one.label else ""
        scale = places((one.true_high - one.true_low) / 2)
        limits = between(one.true_low, one.true_high, scale)
        yield (
            f"{name}true {shown(one.metric)}, over seeds and {one.examples} examples: {number(one.true_mean, scale)},"
            f" {percent(one.level)} CI {limits}; {training(one)}"
        )
    chance = [one for one in found if one.sentence]
    if chance:
        which = ", ".join(shown(one.label) for one in chance)
        yield (f"{which}: " if which else "") + chance[0].sentence


def training(one: Spread) -> str:
    """What training alone would leave of the spread, in words; negative estimates as they are."""
    raw = one.training_variance or 0.0
    if raw <= 0:
        return f"training alone would give no spread that can be seen (variance {number(raw, digits=2)})"
    return f"on endless test data the seeds would differ by an sd of {number(math.sqrt(raw), places(one.sd))}"


def across_lines(found: Sequence[Across], width: int) -> list[str]:
    """Mean and interquartile mean over tasks, or why there are none."""
    if not found:
        return []
    if all(one.reason for one in found):
        return wrapped(f"across tasks: {found[0].reason}", width)
    level = percent(found[0].level)
    table: list[Line | str] = [["across tasks, normalised", "mean", f"{level} CI", "IQM", f"{level} CI"]]
    for one in found:
        name = shown(one.label or one.metric)
        if one.reason:
            table.append([name, "—", "—", "—", "—"])
            continue
        mean = _limits(one.mean_low, one.mean_high)
        iqm = _limits(one.iqm_low, one.iqm_high)
        table.append([name, number(one.mean, 3), mean, number(one.iqm, 3), iqm])
    lines = aligned(table, width)
    first = next(one for one in found if not one.reason)
    lines += wrapped(f"{shown(first.metric)} over {over(first)}; {first.method}", width, DIM)
    for one in found:
        if one.reason:
            lines += wrapped(f"{shown(one.label)}: {one.reason}", width, DIM)
    return lines


def _limits(low: float | None, high: float | None) -> str:
    return "none" if low is None else between(low, high, 3)


def side_by_side(reports: Sequence[Report], *, width: int = 80) -> str:
    """Of several directories the spread of each, by what its seeds vary: side by side, never added up.

    Sources do not add up to the whole, so there are no shares. "" where all vary the same.
    """
    found = [(report.name, one) for report in reports for one in report.spreads]
    if len({one.source for _, one in found}) < 2:
        return ""
    level = percent(found[0][1].level)
    table: list[Line | str] = [["what the seeds vary", "seeds", "sd", f"{level} CI of the sd"]]
    for name, one in found:
        scale = places(one.sd)
        label = f"{one.source} ({shown(name)}{': ' + shown(one.label) if one.label else ''})"
        limits = between(one.sd_low, one.sd_high, scale)
        table.append([label, str(one.seeds), number(one.sd, scale), limits])
    metrics = sorted({one.metric for _, one in found})
    lines = aligned(table, width) + wrapped(f"sd of {', '.join(map(shown, metrics))}", width, DIM)
    return "\n".join(lines) + "\n"
