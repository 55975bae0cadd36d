"""Runs without a result, grouped by what went wrong and where: numbers in messages do not tell them apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sweep.analysis.model import Cause, Overview
from sweep.errors import listed
from sweep.seeds import format_seeds
from sweep.store.record import IN_WORDS
from sweep.variants import without_hash
from sweep.words import shown

NUMBER = re.compile(r"[-+]?(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")


def groups_of(causes: Sequence[Cause]) -> list[tuple[Cause, ...]]:
    """Return the causes that differ by no more than the numbers in their messages together, most runs first."""
    found: dict[tuple[str, ...], list[Cause]] = {}
    for one in causes:
        key = (one.kind, one.phase, one.exception, one.where, NUMBER.sub("#", one.message))
        found.setdefault(key, []).append(one)
    return sorted(map(tuple, found.values()), key=lambda group: -len(group))


def title(group: Sequence[Cause], report: Overview) -> str:
    """Return "16 × RuntimeError at tiny.py:5 (B, E; seeds 13, 14 and 3 more)"."""
    first = group[0]
    what = first.exception if first.kind == "raised" and first.exception else IN_WORDS.get(first.kind, first.kind)
    phase = f" in {shown(first.phase)}" if first.phase not in ("", "train") else ""
    where = f" at {shown(first.where, 120)}" if first.where else ""
    return f"{len(group)} × {shown(what)}{phase}{where} ({_who(group, report)})"


def message(group: Sequence[Cause]) -> str:
    """Return what all of a group say, with # for each number that differs between them."""
    first = group[0]
    same = all(one.message == first.message for one in group)
    said = first.message if same else NUMBER.sub("#", first.message)
    return f"{first.exception}: {said}" if first.exception and first.kind != "raised" else said


def _who(group: Sequence[Cause], report: Overview) -> str:
    seeds = sorted({one.seed for one in group})
    parts = [f"seed{'s' * (len(seeds) > 1)} {listed(format_seeds(seeds).split(','), 6)}"]
    if len(report.variants) > 1:
        names = dict.fromkeys(report.variants[one.variant].letter for one in group)
        parts.insert(0, listed(sorted(names, key=lambda name: (len(name), name)), 8))
    if tasks := sorted({one.task for one in group} - {""}):
        parts.insert(0, listed([shown(task) for task in without_hash(tasks)]))
    return "; ".join(parts)
