"""Variants: their labels, and groups of them by parameters of the grid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweep.errors import ConfigError
from sweep.plan import as_text
from sweep.store import Manifest, Member

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Variant:
    """The names of a variant: a letter in pairs, "lr=0.05 depth=3", and each parameter that differs.

    params is empty if the grid does not distinguish the variants; `label` is then the name of the folder.
    """

    letter: str
    label: str
    params: Mapping[str, str] = field(default_factory=dict)


def letter(index: int) -> str:
    """Return A to Z, then AA, AB, ..."""
    more, last = divmod(index, len(LETTERS))
    return (letter(more - 1) if more else "") + LETTERS[last]


def variants_of(folders: Iterable[str], manifest: Manifest | None = None) -> dict[str, Variant]:
    """Return the names of these variants, in planned order, without parameters that they all share.

    Without a manifest these are the names of their folders.
    """
    if manifest is None:
        return called(folders, (), {})
    return called(folders, manifest.experiment["cells"], manifest.config.get("grid") or {})


def called(folders: Iterable[str], cells: Sequence[Mapping[str, Any]], grid: Iterable[str]) -> dict[str, Variant]:
    """Return `variants_of` from the cells of an experiment and the names of its grid parameters."""
    planned = {cell["variant"]: cell["params"] for cell in cells}
    order = {folder: i for i, folder in enumerate(planned)}
    names = sorted(dict.fromkeys(folders), key=lambda folder: order.get(folder, len(order)))
    if len(names) < 2:
        return {name: Variant(letter(0), "") for name in names}
    axes = list(grid) if all(name in planned for name in names) else []
    texts = {axis: [as_text(_value(planned[name], axis)) for name in names] for axis in axes}
    differ = [axis for axis in axes if len(set(texts[axis])) > 1]
    points = [
        dict(zip(_short(differ), values, strict=True)) for values in zip(*(texts[a] for a in differ), strict=True)
    ]
    labels = [" ".join(f"{key}={value}" for key, value in point.items()) for point in points]
    if len(set(labels)) < len(names):  # no grid, or one of secrets
        points, labels = [{}] * len(names), without_hash(names)
    return {
        name: Variant(letter(i), label, point)
        for i, (name, label, point) in enumerate(zip(names, labels, points, strict=True))
    }


def without_hash(folders: Sequence[str]) -> list[str]:
    """Return the names of folders without the hashes at their ends, if they stay distinct."""
    short = [re.sub(r"-[0-9a-f]{6}$", "", name) for name in folders]
    return short if len(set(short)) == len(set(folders)) else list(folders)


def labels_of(cells: Iterable[tuple[str, str]], manifest: Manifest | None = None) -> dict[tuple[str, str], str]:
    """Return the label of each (task, variant): "" for the only one, else "task · lr=0.05"."""
    wanted = list(dict.fromkeys(cells))
    if len(wanted) < 2:
        return dict.fromkeys(wanted, "")
    tasks = list(dict.fromkeys(task for task, _ in wanted))
    task_of = dict(zip(tasks, without_hash(tasks), strict=True))
    variant_of = variants_of((variant for _, variant in wanted), manifest)
    # With several tasks, a single variant has no label, unless its folder has a name.
    named = {name: one.label or without_hash([name])[0] for name, one in variant_of.items()}
    return {
        (task, variant): " · ".join(part for part in (task_of[task], named[variant]) if part)
        for task, variant in wanted
    }


def _short(axes: Sequence[str]) -> list[str]:
    """Return the last parts of dotted names, as many as are needed to distinguish them."""
    parts = [axis.removeprefix("params.").split(".") for axis in axes]
    for count in range(1, max(map(len, parts), default=0)):
        short = [".".join(part[-count:]) for part in parts]
        if len(set(short)) == len(short):
            return short
    return [".".join(part) for part in parts]


def regrouped(members: Iterable[Member], manifest: Manifest, keys: Sequence[str]) -> list[Member]:
    """Return the members with their variant replaced by the group they belong to, e.g. "lr-0.01".

    keys: names of parameters as in the grid, whole (`params.optimizer.lr`) or their last part (`lr`). Runs of
    one seed in one group are later averaged within that seed, as repeats are. Tasks are never pooled. Without
    keys nothing changes. Raises ConfigError for a name that is not an axis of the grid.
    """
    if not keys:
        return list(members)
    axes = [_axis(key, manifest.config.get("grid") or {}) for key in keys]
    cells = manifest.experiment["cells"]
    group = {(c["task"], c["variant"]): _label(c["params"], axes) for c in cells}
    return [replace(m, variant=group[m.task, m.variant]) for m in members]


def _axis(key: str, grid: Mapping[str, Any]) -> str:
    found = [axis for axis in grid if key in (axis, axis.removeprefix("params."), axis.rpartition(".")[2])]
    if len(found) == 1:
        return found[0]
    hint = f"the grid has {', '.join(grid)}" if grid else "this sweep has no grid"
    what = f"{key!r} names {'several axes' if found else 'no axis'} of the grid"
    raise ConfigError(what, where="group by", hint=hint)


def _label(params: Mapping[str, Any], axes: Sequence[str]) -> str:
    return " ".join(f"{axis.rpartition('.')[2]}={as_text(_value(params, axis))}" for axis in axes)


def _value(params: Any, axis: str) -> Any:
    for part in axis.removeprefix("params.").split("."):
        params = params.get(part) if isinstance(params, Mapping) else None
    return params
