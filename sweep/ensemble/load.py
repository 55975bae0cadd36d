"""The members of a run directory as one served module, checked against their stored predictions."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sweep.ensemble import calibrate
from sweep.ensemble.gather import Chosen, choose, having, read
from sweep.ensemble.members import Classes, Values, listing, refuse_missing
from sweep.ensemble.rebuild import (
    DESCRIBED,
    Build,
    Rows,
    changed,
    meta_of,
    of_recipe,
    own_rows,
    precision_of,
    rebuilt,
    rows_of,
)
from sweep.ensemble.score import judged
from sweep.ensemble.serve import About, Ensemble
from sweep.errors import EnsembleError, IntegrityError, some
from sweep.store import Predictions, Store
from sweep.store.names import MODEL, PREDICTIONS

SLICE = 64  # examples of the stored predictions that a loaded ensemble must reproduce
TOLERANCE = 1e-4
COARSE = 0.03  # for 16 bits or TF32, where rounding depends on the shape of the batch and the device


@dataclass(frozen=True)
class Loaded:
    """A served ensemble, and the raw rows of a split that it was checked on; None if there were none."""

    ensemble: Ensemble
    rows: Rows | None


def load_ensemble(
    path: str | os.PathLike[str],
    *,
    split: str = "test",
    variant: str | None = None,
    task: str | None = None,
    members: Sequence[str | int] | None = None,
    allow_missing: bool = False,
    build: Build | None = None,
    rows: Rows | None = None,
    device: str | torch.device = "cpu",
    trust: bool = False,
) -> Ensemble:
    """Serve the finished members of a run directory as one module that takes raw inputs; see `Ensemble`.

    Weights are read without pickle, and no code comes from the directory. Built-in models are rebuilt from their
    description, the models of your own recipe with trust=True, which imports what the records name, and all others by
    `build`. The temperature is fitted on the stored predictions for val, if there are any.

    Some of the stored predictions for `split` are computed again and compared, on `rows` or on the data of the recipe.
    Without inputs, there is a warning instead.

    Parameters
    ----------
    path : path or URL
        The run directory.
    split : str, default "test"
        The split whose stored predictions are compared.
    variant : str, optional
        Needed if there are several. A part of the name is enough.
    task : str, optional
        Needed if there are several.
    members : sequence of seeds or names, optional
        The members to use, such as [0, 1] or ["seed0"]. Default: all.
    allow_missing : bool, default False
        Leave out members that failed or have no weights.
    build : callable, optional
        Gets the parameters of a run as a mapping and returns the untrained module.
    rows : Rows, optional
        Inputs with their ids, if the recipe cannot provide them.
    device : str or torch.device, default "cpu"
        The device to serve on.
    trust : bool, default False
        Allow code that the directory names and that is not part of sweep to be imported.

    Raises
    ------
    IntegrityError
        The predictions differ from the stored ones.
    EnsembleError
        Planned members are missing, there are no weights, or a model cannot be rebuilt.
    TargetError
        The recipe is neither built in nor trusted.
    """
    store = Store.open(path)
    chosen = choose(store, variant=variant, task=task, members=members)
    found = load(store, chosen, split, allow_missing=allow_missing, build=build, rows=rows, trust=trust)
    return found.ensemble.to(device)


def load(
    store: Store,
    chosen: Chosen,
    split: str = "test",
    *,
    allow_missing: bool = False,
    build: Build | None = None,
    rows: Rows | None = None,
    trust: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Loaded:
    """Return the ensemble of `load_ensemble`, and the rows it was checked on. say: reports what would be imported."""
    if store.manifest.folds:
        raise EnsembleError(
            "each of its models was trained without one fold of the data", where=str(store.path),
            hint="score them with sweep ensemble; to serve models, train without folds in another directory",
        )  # fmt: skip
    chosen = having(store, chosen, MODEL, f"saved no {MODEL}")
    runs = chosen.runs
    if not runs:
        raise EnsembleError(
            "no finished run has saved its model", where=str(store.path),
            hint="call run.save_model(module) in your training code",
        )  # fmt: skip
    refuse_missing(chosen.missing, "no stored models", allow_missing)
    metas = [meta_of(store, one) for _, one in runs]
    if build is None and not all(set(meta) >= DESCRIBED for meta in metas):
        recipe = of_recipe(runs[0][1], trust=trust, say=say)
        if recipe is not None:
            build, data = recipe
            metas = [{**data.about, **meta} for meta in metas]
            rows = rows if rows is not None else rows_of(data, split, SLICE)
    modules = [rebuilt(store, label, one, meta, build) for (label, one), meta in zip(runs, metas, strict=True)]
    stored = {label: store.predictions(one, split) for label, one in runs}
    rows = rows if rows is not None else own_rows(runs[0][1], metas[0], split, SLICE)
    skipped = [label for label, one in stored.items() if rows is None or one is None]
    for (label, _), meta, module in zip(runs, metas, modules, strict=True):
        if label in skipped and (others := changed(module, meta)):
            raise EnsembleError(
                f"{some(others)} of {label} is outside its state dict, and has changed since the model was saved",
                where=str(store.path),
                hint="set its value in build=, or pass rows=Rows(ids, inputs) to check predictions instead; in "
                "training, save it with the weights by register_buffer()",
            )
    unchecked = [f"not checked against their predictions for {split}: {some(skipped)}"] if skipped else []
    for note in unchecked:
        hint = f"pass rows=Rows(ids, inputs), and save predictions for {split} in training, to check them"
        warnings.warn(f"{store.path}: {note}: {hint}", stacklevel=3)
    ensemble = Ensemble(modules, _about(store, chosen, metas, stored, unchecked))
    if rows is not None:
        _check(ensemble, stored, rows, split, precision_of(runs[0][1], metas[0]))
    return Loaded(ensemble, rows)


def _about(
    store: Store,
    chosen: Chosen,
    metas: Sequence[Mapping[str, Any]],
    stored: Mapping[str, Predictions | None],
    notes: Sequence[str],
) -> About:
    first = metas[0]
    same = ("task", "classes", "input_shape", "normalisation", "target", "variance", "outputs", "form")
    for (label, _), meta in zip(chosen.runs, metas, strict=True):
        for key in same:
            if meta.get(key) != first.get(key):
                raise EnsembleError(
                    f"{label} was trained with a different {key} from {chosen.runs[0][0]}",
                    where=str(store.path),
                    hint="serve members that were trained on the same data",
                )
    some = next((one for one in stored.values() if one is not None), None)
    form = first.get("form", "")
    values = form != "labels" and (first.get("task") == "regression" or (some is not None and some.probs is None))
    normal, target = first.get("normalisation") or {}, first.get("target") or {}
    several = f"several {form} of an example have no temperature" if form in ("labels", "values") else ""
    temperature = several or _temperature(store, chosen, values)
    said = [*notes, *([f"built without {listing(chosen.missing)}"] if chosen.missing else [])]
    if isinstance(temperature, str):
        said.append(f"not calibrated: {temperature}")
    return About(
        kind="regression" if values else "classification",
        labels=tuple(label for label, _ in chosen.runs),
        classes=tuple(map(str, first.get("classes") or ())),
        input_shape=tuple(first["input_shape"]) if first.get("input_shape") else None,
        mean=tuple(normal.get("mean") or ()),
        std=tuple(normal.get("std") or ()),
        wide=tuple(normal.get("wide") or ()),
        temperature=1.0 if isinstance(temperature, str) else temperature,
        target_mean=float(target.get("mean", 0.0)),
        target_std=float(target.get("std", 1.0)),
        variance=first.get("variance"),
        residual=tuple(float(meta["residual_variance"]) for meta in metas if "residual_variance" in meta),
        form=form,
        notes=tuple(said),
    )


def _temperature(store: Store, chosen: Chosen, values: bool) -> float | str:
    """Return the temperature fitted on val, or why there is none."""
    if len(chosen.runs) < 2 or not all(store.has(one, PREDICTIONS.format(split="val")) for _, one in chosen.runs):
        return "no predictions for val are stored"
    members = read(store, chosen.runs, "val")
    if isinstance(members, Classes) and not values:
        pool = members.probs.mean(axis=0)
        if not judged(pool, members.targets).possible:
            return "the ensemble gives probability 0 to a target of val"
        return calibrate.temperature(pool, members.targets)
    if isinstance(members, Values) and members.var is not None:
        return calibrate.variance_scale(members.mean, members.var, members.targets)
    return "the predictions for val have no variances"


def _check(
    ensemble: Ensemble, stored: Mapping[str, Predictions | None], rows: Rows, split: str, precision: str
) -> None:
    """Refuse members that do not reproduce their stored predictions to the tolerance of their precision."""
    ids, inputs = np.asarray(rows.ids)[:SLICE], rows.inputs[:SLICE]
    exact = precision == "fp32" and ensemble.kind.itemsize >= 4
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        outputs = ensemble.outputs(ensemble.tensor(inputs))
        if ensemble.about.kind == "classification":
            probs = ensemble.head.probs(outputs).numpy()
            said = {"mean": probs[..., 1]} if ensemble.about.form == "labels" else {"probs": probs}
        else:
            mean, var = ensemble.head.moments(outputs)
            said = {"mean": mean.numpy()} | ({"var": var.numpy()} if ensemble.about.variance else {})
    if "probs" in said and said["probs"].ndim > 3:  # tokens or pixels, each stored with its own id
        each = math.prod(said["probs"].shape[2:-1])
        ids = (ids[:, None] * each + np.arange(each)).ravel()
        said = {name: values.reshape(len(values), len(ids), -1) for name, values in said.items()}
    for index, label in enumerate(ensemble.about.labels):
        one = stored[label]
        if one is None:
            continue
        _, mine, its = np.intersect1d(ids, one.ids, return_indices=True)
        if not mine.size:
            raise EnsembleError(
                f"none of the {len(ids)} rows has an id that {label} predicted for {split}",
                hint="pass rows= of the split that is checked",
            )
        for name, values in said.items():
            wanted, saved = values[index][mine], getattr(one, name)
            if saved is None or saved[its].size != wanted.size:
                raise IntegrityError(
                    f"the model of {label} gives {name} of another shape than its saved predictions for {split}",
                    hint="use the model and the predictions of one run",
                )
            expected = np.asarray(saved, dtype=np.float64)[its].reshape(wanted.shape)
            gap = np.abs(wanted - expected)
            allowed = (TOLERANCE if exact else COARSE) * max(1.0, float(np.abs(expected).max()))
            if not float(gap.max()) <= allowed:
                worst = ids[mine[int(np.unravel_index(gap.argmax(), gap.shape)[0])]].item()
                raise IntegrityError(
                    f"{label} does not reproduce its predictions for {split}: its {name} differs by {gap.max():.2g} "
                    f"for the example {worst!r}",
                    hint="use the model, the input normalisation and the data with which it was scored",
                )
