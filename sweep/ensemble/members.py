"""Predictions of many members become one object, matched example by example, or are refused.

A silently wrong ensemble is the worst outcome, so nothing is repaired here: rows are reordered by example id
and otherwise left as the member saved them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from sweep.ensemble.combine import Floats
from sweep.ensemble.rows import class_indices, legal, numbers, show
from sweep.ensemble.shapes import alike
from sweep.errors import EnsembleError


class Predictions(Protocol):
    """What one member said about one split; arrays with a row an example, probs or mean (and var)."""

    @property
    def ids(self) -> npt.NDArray[Any]: ...
    @property
    def targets(self) -> npt.NDArray[Any]: ...
    @property
    def probs(self) -> npt.NDArray[Any] | None: ...
    @property
    def mean(self) -> npt.NDArray[Any] | None: ...
    @property
    def var(self) -> npt.NDArray[Any] | None: ...


@dataclass(frozen=True)
class Members:
    """Matched predictions: members sorted by label, examples sorted by id.

    labels: M names; ids, targets: (N,); classification has probs (M, N, C), regression has mean (M, N) and
    var (M, N) or None. missing: (label, reason) of planned members that are not in here.
    """

    split: str
    labels: tuple[str, ...]
    ids: npt.NDArray[Any]
    targets: npt.NDArray[Any]
    probs: Floats | None = None
    mean: Floats | None = None
    var: Floats | None = None
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> Literal["classification", "regression"]:
        return "regression" if self.probs is None else "classification"

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def note(self) -> str | None:
        """One sentence about members that are absent; every output carries it."""
        return f"built without {_listing(self.missing)}" if self.missing else None

    def where(self, mask: npt.NDArray[np.bool_]) -> Members:
        """The same members on some of the examples."""
        return Members(
            self.split,
            self.labels,
            self.ids[mask],
            self.targets[mask],
            None if self.probs is None else self.probs[:, mask],
            None if self.mean is None else self.mean[:, mask],
            None if self.var is None else self.var[:, mask],
            self.missing,
        )


def stack(
    predictions: Iterable[tuple[str, Predictions]],
    *,
    split: str = "test",
    missing: Sequence[tuple[str, str]] = (),
    allow_missing: bool = False,
) -> Members:
    """Match (label, predictions) pairs by example id and freeze them as Members; input order never matters.

    missing: (label, reason) of planned members without predictions; refused unless allow_missing.
    Raises EnsembleError naming the member and the row for ids, targets, shapes or classes that differ, logits
    in place of probabilities, rows that do not sum to one, NaN, and variances that are not positive.
    """
    absent = tuple(sorted(missing, key=lambda pair: natural(pair[0])))
    if absent and not allow_missing:
        raise EnsembleError(
            f"{split}: there are no predictions of {_listing(absent)}",
            hint="run the sweep again to fill the gap, or pass --allow-missing to build from those present",
        )
    pairs = sorted(predictions, key=lambda pair: natural(pair[0]))
    labels = tuple(label for label, _ in pairs)
    if len(labels) < 2:
        names = f" ({labels[0]})" if labels else ""
        raise EnsembleError(
            f"an ensemble needs 2 members or more with predictions for {split}, found {len(labels)}{names}",
            hint="run more seeds, or choose another --split",
        )
    for before, after in itertools.pairwise(labels):
        if before == after:
            raise EnsembleError(f"{before} is given twice", hint="pass each member once")

    first_label, first = pairs[0]
    ids, order = _ids(first_label, first, split)
    targets = np.asarray(first.targets)[order]
    kind = "probs" if first.probs is not None else "mean"
    orders: list[npt.NDArray[np.intp]] = []
    values: list[tuple[str, dict[str, npt.NDArray[Any]]]] = []
    for label, one in pairs:
        own, order = _ids(label, one, split)
        _same_ids(label, own, first_label, ids, split)
        _same_targets(label, np.asarray(one.targets)[order], first_label, targets, ids, split)
        orders.append(order)
        values.append((label, _values(label, one, len(ids), split)))
    alike(values, split)
    shapes = {name: array.shape for name, array in values[0][1].items()}
    columns = {name: np.empty((len(pairs), *shape), dtype=np.float64) for name, shape in shapes.items()}
    for row, ((_, arrays), order) in enumerate(zip(values, orders, strict=True)):
        for name, array in arrays.items():
            columns[name][row] = array[order]
    for row, label in enumerate(labels):
        legal(label, ids, {name: array[row] for name, array in columns.items()}, split)
    targets = (
        class_indices(targets, columns["probs"].shape[2], ids, split)
        if kind == "probs"
        else numbers(targets, ids, split)
    )
    for array in (ids, targets, *columns.values()):
        array.flags.writeable = False
    return Members(split, labels, ids, targets, columns.get("probs"), columns.get("mean"), columns.get("var"), absent)


def natural(label: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts seed9 before seed10."""
    parts = re.findall(r"\d+|\D+", label)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


def _ids(label: str, one: Predictions, split: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    ids = np.asarray(one.ids)
    if ids.ndim != 1 or np.asarray(one.targets).shape[:1] != ids.shape or not ids.size:
        raise EnsembleError(
            f"{label} has ids of shape {ids.shape} and targets of shape {np.asarray(one.targets).shape} for {split}",
            hint="save one id and one target an example",
        )
    if ids.dtype.kind not in "iuUS":
        raise EnsembleError(f"{label} has ids of dtype {ids.dtype} for {split}", hint="ids are integers or strings")
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if twice.size:
        raise EnsembleError(
            f"{label} has the id {show(ids[twice[0]])} twice in {split} (row {order[twice[0] + 1]})",
            hint="an id names one example",
        )
    return ids, order


def _same_ids(label: str, own: npt.NDArray[Any], first_label: str, ids: npt.NDArray[Any], split: str) -> None:
    if own.dtype.kind == ids.dtype.kind and own.shape == ids.shape and bool((own == ids).all()):
        return
    if (own.dtype.kind in "iu") != (ids.dtype.kind in "iu"):
        raise EnsembleError(
            f"{label} names the examples of {split} by {own.dtype}, {first_label} by {ids.dtype}",
            hint="combine members that were given the same data",
        )
    extra, lacking = np.setdiff1d(own, ids), np.setdiff1d(ids, own)
    if not extra.size and not lacking.size:
        return
    lacks = f"lacks {show(lacking[0])}" if lacking.size else ""
    adds = f"adds {show(extra[0])}" if extra.size else ""
    raise EnsembleError(
        f"{label} has other examples in {split} than {first_label}: "
        f"it {' and '.join(filter(None, (lacks, adds)))} "
        f"({lacking.size} lacking, {extra.size} added, {ids.size} in {first_label})",
        hint="members of one ensemble predict the same examples; combine members of one sweep",
    )


def _same_targets(
    label: str,
    own: npt.NDArray[Any],
    first_label: str,
    targets: npt.NDArray[Any],
    ids: npt.NDArray[Any],
    split: str,
) -> None:
    if own.shape != targets.shape:
        raise EnsembleError(
            f"{label} has targets of shape {own.shape} for {split}, {first_label} of shape {targets.shape}"
        )
    differ = np.flatnonzero((own != targets).reshape(len(ids), -1).any(axis=1))
    if differ.size:
        at = differ[0]
        raise EnsembleError(
            f"{label} has the target {show(own[at])} for the example {show(ids[at])} of {split}, "
            f"{first_label} has {show(targets[at])} ({differ.size} rows differ)",
            hint="the members saw different labels; train them on the same data",
        )


def _values(label: str, one: Predictions, rows: int, split: str) -> dict[str, npt.NDArray[Any]]:
    given = {name: getattr(one, name) for name in ("probs", "mean", "var")}
    values = {name: np.asarray(array) for name, array in given.items() if array is not None}
    if "probs" in values and len(values) > 1:
        raise EnsembleError(f"{label} saved both probabilities and means for {split}", hint="save one of them")
    if "probs" not in values and "mean" not in values:
        raise EnsembleError(
            f"{label} saved neither probabilities nor means for {split}",
            hint="pass probs= or mean= to run.save_predictions",
        )
    for name, array in values.items():
        if array.dtype.kind not in "fiu":
            raise EnsembleError(f"{label} has {name} of dtype {array.dtype} for {split}", hint="save floats")
        if name != "probs" and array.ndim == 2 and array.shape[1] == 1:
            values[name] = array = array[:, 0]
        wanted = 2 if name == "probs" else 1
        if array.ndim != wanted or array.shape[0] != rows:
            shape = "(examples, classes)" if name == "probs" else "(examples,)"
            raise EnsembleError(
                f"{label} has {name} of shape {array.shape} for the {rows} examples of {split}",
                hint=f"expected {shape}",
            )
    if "probs" in values and values["probs"].shape[1] < 2:
        raise EnsembleError(
            f"{label} has probabilities of a single class for {split}",
            hint="save a column a class: [1 - p, p] for a binary problem",
        )
    return values


def _listing(missing: Sequence[tuple[str, str]], most: int = 5) -> str:
    named = [f"{label} ({reason})" for label, reason in missing[:most]]
    more = f" and {len(missing) - most} more" if len(missing) > most else ""
    return ", ".join(named) + more
