"""An operation without a deterministic kernel stops the sweep, and its layer is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking import spec_of

from sweep.config import load
from sweep.job import Job
from sweep.plan import Cell, Plan
from sweep.store import Manifest, Store
from sweep.worker import here


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("unpool", "max_unpooling2d_forward_out has no deterministic kernel on cpu (layer 1.1.unpool (MaxUnpool1d), "
         "forward pass)"),
        ("put", "put_ has no deterministic kernel on cpu (backward pass)"),
    ],
)  # fmt: skip
def test_layer_operation_and_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = spec_of("planted:train", {"layer": layer})
    cell = Cell(variant="", task="", params=spec.params)
    plan = Plan(load(None, train="planted:train", deterministic=True), spec.target, (cell,), "cpu")
    store = Store.create(tmp_path / "out", Manifest("planted", {}, plan.experiment(), (42,)))
    assert here.train(store, (spec,), Job(str(store.path))) >= 0
    record = store.member(spec.key).record
    assert record is not None
    assert record.failure is not None
    assert record.failure.kind == "nondeterministic"
    assert record.failure.message.startswith(expected)
    assert "--fast" in record.failure.message
    assert ("set_detect_anomaly" in record.failure.message) == (layer == "put")
    assert Path("starts").read_text() == "42\n"  # nothing is trained again to name the layer
