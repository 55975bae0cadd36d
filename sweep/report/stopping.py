"""Sentences about a stopping rule and its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.number import around, limits, number, places
from sweep.stats import UntilOrder, UntilWidth, parse_until
from sweep.words import plural


def summary(until: Mapping[str, Any], called: Mapping[tuple[str, str], str] | None = None) -> str:
    """Return the state of the rule of a manifest. The interval of the result is that of the rule, not the plain one.

    called: (task, variant) -> its label. Earlier versions stored the sentence itself.
    """
    if not until or "summary" in until or "cells" not in until:
        return str(until.get("summary") or dict(until)) if until else ""
    asked = parse_until(until["rule"])
    said = "; ".join(_cell(until, asked, cell, called or {}) for cell in until["cells"])
    beyond = until.get("beyond", 0)
    return (
        said
        if until["state"] == "running" or not beyond
        else f"{said}; {plural(beyond, 'further seed')} shown but not counted"
    )


def _cell(
    until: Mapping[str, Any],
    asked: UntilWidth | UntilOrder,
    cell: Mapping[str, Any],
    called: Mapping[tuple[str, str], str],
) -> str:
    counted = f"n = {cell['n']}" + (f" of {cell['used']} seeds" if cell["n"] != cell["used"] else "")
    reasons = {"lost": "a seed is lost", "not reported": f"no run reports {cell['metric']}"}
    reason = f" ({reasons[cell['reason']]})" if cell.get("reason") else ""
    looks = plural(cell["looks"], "look")
    if isinstance(asked, UntilOrder):
        return _order(until, asked, cell, counted, looks) + reason
    key = (cell["task"], cell["variant"])
    name = called.get(key, " · ".join(part for part in key if part))
    return (f"{name}: " if name else "") + _width(until, asked, cell, counted, looks) + reason


def _width(until: Mapping[str, Any], asked: UntilWidth, cell: Mapping[str, Any], counted: str, looks: str) -> str:
    metric, plain = cell["metric"], cell.get("descriptive")
    half = number((plain["high"] - plain["low"]) / 2, digits=2) if plain else ""
    told = f"; the plain t interval, ± {half}, is only descriptive" if plain else ""
    if cell["state"] == "met" and cell["mean"] is not None:
        value = around(cell["mean"], asked.half_width)
        return f"{metric} {value} (95 % CI of the fixed-width rule; {counted}, {looks}{told})"
    wanted = f"{metric} ± {number(asked.half_width, digits=12)}"
    if cell["state"] == "not reached":
        return f"{wanted} not reached with {until['max_seeds']} seeds ({counted}, {looks}{told})"
    if cell["state"] == "incomplete":
        return f"{wanted} incomplete after {looks} ({counted}{told})"
    return f"{wanted} not yet known after {looks} ({counted}); run the same command to continue"


def _order(until: Mapping[str, Any], asked: UntilOrder, cell: Mapping[str, Any], counted: str, looks: str) -> str:
    a, b, found = asked.first, asked.second, cell["interval"]
    sequence = "no confidence sequence yet"
    if found is not None:
        between = limits(found["low"], found["high"], places((found["high"] - found["low"]) / 2))
        sequence = f"95 % confidence sequence of the difference {between}"
    said = {
        "A > B": f"{a} > {b}",
        "B > A": f"{b} > {a}",
        "not reached": f"no order of {a} and {b} reached with {until['max_seeds']} seeds",
        "incomplete": f"the order of {a} and {b} is incomplete",
        "running": f"no order of {a} and {b} yet; run the same command to continue",
    }[cell["state"]]
    return f"{cell['metric']}: {said} ({sequence}, valid at every look; {counted} pairs, {looks})"
