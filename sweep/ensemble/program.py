"""A served ensemble as one file that needs neither this package nor its members: ONNX or torch.export."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sweep.ensemble.serve import Ensemble, Loop, Prediction
from sweep.errors import EnsembleError

TOLERANCE = 1e-5
SUFFIXES = {".onnx": "ONNX", ".pt2": "a torch.export program"}


def export(ensemble: Ensemble, path: str | os.PathLike[str], rows: npt.ArrayLike | Tensor) -> Path:
    """Write the ensemble to `path` (.onnx or .pt2) with a dynamic batch; outputs are the fields of Prediction.

    rows (2 or more, *input_shape): real raw inputs; the file is run on all of them and on the first alone,
    and kept only if every output equals that of the module. A file at `path` is replaced only at the end.
    Raises EnsembleError for another suffix, missing packages, an operation without translation, or a
    difference, with the output and its size.
    """
    target = Path(path)
    kind = SUFFIXES.get(target.suffix)
    if kind is None:
        raise EnsembleError(
            f"{target.name} is not in a format that can be written", hint=f"end it in {' or '.join(SUFFIXES)}"
        )
    inputs = ensemble.tensor(rows)
    if inputs.ndim < 2 or len(inputs) < 2:
        raise EnsembleError(
            f"rows of shape {tuple(inputs.shape)} cannot check an export", hint="give at least 2 raw inputs"
        )
    with torch.no_grad():
        ensemble(inputs.to(ensemble.head.shift.device))  # finds out in which dtype the members take these inputs
    if target.suffix == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            if importlib.util.find_spec(package) is None:
                raise EnsembleError(f"{package} is not installed", hint="pip install 'seed-sweep[onnx]'")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # If anything fails, no unverified file has this name.
        with TemporaryDirectory(dir=target.parent, prefix=".") as folder, _quiet():
            draft = Path(folder) / target.name
            program = _traced(ensemble, inputs, kind)
            write, run = (_write_onnx, _run_onnx) if target.suffix == ".onnx" else (_write_pt2, _run_pt2)
            write(program, draft, ensemble)
            for some in (inputs, inputs[:1]):
                _compare(run(draft, some), ensemble, some, target.name)
            os.replace(draft, target)
    except OSError as error:
        raise EnsembleError(f"it cannot be written ({error.strerror})", where=str(target)) from error
    return target


def describe(ensemble: Ensemble) -> dict[str, str]:
    """Return the content of the file besides the weights, as text."""
    about = ensemble.about
    return {
        "kind": about.kind,
        "members": json.dumps(list(about.labels)),
        "classes": json.dumps(list(about.classes)),
        "calibration": repr(about.temperature),
        "outputs": json.dumps(Prediction._fields),
        "notes": json.dumps(list(about.notes)),
    }


def _traced(ensemble: Ensemble, inputs: Tensor, kind: str) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    try:
        return torch.export.export(Loop(ensemble), (inputs,), dynamic_shapes={"inputs": {0: batch}})
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise EnsembleError(
            f"this model cannot be exported as {kind}: {first}",
            hint="write a forward that does not depend on values or on the size of the batch",
        ) from error


def _write_onnx(program: torch.export.ExportedProgram, path: Path, ensemble: Ensemble) -> None:
    try:
        made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=["inputs"])
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise EnsembleError(
            f"this model cannot be translated to ONNX: {first}", hint="export it to a .pt2 file instead"
        ) from error
    assert made is not None
    import onnx_ir

    graph = made.model.graph
    # Values are named after operations, so one of them may already have the name of an output.
    for index, value in enumerate(value for node in graph for value in node.outputs):
        value.name = f"v{index}"
    for value, name in zip(graph.outputs, Prediction._fields, strict=True):
        value.name = name
    for value in (*graph.inputs, *graph.outputs):
        assert value.shape is not None
        value.shape = onnx_ir.Shape(["batch", *value.shape[1:]])
    made.model.metadata_props.update(describe(ensemble))
    made.save(str(path), external_data=False)


def _run_onnx(path: Path, inputs: Tensor) -> Sequence[npt.NDArray[Any]]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes are private
        raise EnsembleError(
            f"onnxruntime cannot run this model: {str(error).strip().splitlines()[0]}",
            hint="export it to a .pt2 file instead",
        ) from error
    found: Sequence[npt.NDArray[Any]] = session.run(list(Prediction._fields), {"inputs": inputs.numpy()})
    return found


def _write_pt2(program: torch.export.ExportedProgram, path: Path, ensemble: Ensemble) -> None:
    torch.export.save(program, str(path), extra_files={"about.json": json.dumps(describe(ensemble))})


def _run_pt2(path: Path, inputs: Tensor) -> Sequence[npt.NDArray[Any]]:
    with torch.no_grad():
        found = torch.export.load(str(path)).module()(inputs)
    return [one.detach().numpy() for one in found]


def _compare(found: Sequence[npt.NDArray[Any]], ensemble: Ensemble, inputs: Tensor, name: str) -> None:
    with torch.no_grad():
        expected = ensemble(inputs.to(ensemble.head.shift.device))
    for field, mine, wanted in zip(Prediction._fields, found, expected, strict=True):
        reference = wanted.cpu().numpy()
        scale = max(1.0, float(np.abs(reference).max()))
        off = float(np.abs(mine - reference).max()) if mine.shape == reference.shape else float("inf")
        if not off <= TOLERANCE * scale:
            raise EnsembleError(
                f"the exported {field} differs by {off:.2g} from the module's on {len(inputs)} rows; "
                f"{name} was not kept",
                hint="export in the other format, or serve with load_ensemble",
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters, which warn about their own internals."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
