"""Adaptive numbers of seeds: a stopping rule applied to a directory, its decision, and its state in the manifest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sweep import stats
from sweep.errors import ConfigError
from sweep.plan import Plan
from sweep.stats.stopping import EXTRA, FIRST_LOOK, first_order
from sweep.store import Member, Store
from sweep.variants import Variant, called, without_hash

DEFAULT_MAX = 64
LEVEL = 0.95
# Metrics that count examples. They change in steps, so a spread below one step shows only the rounding.
COUNTED = frozenset(("accuracy", "error", "top5_accuracy"))
DONE = frozenset(("ok", "failed"))
Reason = Literal["", "lost", "not reported"]


@dataclass(frozen=True)
class Rule:
    """A stopping rule. first, second: the variants that an order rule compares; "" for a width rule."""

    text: str
    asked: stats.UntilWidth | stats.UntilOrder
    max_seeds: int
    first: str = ""
    second: str = ""


@dataclass(frozen=True)
class Look:
    """The state of the rule in one cell (two for an order rule), and the reason if it can never be met."""

    task: str
    variant: str
    state: stats.WidthState | stats.OrderState
    reason: Reason = ""


def rule_of(plan: Plan) -> Rule | None:
    """Return the stopping rule of a plan, or None. Raise ConfigError if it cannot be applied."""
    config = plan.config
    if config.until is None:
        return None
    asked = stats.parse_until(config.until)
    most = config.max_seeds or max(DEFAULT_MAX, len(config.seeds))
    least, extra = (FIRST_LOOK, EXTRA) if isinstance(asked, stats.UntilWidth) else (first_order(), 0)
    if most < least + extra:
        raise ConfigError(
            f"{most} is too small: the rule first looks at {least} seeds" + f" and adds {extra} more" * (extra > 0),
            where="max_seeds", hint=f"set it to at least {least + extra}",
        )  # fmt: skip
    if isinstance(asked, stats.UntilWidth):
        return Rule(config.until, asked, most)
    if len({cell.task for cell in plan.cells}) > 1:
        raise ConfigError(
            "an order of variants can be requested for one task only", where="until", hint="name one task"
        )
    cells: list[dict[str, Any]] = plan.experiment()["cells"]
    first, second = (_variant(name, cells, config.grid) for name in (asked.first, asked.second))
    if first == second:
        raise ConfigError(f"{asked.first} and {asked.second} are the same variant", where="until")
    return Rule(config.until, asked, most, first, second)


def _variant(name: str, cells: Sequence[Mapping[str, Any]], grid: Iterable[str]) -> str:
    """Return the folder of the variant called `name`: its name in reports, its folder, or its value."""
    variants = called((cell["variant"] for cell in cells), cells, grid)
    found = [folder for folder, one in variants.items() if name in _names(folder, one, grid)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(one.label or folder or "(one only)" for folder, one in variants.items())
    what = "names several variants" if found else "is not a variant"
    raise ConfigError(f"{name!r} {what}", where="until", hint=f"name one of the variants: {known}")


def _names(folder: str, one: Variant, grid: Iterable[str]) -> set[str]:
    """Return "lr=0.01", "A", the folder and, for one parameter only, "0.01" and "params.optimizer.lr=0.01"."""
    names = {one.label, one.letter, folder, *without_hash([folder])}
    if len(one.params) == 1:
        [(key, value)] = one.params.items()
        names |= {value, *(f"{axis}={value}" for axis in grid if f".{axis}".endswith(f".{key}"))}
    return names


def waves(plan: Plan, out: Path) -> Callable[[Store], Sequence[int]] | None:
    """Return a function that returns the seeds to add when the queue of a launch is empty; at the end, none.

    The seeds up to the target of the rule are always needed. While others run, one more seed is returned for each idle
    slot, up to twice as many as have ended, because a rule that waits for each seed would leave a cluster idle.
    Such extra seeds may lie beyond the stop. They are shown but not counted. Raises ConfigError as `rule_of` does.
    """
    rule = rule_of(plan)
    if rule is None:
        return None
    before = Store.open(out) if Store.exists(out) else None
    # A launch may have ended before its first look. The rule that the directory was created with was named in time.
    named = before is not None and before.manifest.config.get("until") == rule.text
    seen = before is not None and not named and any(m.record is not None for m in before.scan())
    earlier = dict(before.manifest.until) if before is not None else {}
    about = _history(rule, earlier, seen)

    def more(store: Store) -> Sequence[int]:
        members = list(store.scan())
        seeds = store.manifest.seeds
        step = quantum(store, members, rule.asked.metric)
        looks = look(rule, members, seeds, step=step)
        kept = described(rule, looks, seeds, step=step) | about
        if kept != store.manifest.until:
            store.keep_until(kept)
        if all(one.state.state != "running" for one in looks):
            return []
        target = max(one.state.target for one in looks if one.state.state == "running")
        if target > len(seeds):
            return stats.more_seeds(seeds, target - len(seeds))
        at_work = any(m.status in ("running", "stopped", "pending") for m in members)
        done = max((one.state.used for one in looks), default=0)
        room = min(rule.max_seeds, 2 * max(done, FIRST_LOOK + EXTRA))
        return stats.more_seeds(seeds, 1) if at_work and len(seeds) < room else []

    return more


def _history(rule: Rule, earlier: Mapping[str, Any], seen: bool) -> dict[str, Any]:
    """Return whether results existed when the rule was named, and the rules before it."""
    if earlier.get("rule") == rule.text:
        return {key: earlier.get(key, default) for key, default in (("named_late", False), ("before", []))}
    before = [*earlier.get("before", []), earlier["rule"]] if earlier else []
    return {"named_late": seen, "before": before}


def look(rule: Rule, members: Iterable[Member], seeds: Sequence[int], *, step: float = 0.0) -> list[Look]:
    """Return the state of the rule in every cell, using only its completed prefix of `seeds` (in planned order)."""
    cells: dict[tuple[str, str], dict[int, list[Member]]] = {}
    for member in members:
        cells.setdefault((member.task, member.variant), {}).setdefault(member.seed, []).append(member)
    metric = rule.asked.metric
    options: dict[str, Any] = {"max_seeds": rule.max_seeds, "level": LEVEL}
    if isinstance(rule.asked, stats.UntilOrder):
        task = next(iter(cells))[0]
        first, lost_a, why_a = prefix(cells[task, rule.first], seeds, metric)
        second, lost_b, why_b = prefix(cells[task, rule.second], seeds, metric)
        places = min(len(first), len(second))
        lost = lost_a or lost_b
        order = stats.order_rule(first[:places], second[:places], lost=lost, **options)
        return [Look(task, "", order, why_a or why_b)]
    found = []
    for (task, variant), runs in cells.items():
        values, lost, why = prefix(runs, seeds, metric)
        width = stats.width_rule(values, rule.asked.half_width, quantum=step, lost=lost, **options)
        found.append(Look(task, variant, width, why))
    return found


def prefix(runs: Mapping[int, Sequence[Member]], seeds: Sequence[int], metric: str) -> tuple[list[float], bool, Reason]:
    """Return (one number per completed seed, whether the next one is missing for good, the reason) of one cell.

    Numbers are in planned order, NaN for a seed that failed or did not report the metric. Repeats are averaged.
    """
    values: list[float] = []
    reported = ok = False
    for seed in seeds:
        members = runs.get(seed, ())
        states = {m.status for m in members}
        if not members or not states <= DONE:
            lost = "lost" in states and states <= DONE | {"lost"}
            return values, lost, "lost" if lost else ""
        numbers = [m.record.metrics.get(metric, math.nan) for m in members if m.record is not None]
        good = "failed" not in states
        values.append(float(np.mean(numbers)) if good else math.nan)
        ok, reported = ok or good, reported or (good and not any(map(math.isnan, numbers)))
        if ok and not reported and len(values) >= FIRST_LOOK:
            return values, True, "not reported"
    return values, False, ""


def quantum(store: Store, members: Sequence[Member], metric: str) -> float:
    """Return the step of a metric that counts examples, 1/examples; 0 if it has none or it is unknown."""
    split, _, leaf = metric.rpartition("/")
    if leaf not in COUNTED:
        return 0.0
    for member in members:
        if member.status == "ok" and split in store.splits(member):
            found = store.predictions(member, split)
            return 1 / len(found.ids) if found is not None and len(found.ids) else 0.0
    return 0.0


def described(rule: Rule, looks: Sequence[Look], seeds: Sequence[int], *, step: float) -> dict[str, Any]:
    """Return the state of a rule as plain data for the manifest; `sweep.report.stopping` makes the sentences."""
    cells = [_cell(rule, one) for one in looks]
    states = [str(one.state.state) for one in looks]
    overall = next((s for s in ("running", "incomplete", "not reached") if s in states), states[0])
    used = max(one.state.used for one in looks)
    return {
        "rule": rule.text, "max_seeds": rule.max_seeds, "level": LEVEL, "alpha": round(1 - LEVEL, 12),
        "quantum": step, "state": overall, "looks": max(one.state.looks for one in looks),
        "counted": list(seeds[:used]), "beyond": len(seeds) - used, "cells": cells,
    }  # fmt: skip


def _cell(rule: Rule, one: Look) -> dict[str, Any]:
    state = one.state
    body: dict[str, Any] = {
        "task": one.task, "variant": one.variant, "metric": rule.asked.metric, "state": state.state,
        "looks": state.looks, "used": state.used, "n": state.n, "mean": state.mean,
        "interval": state.interval and asdict(state.interval),
        "reason": one.reason if state.state == "incomplete" else "",
    }  # fmt: skip
    if isinstance(state, stats.WidthState):
        body |= {"met_at": state.met_at, "descriptive": state.descriptive and asdict(state.descriptive)}
    return body
