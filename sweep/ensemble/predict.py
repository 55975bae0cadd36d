"""Predictions for a file of inputs, in batches, so that memory depends on the batch and not on the file."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch

from sweep.ensemble.serve import Ensemble, Prediction, as_inputs
from sweep.errors import EnsembleError

BUDGET = 64 << 20  # bytes of inputs and first outputs in flight; members multiply what a batch costs


@dataclass(frozen=True)
class Predicted:
    """What was written: examples, and the arrays by name with their shapes."""

    path: Path
    examples: int
    arrays: dict[str, tuple[int, ...]]


def predict(ensemble: Ensemble, inputs: npt.ArrayLike, *, batch: int | None = None) -> dict[str, npt.NDArray[Any]]:
    """Raw inputs (examples, *input_shape) to the fields of Prediction as arrays, batch by batch."""
    array = np.asanyarray(inputs)
    parts = [_served(ensemble, rows) for rows in _split(array, batch or _batch(ensemble, array.shape[1:]))]
    if not parts:
        raise EnsembleError("there are no inputs to predict", hint="give one example or more")
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(Prediction._fields)}


def predict_file(
    ensemble: Ensemble, source: str | os.PathLike[str], out: str | os.PathLike[str], *, batch: int | None = None
) -> Predicted:
    """Read raw inputs from `.npy` or `.npz` (its array `inputs` or `x`, or its only one) and write `out`.

    An `.npz` gets the fields of Prediction, `ids` when the source has them, and `notes` (sentences, such as which
    members are absent) when there are any; an `.npy` gets `calibrated` alone. Neither file is ever held in memory
    whole; `out` appears complete or not at all.
    Raises EnsembleError for files that are no arrays of inputs, or have the wrong shape.
    """
    there, target = Path(source), Path(out)
    if target.suffix not in (".npz", ".npy"):
        raise EnsembleError(f"{target.name} says no format that can be written", hint="end it in .npz or .npy")
    work = target.with_name(f".{secrets.token_hex(4)}.parts")
    try:
        with _opened(there) as (shape, dtype, stream):
            size = batch or _batch(ensemble, shape[1:])
            work.mkdir(parents=True)
            arrays: dict[str, np.memmap[Any, Any]] = {}
            done = 0
            for rows in _read(stream, shape, dtype, size, there):
                for name, value in zip(Prediction._fields, _served(ensemble, rows), strict=True):
                    if name not in arrays:
                        arrays[name] = np.lib.format.open_memmap(
                            work / f"{name}.npy", mode="w+", dtype=value.dtype, shape=(shape[0], *value.shape[1:])
                        )
                    arrays[name][done : done + len(rows)] = value
                done += len(rows)
        shapes = {name: array.shape for name, array in arrays.items()}
        for array in arrays.values():
            array.flush()
        if target.suffix == ".npy":
            shapes = {"calibrated": shapes["calibrated"]}
            os.replace(work / "calibrated.npy", target)
        else:
            shapes |= _zip(work, there, target, ensemble.about.notes)
    except OSError as error:
        raise EnsembleError(f"{error.strerror}", where=str(error.filename or there)) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Predicted(target, shape[0], shapes)


def _served(ensemble: Ensemble, rows: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    with torch.inference_mode():
        inputs = as_inputs(rows, wide=ensemble.wide).to(ensemble.head.shift.device)
        return [value.cpu().numpy() for value in ensemble(inputs)]


def _batch(ensemble: Ensemble, shape: tuple[int, ...]) -> int:
    return max(1, min(1024, BUDGET // (4 * 64 * ensemble.count * max(1, int(np.prod(shape))))))


def _split(array: npt.NDArray[Any], size: int) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(array), size):
        yield array[start : start + size]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[tuple[int, ...], np.dtype[Any], IO[bytes]]]:
    """The shape and dtype of the inputs in a file, and a stream that stands at their first value."""
    if path.suffix not in (".npz", ".npy"):
        raise EnsembleError(f"{path.name} is no .npz or .npy file", where=str(path))
    with contextlib.ExitStack() as stack:
        try:
            if path.suffix == ".npy":
                stream: IO[bytes] = stack.enter_context(path.open("rb"))
            else:
                archive = stack.enter_context(zipfile.ZipFile(path))
                stream = stack.enter_context(archive.open(_inputs(archive, path)))
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            raise EnsembleError(f"holds no array ({error})", where=str(path)) from error
        if (fortran and len(shape) > 1) or dtype.kind not in "fiub" or len(shape) < 2 or not shape[0]:
            order = " in Fortran order" if fortran else ""
            raise EnsembleError(
                f"inputs of shape {shape} and dtype {dtype}{order} cannot be read row by row",
                where=str(path),
                hint="save numbers as (examples, ...) in C order",
            )
        yield shape, dtype, stream


def _inputs(archive: zipfile.ZipFile, path: Path) -> str:
    names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    for usual in ("inputs", "x"):
        if usual in names:
            return f"{usual}.npy"
    others = [name for name in names if name != "ids"]
    if len(others) != 1:
        raise EnsembleError(
            f"has no array `inputs` or `x` but {', '.join(names) or 'none at all'}",
            where=str(path),
            hint="np.savez(file, inputs=...)",
        )
    return f"{others[0]}.npy"


def _read(
    stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], size: int, path: Path
) -> Iterator[npt.NDArray[Any]]:
    row = int(np.prod(shape[1:])) * dtype.itemsize
    for start in range(0, shape[0], size):
        count = min(size, shape[0] - start)
        data = stream.read(row * count)
        if len(data) != row * count:
            raise EnsembleError(f"ends within the example {start + len(data) // max(row, 1)}", where=str(path))
        yield np.frombuffer(data, dtype=dtype).reshape(count, *shape[1:])


def _zip(work: Path, source: Path, target: Path, notes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    draft = work / "whole.npz"
    extra: dict[str, tuple[int, ...]] = {}
    with zipfile.ZipFile(draft, "w", allowZip64=True) as archive:
        for name in Prediction._fields:
            archive.write(work / f"{name}.npy", f"{name}.npy")
        if notes:
            np.save(work / "notes.npy", np.array(notes, dtype=np.str_))
            archive.write(work / "notes.npy", "notes.npy")
        if source.suffix == ".npz":
            with zipfile.ZipFile(source) as given:
                if "ids.npy" in given.namelist():
                    archive.writestr("ids.npy", given.read("ids.npy"))
                    with np.load(source, allow_pickle=False) as arrays:
                        extra["ids"] = arrays["ids"].shape
    os.replace(draft, target)
    return extra
