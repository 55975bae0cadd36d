"""Other cuts through a grid: variants that share the named parameters become one group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep.errors import ConfigError
from sweep.plan import canonical
from sweep.store import Manifest, Member


def regrouped(members: Iterable[Member], manifest: Manifest, keys: Sequence[str]) -> list[Member]:
    """The members with their variant replaced by the group they belong to, e.g. "lr-0.01".

    keys: names of parameters as in the grid, whole (`params.optimizer.lr`) or their last part (`lr`). Runs of
    one seed in one group are averaged within that seed by whatever counts seeds, as repeats are. Tasks are
    never pooled. Without keys nothing changes. ConfigError for a name that is no axis of the grid.
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
    return " ".join(f"{axis.rpartition('.')[2]}={_text(_value(params, axis))}" for axis in axes)


def _value(params: Any, axis: str) -> Any:
    for part in axis.split(".")[1:]:
        params = params.get(part) if isinstance(params, Mapping) else None
    return params


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)
