"""What the members' arrays look like: refused as a table where they are not alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.errors import EnsembleError

MOST_NAMED = 4  # members of one shape that are named, and shapes that are listed


def alike(values: Sequence[tuple[str, Mapping[str, npt.NDArray[Any]]]], split: str) -> None:
    """Refuse members whose arrays differ in kind, columns or dtype, with a table of what each of them saved.

    values: (label, {"probs": (rows, classes)} or {"mean": (rows,), "var": (rows,)}). Raises EnsembleError.
    """
    groups: dict[tuple[tuple[str, tuple[int, ...], str], ...], list[str]] = {}
    for label, arrays in values:
        form = tuple((name, np.shape(array)[1:], str(array.dtype)) for name, array in arrays.items())
        groups.setdefault(form, []).append(label)
    if len(groups) < 2:
        return
    (first, common), (other, differing), *_ = groups.items()
    saved = dict(values)
    what = f"{differing[0]} saved {_described(saved[differing[0]])} for {split}, "
    what += f"{common[0]} saved {_described(saved[common[0]])}"
    names = [_named(labels) for labels in groups.values()]
    width = max(map(len, names[:MOST_NAMED]))
    for name, labels in list(zip(names, groups.values(), strict=True))[:MOST_NAMED]:
        what += f"\n  {name:<{width}}  {_described(saved[labels[0]])}"
    if len(groups) > MOST_NAMED:
        what += f"\n  and {len(groups) - MOST_NAMED} more forms"
    same_kind = [name for name, *_ in first] == [name for name, *_ in other]
    raise EnsembleError(
        what, hint=f"combine members {'with the same classes and dtype' if same_kind else 'of one recipe'}"
    )


def _described(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    return ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())


def _named(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return ", ".join(labels[:MOST_NAMED]) + more
