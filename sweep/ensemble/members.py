"""Predictions of many members as one object, matched example by example, or refused.

A silently wrong ensemble is the worst outcome, so nothing is repaired here: rows are sorted by example id
and otherwise left as the member saved them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from sweep.errors import EnsembleError, some
from sweep.seeds import natural
from sweep.stats.sample import Floats, Ints
from sweep.store import Predictions
from sweep.words import plural

MOST_NAMED = 4  # members of one form that are named, and forms that are listed
SUM_TOLERANCE = 1e-3  # a float32 softmax over many classes is off by 1e-5, a half-precision one by more
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Matched:
    """Members sorted by label, examples sorted by id; missing: (label, reason) of planned members without predictions.

    labels: M names; ids: (N,).
    """

    split: str
    labels: tuple[str, ...]
    ids: npt.NDArray[Any]
    missing: tuple[tuple[str, str], ...]

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """Return the bytes of all arrays."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


@dataclass(frozen=True)
class Classes(Matched):
    """targets (N,) are class indices, probs (M, N, C)."""

    targets: Ints
    probs: Floats
    kind: ClassVar[Literal["classification"]] = "classification"


@dataclass(frozen=True)
class Values(Matched):
    """targets (N,), mean (M, N) and var (M, N) or None."""

    targets: Floats
    mean: Floats
    var: Floats | None = None
    kind: ClassVar[Literal["regression"]] = "regression"


Members = Classes | Values


def stack(predictions: Iterable[tuple[str, Predictions]], *, split: str = "test") -> Members:
    """Match (label, predictions) pairs by example id and freeze them; input order never matters.

    Raises EnsembleError, with the member and the row, for ids, targets, shapes or classes that differ, logits
    instead of probabilities, rows that do not sum to one, NaN, and variances that are not positive.
    """
    pairs = sorted(predictions, key=lambda pair: natural(pair[0]))
    labels = tuple(label for label, _ in pairs)
    if len(labels) < 2:
        names = f" ({labels[0]})" if labels else ""
        raise EnsembleError(
            f"an ensemble needs 2 members or more with predictions for {split}, found {len(labels)}{names}",
            hint="run more seeds, or choose another --split",
        )
    if twice := [before for before, after in itertools.pairwise(labels) if before == after]:
        raise EnsembleError(f"{twice[0]} is given twice", hint="pass each member once")

    (first_label, first), *_ = pairs
    ids, order = ids_of(first_label, first, split)
    targets = np.asarray(first.targets)[order]
    saved, orders = [], []
    for label, one in pairs:
        own, order = ids_of(label, one, split)
        _same_ids(label, own, first_label, ids, split)
        _same_targets(label, np.asarray(one.targets)[order], first_label, targets, ids, split)
        saved.append((label, _values(label, one, len(ids), split)))
        orders.append(order)
    _alike(saved, split)
    columns = {name: np.empty((len(pairs), *array.shape)) for name, array in saved[0][1].items()}
    for row, ((label, arrays), order) in enumerate(zip(saved, orders, strict=True)):
        for name, array in arrays.items():  # sorted copies of one member at a time, not of all
            columns[name][row] = array[order]
        _legal(label, ids, {name: array[row] for name, array in columns.items()}, split)
    known = _targets(targets, ids, split, classes=columns["probs"].shape[2] if "probs" in columns else 0)
    for array in (ids, known, *columns.values()):
        array.flags.writeable = False
    if "probs" in columns:
        return Classes(split, labels, ids, (), known, columns["probs"])
    return Values(split, labels, ids, (), known, columns["mean"], columns.get("var"))


def refuse_missing(absent: Sequence[tuple[str, str]], what: str, allow_missing: bool) -> None:
    """Raise EnsembleError if planned members are missing and that is not allowed."""
    if absent and not allow_missing:
        raise EnsembleError(
            f"there are {what} of {listing(absent)}",
            hint="run the sweep again to fill the gap, or pass --allow-missing to build from those present",
        )


def listing(missing: Sequence[tuple[str, str]]) -> str:
    """Return missing members in the form "seed1 (pending), seed7 (failed: diverged) and 3 more"."""
    return some(f"{label} ({reason})" for label, reason in missing)


def ids_of(label: str, one: Predictions, split: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    ids = np.asarray(one.ids)
    if ids.ndim != 1 or np.asarray(one.targets).shape[:1] != ids.shape or not ids.size:
        raise EnsembleError(
            f"{label} has ids of shape {ids.shape} and targets of shape {np.asarray(one.targets).shape} for {split}",
            hint="save one id and one target per example",
        )
    if ids.dtype.kind not in "iuUS":
        raise EnsembleError(f"{label} has ids of dtype {ids.dtype} for {split}", hint="save integers or strings as ids")
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if twice.size:
        raise EnsembleError(
            f"{label} has the id {_show(ids[twice[0]])} twice in {split} (row {order[twice[0] + 1]})",
            hint="give each example its own id",
        )
    return ids, order


def _same_ids(label: str, own: npt.NDArray[Any], first_label: str, ids: npt.NDArray[Any], split: str) -> None:
    if (own.dtype.kind in "iu") != (ids.dtype.kind in "iu"):
        raise EnsembleError(
            f"{label} identifies the examples of {split} by {own.dtype}, but {first_label} by {ids.dtype}",
            hint="combine members that were given the same data",
        )
    if not np.array_equal(own, ids):
        odd = (("lacks", np.setdiff1d(ids, own)), ("adds", np.setdiff1d(own, ids)))
        said = " and ".join(f"{how} {_show(those[0])} ({those.size} in all)" for how, those in odd if those.size)
        raise EnsembleError(
            f"{label} and {first_label} have different examples in {split}: {label} {said}",
            hint="combine members of one sweep, which predict the same examples",
        )


def _same_targets(
    label: str, own: npt.NDArray[Any], first: str, targets: npt.NDArray[Any], ids: npt.NDArray[Any], split: str
) -> None:
    if own.shape != targets.shape:
        raise EnsembleError(
            f"{label} has targets of shape {own.shape} for {split}, but {first} of shape {targets.shape}"
        )
    same = (own == targets).reshape(len(ids), -1).all(axis=1)
    hint = "train the members on the same data: they saw different labels"
    _require(same, ids, split, f"{label} has a different target from {first}:", own, hint=hint)


def _values(label: str, one: Predictions, rows: int, split: str) -> Arrays:
    given = {name: getattr(one, name) for name in ("probs", "mean", "var")}
    values = {name: np.asarray(array) for name, array in given.items() if array is not None}
    if set(values) not in ({"probs"}, {"mean"}, {"mean", "var"}):
        raise EnsembleError(
            f"{label} saved {' and '.join(values) or 'no probabilities or means'} for {split}",
            hint="pass probs= for classes, or mean= (and var=) for values, to run.save_predictions",
        )
    for name, array in values.items():
        if name != "probs" and array.ndim == 2 and array.shape[1] == 1:
            values[name] = array = array[:, 0]
        fits = array.ndim == 2 and array.shape[1] > 1 if name == "probs" else array.ndim == 1
        if not fits or len(array) != rows or array.dtype.kind not in "fiu":
            raise EnsembleError(
                f"{label} has {name} of shape {array.shape} and dtype {array.dtype} for the {rows} examples of {split}",
                hint="save floats (examples, classes), one column per class: [1 - p, p] for a binary problem"
                if name == "probs"
                else "save floats (examples,); sweep predict and load_ensemble also average several labels or values",
            )
    return values


def _alike(values: Sequence[tuple[str, Arrays]], split: str) -> None:
    """Refuse members whose arrays differ in kind, columns or dtype, with a table of what they saved."""
    forms: dict[str, list[str]] = {}
    for label, arrays in values:
        form = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())
        forms.setdefault(form, []).append(label)
    if len(forms) > 1:
        shown = [f"{some(labels, MOST_NAMED)}: {form}" for form, labels in list(forms.items())[:MOST_NAMED]]
        raise EnsembleError(
            "\n  ".join([f"the members saved {len(forms)} forms of predictions for {split}", *shown]),
            hint="combine members of one recipe, with the same classes and dtype",
        )


def _legal(label: str, ids: npt.NDArray[Any], values: Mapping[str, Floats], split: str) -> None:
    """Refuse rows that are not finite or not a distribution over classes, and variances that are not positive."""
    for name, array in values.items():
        finite = np.isfinite(array).reshape(len(ids), -1).all(axis=1)
        hint = "the run diverged or its loss overflowed; leave this member out with --members"
        _require(finite, ids, split, f"{label} has NaN or an infinity in its {name}", hint=hint)
    if "var" in values:
        hint = "save positive variances: square a standard deviation, exponentiate a log-variance"
        _require(values["var"] > 0, ids, split, f"{label} has the variance", values["var"], hint=hint)
    if "probs" in values:
        probs, sums = values["probs"], values["probs"].sum(axis=1)
        worst: Floats = probs[np.arange(len(ids)), np.abs(probs - 0.5).argmax(axis=1)]
        hint = "save softmax(logits), not the logits"
        inside = (worst >= 0) & (worst <= 1 + SUM_TOLERANCE)
        _require(inside, ids, split, f"{label} has the probability", worst, hint=hint)
        hint = "save a softmax over classes, in float32 or wider"
        near = np.abs(sums - 1.0) <= SUM_TOLERANCE
        _require(near, ids, split, f"{label} has probabilities that sum to", sums.round(6), hint=hint)


def _targets(targets: npt.NDArray[Any], ids: npt.NDArray[Any], split: str, *, classes: int) -> npt.NDArray[Any]:
    """Return class indices, or numbers if there are no classes."""
    if not classes and targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1 or targets.dtype.kind not in ("iu" if classes else "fiu"):
        raise EnsembleError(
            f"targets of {split} have shape {targets.shape} and dtype {targets.dtype}",
            hint="save class indices as integers, one per example"
            if classes
            else "save one number per example, and assess one output at a time",
        )
    known = (targets >= 0) & (targets < classes) if classes else np.isfinite(targets)
    wanted = f"the classes 0 to {classes - 1}" if classes else "finite numbers"
    hint = "save one target per example, class indices counted from 0"
    _require(known, ids, split, f"the members predict {wanted}, not the target", targets, hint=hint)
    return targets.astype(np.int64 if classes else np.float64)


def _require(
    good: npt.ArrayLike, ids: npt.NDArray[Any], split: str, what: str,
    values: npt.NDArray[Any] | None = None, *, hint: str,
) -> None:  # fmt: skip
    """Refuse the first invalid row, with its value, its example and the number of such rows."""
    rows = np.flatnonzero(np.logical_not(good))
    if rows.size:
        value = "" if values is None else f" {_show(values[rows[0]])}"
        of = f"the example {_show(ids[rows[0]])} of {split} ({plural(rows.size, 'such row')})"
        raise EnsembleError(f"{what}{value} for {of}", hint=hint)


def _show(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)
