"""The sentences of a report: what a number is over, how sure it is, and what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sweep.number import around, number, percent
from sweep.report.model import Row
from sweep.report.words import listed, plural, shown


def scope(metric: str, vary: Sequence[str] = (), ratio: float | None = None) -> str:
    """What an interval over seeds holds fixed: "this split and test set", and for val and train alike."""
    split = metric.partition("/")[0] if "/" in metric else ""
    if "split" in vary:
        if ratio is not None:
            how = f"Nadeau & Bengio, n_test/n_train {number(ratio, 2)}"
            return f"over seeds, each with its own split, for new data; {how}"
        return "over seeds, each with its own split of this data set; no statement about new data"
    if vary:
        return f"over seeds that vary {', '.join(vary)} only, this split" + _set(split, joined=True)
    return "over seeds, this split" + _set(split, joined=True) if split else "over seeds"


def _set(split: str, *, joined: bool) -> str:
    name = {"test": "test set", "val": "validation set", "train": "training set"}.get(split, "")
    return f"{' and ' if joined else ''}{name}" if name else ""


def labels(cells: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(task, variant) -> what to call it: "" for the only one, without the hash where names stay distinct."""
    wanted = list(dict.fromkeys(cells))
    if len(wanted) < 2:
        return dict.fromkeys(wanted, "")
    kept = [tuple(part for part in cell if part) for cell in wanted]
    short = [" · ".join(re.sub(r"-[0-9a-f]{6}$", "", part) for part in cell) for cell in kept]
    full = [" · ".join(cell) for cell in kept]
    return dict(zip(wanted, short if len(set(short)) == len(short) else full, strict=True))


def headline(row: Row, *, over: str, extensions: int = 0, stopped: bool = False) -> str:
    """One line a reader can quote: the mean, its interval, what that is over, n and the failures.

    "test/accuracy 0.9681 ± 0.0042 (95 % CI over seeds, this split and test set; n = 10, 0 failed)", say.
    stopped: a rule that looked at these seeds chose their number, so the plain interval only describes.
    """
    name = f"{shown(row.label)}: {shown(row.metric)}" if row.label else shown(row.metric)
    if row.n == 0:
        return f"{name}: {_nothing(row)}"
    if row.failed:
        name += " of converged runs"
        over = over.replace("over seeds", "over converged seeds", 1)
    counted = f"n = {row.n}{_out_of(row)}, {_failures(row)}"
    value = around(row.mean or 0.0, row.half_width)
    if row.half_width is None:
        return f"{name} {value} (no interval: one seed has no spread; {counted})"
    if row.half_width == 0:
        return f"{name} {value} (all {row.n} seeds gave the same value; {counted})"
    peeked = f"; unadjusted for {plural(extensions, 'extension')}" if extensions else ""
    kind = f"descriptive {percent(row.level)} CI" if stopped else f"{percent(row.level)} CI"
    return f"{name} {value} ({kind} {over}; {counted}{peeked})"


def stopped_headline(row: Row, cell: Mapping[str, Any] | None, *, over: str) -> str:
    """The headline where a fixed-width rule was met: mean ± the asked width; "" for any other row.

    cell: the rule's state for this row, as the manifest keeps it.
    """
    interval = (cell or {}).get("interval")
    if cell is None or cell.get("state") != "met" or interval is None or cell.get("mean") is None:
        return ""
    name = f"{shown(row.label)}: {shown(row.metric)}" if row.label else shown(row.metric)
    failed = cell["used"] - cell["n"]
    if failed:
        name += " of converged runs"
        over = over.replace("over seeds", "over converged seeds", 1)
    width = (interval["high"] - interval["low"]) / 2
    counted = f"n = {cell['n']}, {failed} of {cell['used']} failed" if failed else f"n = {cell['n']}, 0 failed"
    looked = f"fixed-width rule, {plural(cell['looks'], 'look')}"
    value = around(cell["mean"], width)
    return f"{name} {value} ({percent(interval['level'])} CI {over}; {looked}; {counted})"


def _out_of(row: Row) -> str:
    """Why n is not the number of planned seeds, failures aside."""
    parts = []
    if row.missing:
        parts.append(f"{row.missing} ok without this metric")
    if row.lost:
        parts.append(f"{row.lost} lost")
    if row.pending:
        parts.append(f"{row.pending} pending")
    return f" of {row.planned} ({', '.join(parts)})" if parts else ""


def _failures(row: Row) -> str:
    if not row.failed:
        return "0 failed"
    rate = f"{percent(row.failure_low, 2)} to {percent(row.failure_high, 2)}"
    return f"{row.failed} of {row.ok + row.failed} failed (failure rate {rate})"


def _nothing(row: Row) -> str:
    if row.failed and row.failed == row.planned:
        return f"no mean: all {row.planned} seeds failed"
    if row.failed and not row.ok:
        return f"no mean yet: {row.failed} of {row.planned} seeds failed, none is ok"
    if row.ok:
        return f"no mean: none of {row.ok} ok seeds reports it"
    return f"no seed has finished (0 of {row.planned})"


def rates(rows: Sequence[Row], *, clean: bool = True) -> Iterator[str]:
    """Return what is known of each variant's failure rate, named where there are several.

    clean: also of the variants without a failure, which share a line where it is the same.
    """
    several = any(row.label for row in rows)
    for row in rows:
        if row.failed:
            yield (f"{shown(row.label)}: " if several else "") + at_most(row)
    others = [row for row in rows if not row.failed and row.ok] if clean else []
    alike = dict.fromkeys(at_most(row) for row in others)
    for text in alike:
        names = [shown(row.label) for row in others if at_most(row) == text]
        yield (f"{listed(names)}: " if (several and len(others) < len(rows)) or len(alike) > 1 else "") + text


def at_most(row: Row) -> str:
    """Return "0 of 5 failed: failure rate at most 52 %"."""
    finished = row.ok + row.failed
    if row.failed:
        return f"{row.failed} of {finished} failed: {_failures(row).partition('(')[2].rstrip(')')}"
    return f"0 of {finished} failed: failure rate at most {percent(row.failure_high, 2)}"
