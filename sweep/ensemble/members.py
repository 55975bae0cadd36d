"""Predictions of many members become one object, matched example by example, or are refused.

A silently wrong ensemble is the worst outcome, so nothing is repaired here: rows are reordered by example id
and otherwise left as the member saved them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from sweep.ensemble.score import Floats, Ints
from sweep.errors import EnsembleError, some
from sweep.seeds import natural
from sweep.store import Predictions

MOST_NAMED = 4  # members of one shape that are named, and shapes that are listed
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


@dataclass(frozen=True)
class Classes(Matched):
    """targets (N,) are class indices, probs (M, N, C)."""

    targets: Ints
    probs: Floats
    kind: ClassVar[Literal["classification"]] = "classification"

    @property
    def size(self) -> int:
        """Bytes."""
        return self.probs.nbytes


@dataclass(frozen=True)
class Values(Matched):
    """targets (N,), mean (M, N) and var (M, N) or None."""

    targets: Floats
    mean: Floats
    var: Floats | None = None
    kind: ClassVar[Literal["regression"]] = "regression"

    @property
    def size(self) -> int:
        """Bytes."""
        return 2 * self.mean.nbytes


Members = Classes | Values


def stack(predictions: Iterable[tuple[str, Predictions]], *, split: str = "test") -> Members:
    """Match (label, predictions) pairs by example id and freeze them; input order never matters.

    Raises EnsembleError naming the member and the row for ids, targets, shapes or classes that differ, logits
    in place of probabilities, rows that do not sum to one, NaN, and variances that are not positive.
    """
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

    (first_label, first), *_ = pairs
    ids, order = ids_of(first_label, first, split)
    targets = np.asarray(first.targets)[order]
    orders, values = [], []
    for label, one in pairs:
        own, order = ids_of(label, one, split)
        _same_ids(label, own, first_label, ids, split)
        _same_targets(label, np.asarray(one.targets)[order], first_label, targets, ids, split)
        orders.append(order)
        values.append((label, _values(label, one, len(ids), split)))
    _alike(values, split)
    columns = {name: np.empty((len(pairs), *array.shape)) for name, array in values[0][1].items()}
    for row, ((label, arrays), order) in enumerate(zip(values, orders, strict=True)):
        for name, array in arrays.items():
            columns[name][row] = array[order]
        _legal(label, ids, {name: array[row] for name, array in columns.items()}, split)
    for array in (ids, *columns.values()):
        array.flags.writeable = False
    if "probs" in columns:
        known = _indices(targets, columns["probs"].shape[2], ids, split)
        known.flags.writeable = False
        return Classes(split, labels, ids, (), known, columns["probs"])
    numbers = _numbers(targets, ids, split)
    numbers.flags.writeable = False
    return Values(split, labels, ids, (), numbers, columns["mean"], columns.get("var"))


def refuse_missing(absent: Sequence[tuple[str, str]], split: str, allow_missing: bool) -> None:
    """Raise EnsembleError where planned members are absent without leave."""
    if absent and not allow_missing:
        raise EnsembleError(
            f"{split}: there are no predictions of {listing(absent)}",
            hint="run the sweep again to fill the gap, or pass --allow-missing to build from those present",
        )


def listing(missing: Sequence[tuple[str, str]]) -> str:
    """ "seed1 (pending), seed7 (failed: diverged) and 3 more"."""
    return some(f"{label} ({reason})" for label, reason in missing)


def ids_of(label: str, one: Predictions, split: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    ids = np.asarray(one.ids)
    if ids.ndim != 1 or np.asarray(one.targets).shape[:1] != ids.shape or not ids.size:
        raise EnsembleError(
            f"{label} has ids of shape {ids.shape} and targets of shape {np.asarray(one.targets).shape} for {split}",
            hint="save one id and one target per example",
        )
    if ids.dtype.kind not in "iuUS":
        raise EnsembleError(f"{label} has ids of dtype {ids.dtype} for {split}", hint="ids are integers or strings")
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if twice.size:
        raise EnsembleError(
            f"{label} has the id {_show(ids[twice[0]])} twice in {split} (row {order[twice[0] + 1]})",
            hint="an id names one example",
        )
    return ids, order


def _same_ids(label: str, own: npt.NDArray[Any], first_label: str, ids: npt.NDArray[Any], split: str) -> None:
    if (own.dtype.kind in "iu") != (ids.dtype.kind in "iu"):
        raise EnsembleError(
            f"{label} names the examples of {split} by {own.dtype}, {first_label} by {ids.dtype}",
            hint="combine members that were given the same data",
        )
    if np.array_equal(own, ids):
        return
    extra, lacking = np.setdiff1d(own, ids), np.setdiff1d(ids, own)
    lacks = f"lacks {_show(lacking[0])}" if lacking.size else ""
    adds = f"adds {_show(extra[0])}" if extra.size else ""
    raise EnsembleError(
        f"{label} has other examples in {split} than {first_label}: "
        f"it {' and '.join(filter(None, (lacks, adds)))} "
        f"({lacking.size} lacking, {extra.size} added, {ids.size} in {first_label})",
        hint="members of one ensemble predict the same examples; combine members of one sweep",
    )


def _same_targets(
    label: str, own: npt.NDArray[Any], first: str, targets: npt.NDArray[Any], ids: npt.NDArray[Any], split: str
) -> None:
    if own.shape != targets.shape:
        raise EnsembleError(f"{label} has targets of shape {own.shape} for {split}, {first} of shape {targets.shape}")
    differ = np.flatnonzero((own != targets).reshape(len(ids), -1).any(axis=1))
    if differ.size:
        at = differ[0]
        raise EnsembleError(
            f"{label} has the target {_show(own[at])} for the example {_show(ids[at])} of {split}, "
            f"{first} has {_show(targets[at])} ({differ.size} rows differ)",
            hint="the members saw different labels; train them on the same data",
        )


def _values(label: str, one: Predictions, rows: int, split: str) -> Arrays:
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
        if array.ndim != (2 if name == "probs" else 1) or array.shape[0] != rows:
            plain = "(examples,): sweep predict and load_ensemble average several labels or values of an example"
            raise EnsembleError(
                f"{label} has {name} of shape {array.shape} for the {rows} examples of {split}",
                hint=f"expected {'(examples, classes)' if name == 'probs' else plain}",
            )
    if "probs" in values and values["probs"].shape[1] < 2:
        raise EnsembleError(
            f"{label} has probabilities of a single class for {split}",
            hint="save one column per class: [1 - p, p] for a binary problem",
        )
    return values


def _alike(values: Sequence[tuple[str, Arrays]], split: str) -> None:
    """Refuse members whose arrays differ in kind, columns or dtype, with a table of what each of them saved."""
    groups: dict[tuple[tuple[str, tuple[int, ...], str], ...], list[str]] = {}
    for label, arrays in values:
        form = tuple((name, array.shape[1:], str(array.dtype)) for name, array in arrays.items())
        groups.setdefault(form, []).append(label)
    if len(groups) < 2:
        return
    saved = {label: _described(arrays) for label, arrays in values}
    (first, (common, *_)), (other, (differing, *_)), *_ = groups.items()
    lines = [f"{differing} saved {saved[differing]} for {split}, {common} saved {saved[common]}"]
    shown = list(groups.values())[:MOST_NAMED]
    names = [some(group, MOST_NAMED) for group in shown]
    width = max(map(len, names))
    lines += [f"{name:<{width}}  {saved[group[0]]}" for name, group in zip(names, shown, strict=True)]
    if len(groups) > MOST_NAMED:
        lines.append(f"and {len(groups) - MOST_NAMED} more forms")
    same_kind = [name for name, *_ in first] == [name for name, *_ in other]
    hint = f"combine members {'with the same classes and dtype' if same_kind else 'of one recipe'}"
    raise EnsembleError("\n  ".join(lines), hint=hint)


def _described(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    return ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())


def _legal(label: str, ids: npt.NDArray[Any], values: Mapping[str, Floats], split: str) -> None:
    """Refuse rows that are not finite, no distribution over classes, or have a variance that is not positive."""

    def refuse(bad: npt.NDArray[np.bool_] | np.bool_, told: Callable[[int], str], hint: str) -> None:
        rows = np.flatnonzero(bad)
        if rows.size:
            of = f"for the example {_show(ids[rows[0]])} of {split} ({rows.size} such rows)"
            raise EnsembleError(f"{label} has {told(int(rows[0]))} {of}", hint=hint)

    for name, array in values.items():
        for found, what in ((np.isnan(array), "NaN"), (np.isinf(array), "an infinity")):
            hint = "the run diverged or its loss overflowed; leave this member out with --members"
            refuse(found.reshape(len(ids), -1).any(axis=1), partial(str.format, f"{what} in its {name}"), hint)
    if "var" in values:
        var: Floats = values["var"]
        hint = "variances are positive; a standard deviation is squared, a log-variance exponentiated"
        refuse(var <= 0, lambda row: f"the variance {float(var[row]):g}", hint)
    if "probs" in values:
        probs, sums = values["probs"], values["probs"].sum(axis=1)
        worst: Floats = probs[np.arange(len(ids)), np.abs(probs - 0.5).argmax(axis=1)]
        hint = "save softmax(logits), not the logits"
        refuse((worst < 0) | (worst > 1 + SUM_TOLERANCE), lambda row: f"the probability {float(worst[row]):g}", hint)
        hint = "save a softmax over classes, in float32 or wider"
        refuse(np.abs(sums - 1.0) > SUM_TOLERANCE, lambda row: f"probabilities that sum to {sums[row]:.6g}", hint)


def _indices(targets: npt.NDArray[Any], classes: int, ids: npt.NDArray[Any], split: str) -> Ints:
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise EnsembleError(
            f"targets of {split} have shape {targets.shape} and dtype {targets.dtype}",
            hint="save class indices as integers, one per example",
        )
    bad = np.flatnonzero((targets < 0) | (targets >= classes))
    if bad.size:
        raise EnsembleError(
            f"the example {_show(ids[bad[0]])} of {split} has the target {targets[bad[0]]}, "
            f"but the members know the classes 0 to {classes - 1}",
            hint="save class indices that count from 0",
        )
    return np.asarray(targets.astype(np.int64))


def _numbers(targets: npt.NDArray[Any], ids: npt.NDArray[Any], split: str) -> Floats:
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1 or targets.dtype.kind not in "fiu":
        raise EnsembleError(
            f"targets of {split} have shape {targets.shape} and dtype {targets.dtype}",
            hint="regression takes one number per example; assess one output at a time",
        )
    bad = np.flatnonzero(~np.isfinite(targets))
    if bad.size:
        raise EnsembleError(f"the example {_show(ids[bad[0]])} of {split} has the target {targets[bad[0]]}")
    return np.asarray(targets.astype(np.float64))


def _show(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)
