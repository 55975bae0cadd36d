"""Predictions for a file of inputs, in batches, so that memory depends on the batch and not on the file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sweep.ensemble.serve import Ensemble, Prediction
from sweep.errors import EnsembleError

BUDGET = 64 << 20  # bytes of inputs and first outputs in flight; members multiply what a batch costs


@dataclass(frozen=True)
class Predicted:
    """A written file of predictions: the number of examples, and the arrays by name with their shapes."""

    path: Path
    examples: int
    arrays: dict[str, tuple[int, ...]]


def predict(ensemble: Ensemble, inputs: npt.ArrayLike, *, batch: int | None = None) -> dict[str, npt.NDArray[Any]]:
    """Return the fields of Prediction as arrays for raw inputs (examples, *input_shape), batch by batch."""
    parts = list(_served(ensemble, np.asanyarray(inputs), batch))
    if not parts:
        raise EnsembleError("there are no inputs to predict", hint="give one example or more")
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(Prediction._fields)}


def predict_file(
    ensemble: Ensemble, source: str | os.PathLike[str], out: str | os.PathLike[str], *, batch: int | None = None
) -> Predicted:
    """Read raw inputs from `.npy` or `.npz` (its array `inputs` or `x`, or its only one) and write `out`.

    An `.npz` gets the fields of Prediction, `ids` if the source has them, and `notes` (sentences, for example on
    missing members) if there are any; an `.npy` gets only `calibrated`. Neither file is held in memory as a
    whole; `out` appears complete or not at all.
    Raises EnsembleError for files that are not arrays of inputs, or have the wrong shape.
    """
    there, target = Path(source), Path(out)
    if target.suffix not in (".npz", ".npy"):
        raise EnsembleError(f"{target.name} is not in a format that can be written", hint="end it in .npz or .npy")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=".") as folder:
            work = Path(folder)
            inputs = _inputs(there, work)
            shapes = _outputs(ensemble, inputs, work, batch)
            if target.suffix == ".npy":
                shapes = {"calibrated": shapes["calibrated"]}
                os.replace(work / "calibrated.npy", target)
            else:
                if (work / "ids.npy").exists():
                    shapes["ids"] = np.load(work / "ids.npy", mmap_mode="r", allow_pickle=False).shape
                if ensemble.about.notes:
                    np.save(work / "notes.npy", np.array(ensemble.about.notes, dtype=np.str_))
                with zipfile.ZipFile(work / "whole.npz", "w", allowZip64=True) as archive:
                    for path in sorted(work.glob("*.npy")):
                        archive.write(path, path.name)
                os.replace(work / "whole.npz", target)
    except OSError as error:
        raise EnsembleError(f"{error.strerror}", where=str(error.filename or there)) from error
    return Predicted(target, len(inputs), shapes)


def _outputs(ensemble: Ensemble, inputs: npt.NDArray[Any], work: Path, batch: int | None) -> dict[str, tuple[int, ...]]:
    """Write each field of the predictions to a file in the folder `work`, batch by batch; return their shapes."""
    arrays: dict[str, np.memmap[Any, Any]] = {}
    done = 0
    for part in _served(ensemble, inputs, batch):
        for name, value in zip(Prediction._fields, part, strict=True):
            if name not in arrays:
                shape = (len(inputs), *value.shape[1:])
                arrays[name] = np.lib.format.open_memmap(work / f"{name}.npy", "w+", value.dtype, shape)
            arrays[name][done : done + len(value)] = value
        done += len(part[0])
    for array in arrays.values():
        array.flush()
    return {name: array.shape for name, array in arrays.items()}


def _served(ensemble: Ensemble, inputs: npt.NDArray[Any], batch: int | None) -> Iterator[list[npt.NDArray[Any]]]:
    numbers = max(1, int(np.prod(inputs.shape[1:])))
    size = batch or max(1, min(1024, BUDGET // (4 * 64 * ensemble.count * numbers)))
    for start in range(0, len(inputs), size):
        with torch.inference_mode():
            rows = ensemble.tensor(inputs[start : start + size]).to(ensemble.head.shift.device)
            yield [value.cpu().numpy() for value in ensemble(rows)]


def _inputs(path: Path, work: Path) -> npt.NDArray[Any]:
    """Return the inputs in a file, mapped from disk; those of an archive are unpacked into `work`, with its ids."""
    if path.suffix not in (".npz", ".npy"):
        raise EnsembleError(f"{path.name} is not an .npz or .npy file", where=str(path))
    if not path.is_file():  # reading a pipe would wait
        raise EnsembleError("it is not a file of inputs", where=str(path))
    try:
        plain = path
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                plain = Path(archive.extract(_entry(archive.namelist(), path), work / "inputs"))
                if "ids.npy" in archive.namelist():
                    np.load(archive.extract("ids.npy", work), mmap_mode="r", allow_pickle=False)
        array: npt.NDArray[Any] = np.load(plain, mmap_mode="r", allow_pickle=False)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise EnsembleError(f"it does not hold a complete array ({error})", where=str(path)) from error
    if array.dtype.kind not in "fiub" or array.ndim < 2 or not len(array):
        raise EnsembleError(
            f"inputs of shape {array.shape} and dtype {array.dtype} cannot be read row by row",
            where=str(path), hint="save numbers as (examples, ...)",
        )  # fmt: skip
    return array


def _entry(names: Sequence[str], path: Path) -> str:
    """Return the file in an archive that holds the inputs: `inputs`, `x`, or the only one besides the ids."""
    arrays = [name for name in names if name.endswith(".npy")]
    usual = [name for name in arrays if name in ("inputs.npy", "x.npy")]
    found = sorted(usual)[:1] or [name for name in arrays if name != "ids.npy"]
    if len(found) != 1:
        held = ", ".join(name.removesuffix(".npy") for name in arrays)
        raise EnsembleError(
            f"it has no array `inputs` or `x`; it holds {held or 'nothing'}", where=str(path),
            hint="write it with np.savez(file, inputs=...)",
        )  # fmt: skip
    return found[0]
