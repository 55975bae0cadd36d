"""Modules rebuilt from a run directory: built-in models, or those of a recipe that the user trusts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sweep.determinism import digest
from sweep.errors import ConfigError, EnsembleError, IntegrityError
from sweep.plan import RunSpec
from sweep.store import Member, Store, atomic, shape
from sweep.store.names import MODEL, MODEL_ABOUT, OUTSIDE
from sweep.target.function import resolve
from sweep.target.params import bind
from sweep.target.trust import harmless, require_trust

if TYPE_CHECKING:
    from sweep.train.data import Dataset

LIMIT = 64 << 20  # most bytes of a description
SHAPE = {
    "task?": str, "form?": str, "precision?": str, "outputs?": int, "model?": {"*": Any}, "input_shape?": (None, [int]),
    "classes?": (None, [(str, int, float)]),
    "normalisation?": (None, {"mean?": (None, [float]), "std?": (None, [float]), "wide?": (None, [bool])}),
    "target?": (None, {"mean": float, "std": float}), "variance?": (None, "residual", "predicted"),
    "residual_variance?": (float, "nan", "inf"), f"{OUTSIDE}?": {"*": str},
}  # fmt: skip
DESCRIBED = frozenset({"model", "input_shape", "outputs"})  # the parts from which a built-in model is rebuilt
Build = Callable[[Mapping[str, Any]], nn.Module]


@dataclass(frozen=True)
class Rows:
    """Raw inputs (examples, *input_shape) of one split, and the ids of these examples in its stored predictions."""

    ids: npt.NDArray[Any]
    inputs: npt.NDArray[Any]


def meta_of(store: Store, member: Member) -> dict[str, Any]:
    """Return what was stored beside the weights of a member; empty if there is nothing. Raises: IntegrityError."""
    if not store.has(member, MODEL_ABOUT):
        return {}
    path = store.file(member, MODEL_ABOUT)
    try:
        meta = atomic.loads(atomic.read(path, LIMIT))
        shape.require(meta, SHAPE)
        normal = meta.get("normalisation") or {}
        if len({len(normal[key]) for key in ("mean", "std", "wide") if normal.get(key)}) > 1:
            raise ValueError("it normalises by lists of different lengths")
    except (ValueError, OSError, RecursionError) as error:
        raise IntegrityError(f"the description of a model cannot be read ({error})", where=str(path)) from error
    return dict(meta)


def rebuilt(store: Store, label: str, member: Member, meta: Mapping[str, Any], build: Build | None) -> nn.Module:
    """Return one member with its weights, in evaluation mode; torch's random state is left as it was.

    Raises: EnsembleError if there is nothing to build it from, or the weights do not fit.
    """
    assert member.record is not None
    weights = _weights(store.file(member, MODEL))
    if build is not None:
        make = partial(build, member.record.spec["params"])
    elif set(meta) >= DESCRIBED:
        make = partial(_described, store, label, meta, weights)
    else:
        raise EnsembleError(
            f"the model of {label} does not come from a built-in recipe, and no code is taken from a run directory",
            where=str(store.path),
            hint="in Python, call sweep.load_ensemble(DIR, build=...) with a function of the run's parameters that "
            "returns the module",
        )
    with torch.random.fork_rng(devices=[]):  # a new module draws its weights
        module = make()
    _require_fit(store, label, module, weights)
    module.load_state_dict(weights)
    return module.eval()


def changed(module: nn.Module, meta: Mapping[str, Any]) -> list[str]:
    """Return the tensors outside the weights file that differ from those at the time the module was saved."""
    wanted: Mapping[str, str] = meta.get(OUTSIDE) or {}
    found = digest.outside(module) if wanted else {}
    return [name for name, value in wanted.items() if found.get(name) != value]


def _weights(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OSError) as error:
        raise IntegrityError(f"it is not a readable file of weights ({error})", where=str(path)) from error


def _described(store: Store, label: str, meta: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a built-in model, after a check of its sizes against the weights: they decide the memory it takes."""
    from sweep.train import models

    try:
        with torch.device("meta"):
            sketch = models.build(meta["model"], meta["input_shape"], meta["outputs"])
        _require_fit(store, label, sketch, weights)
        return models.build(meta["model"], meta["input_shape"], meta["outputs"])
    except (ConfigError, ValueError, TypeError, RuntimeError, AssertionError, OverflowError) as error:
        raise EnsembleError(f"the model of {label} cannot be rebuilt: {error}", where=str(store.path)) from error


def _require_fit(store: Store, label: str, module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    own = module.state_dict()
    off = sorted(set(own) ^ set(weights)) or sorted(
        k for k in own if own[k].shape != weights[k].shape or own[k].is_complex() != weights[k].is_complex()
    )
    if off:
        raise EnsembleError(
            f"the weights of {label} do not fit the module: {off[0]} differs ({len(off)} in all)",
            where=str(store.path),
            hint="build the module as it was when it was saved",
        )


def of_recipe(member: Member, *, trust: bool, say: Callable[[str], None]) -> tuple[Build, Dataset] | None:
    """Return how the recipe of a run builds its model, and its data; None for functions and commands.

    A recipe that is not built in, and that the same user has not called like this before, is reported first and
    imported only if it is trusted. Raises: TargetError.
    """
    assert member.record is not None
    target = RunSpec.from_json(member.record.spec).target
    if target.kind != "recipe":
        return None
    if not harmless(target):
        require_trust(target, trust, say, member.record.spec["params"])
    _, function = resolve("recipe", target.reference)

    def build(params: Mapping[str, Any]) -> nn.Module:
        module: nn.Module = function(**bind(function, params, kind="recipe")).model(data)
        return module

    data: Dataset = function(**bind(function, member.record.spec["params"], kind="recipe")).data()
    return build, data


def precision_of(member: Member, meta: Mapping[str, Any]) -> str:
    """Return the precision in which a run predicted; an older run has it in its parameters, or not at all."""
    assert member.record is not None
    spec = RunSpec.from_json(member.record.spec)
    older = spec.params.get("precision") if spec.target.kind == "recipe" else None
    return str(meta.get("precision") or older or "fp32")


def own_rows(member: Member, meta: Mapping[str, Any], split: str, most: int) -> Rows | None:
    """Return a slice of the data of the built-in recipe, as raw inputs; None if they are not available."""
    assert member.record is not None
    params = member.record.spec["params"]
    if "model" not in meta or not isinstance(params.get("data"), Mapping):
        return None
    from sweep.train import data
    from sweep.train.params import Data

    try:
        found = data.load(Data.model_validate(params["data"]), meta["task"])
    except (ConfigError, ValueError, OSError):
        return None
    return rows_of(found, split, most)


def rows_of(data: Dataset, split: str, most: int) -> Rows | None:
    """Return the first rows of a split as they were before normalisation; None if the data lack the split."""
    part = getattr(data, split, None)
    if part is None:
        return None
    inputs = part.inputs[:most]
    if data.mean:
        shape = (1, -1) + (1,) * (inputs.ndim - 2)
        kind = torch.float64 if data.wide else torch.float32
        mean, std = (torch.tensor(values, dtype=kind).reshape(shape) for values in (data.mean, data.std))
        inputs = inputs.to(kind) * std + mean
    return Rows(np.asarray(part.ids[:most]), np.asarray(inputs))
