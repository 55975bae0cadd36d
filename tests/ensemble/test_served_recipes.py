"""Recipes of your own are served, predicted with and exported, whatever form their outputs have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sweep
from sweep.cli.app import main
from sweep.ensemble.gather import choose
from sweep.ensemble.load import Rows
from sweep.ensemble.predict import predict
from sweep.ensemble.program import export
from sweep.errors import ConfigError, EnsembleError, IntegrityError
from sweep.store import Store
from sweep.train.check import check

MODULE = """
import numpy as np
import torch
from torch import nn

import sweep

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(120, 6)).astype("float32")
Y = X @ DRAW.normal(size=(6, 3))
IMAGES = DRAW.normal(size=(120, 1, 4, 5)).astype("float32")
TOKENS = DRAW.integers(0, 11, (120, 7))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.embedding(x).cumsum(1))


class Half(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.inner = nn.Linear(inputs, outputs, dtype=torch.bfloat16)

    def forward(self, x):
        return self.inner(x.bfloat16()).float()


class Rich(nn.Module):
    def __init__(self, inputs, outputs, form):
        super().__init__()
        self.first, self.last, self.form = nn.Linear(inputs, 8), nn.Linear(8, outputs), form

    def forward(self, x):
        hidden = self.first(x).relu()
        logits = self.last(hidden)
        return {"plain": logits, "mapping": {"hidden": hidden, "logits": logits}, "tuple": (logits, None)}[self.form]


def mlp(data):
    return nn.Sequential(nn.Linear(data.inputs, 32), nn.ReLU(), nn.Linear(32, data.outputs))


def image(data):
    return nn.Conv2d(1, data.outputs, 3, padding=1)


def squares(outputs, targets):
    return (outputs - targets).square().mean()


def crossed(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)


KINDS = {
    "labels": (mlp, X, (Y > 0).astype("float32"), {"loss": "binary-cross-entropy"}),
    "values": (mlp, X, Y.astype("float32"), {"loss": "mse"}),
    "values of a loss of one's own": (mlp, X, Y.astype("float32"), {"loss": squares}),
    "pixels": (image, IMAGES, (IMAGES[:, 0] > 0).astype(int), {}),
    "pixels of a loss of one's own": (image, IMAGES, (IMAGES[:, 0] > 0).astype(int), {"loss": crossed}),
    "tied tokens": (lambda data: Tied(), TOKENS, np.roll(TOKENS, -1, 1), {"loss": "token-cross-entropy"}),
    "bf16": (mlp, X, Y.argmax(1), {"precision": "bf16"}),
    "weights in 16 bits": (lambda data: Half(data.inputs, data.outputs), X, Y.argmax(1), {}),
}


def rich(*, form: str) -> sweep.Recipe:
    return sweep.recipe(
        model=lambda data: Rich(data.inputs, data.outputs, form), data=sweep.data.arrays(X, Y.argmax(1)), epochs=1,
        augment=lambda inputs, keys: inputs * 2,
    )


def recipe(*, kind: str) -> sweep.Recipe:
    model, x, y, parts = KINDS[kind]
    data = sweep.data.arrays(x, y, normalise=x.dtype != np.int64)
    return sweep.recipe(model=model, data=data, epochs=1, **parts)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, unforked: None) -> Iterator[Path]:
    """One sweep with a variant for each kind of output."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "served_kinds.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        import served_kinds  # type: ignore[import-not-found]

        config = {"name": "served", "recipe": "served_kinds:recipe"}
        grid = {"params.kind": list(served_kinds.KINDS)}
        sweep.run(config, seeds=[0, 1], grid=grid, out=folder / "runs", engine="inline", on_event=lambda event: None)
        yield folder / "runs"
    del sys.modules["served_kinds"]


def of(runs: Path, kind: str) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Return the served ensemble of a kind, all raw inputs, and the ids and mean of what its members predicted."""
    kinds = sys.modules["served_kinds"].KINDS
    served = sweep.load_ensemble(runs, variant=f"kind={kind}", trust=True)
    store = Store.open(runs)
    stored = [store.predictions(one, "test") for _, one in choose(store, variant=f"kind={kind}").runs]
    assert all(one is not None for one in stored)
    means = [np.asarray(one.mean if one.probs is None else one.probs) for one in stored if one is not None]
    return served, kinds[kind][1], np.asarray(stored[0].ids), np.mean(means, axis=0)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "places", "formats"),
    [
        ("labels", (3,), ("pt2", "onnx")),
        ("values", (3,), ("onnx",)),
        ("values of a loss of one's own", (3,), ("pt2",)),  # served as `values` are
        ("pixels", (4, 5), ("onnx",)),
        ("pixels of a loss of one's own", (4, 5), ("pt2",)),
        ("tied tokens", (7,), ("pt2", "onnx")),
    ],
)
def test_several_outputs_of_an_example_are_served_as_predicted_and_exported(
    runs: Path, tmp_path: Path, kind: str, places: tuple[int, ...], formats: tuple[str, ...]
) -> None:
    served, inputs, ids, stored = of(runs, kind)
    found = predict(served, inputs)
    assert found["total"].shape == found["epistemic"].shape == (120, *places)
    assert (found["epistemic"] >= 0).all()
    # Tokens and pixels have ids of their own.
    mean = found["mean"] if found["mean"].shape == (120, *places) else found["mean"].reshape(-1, stored.shape[-1])
    assert mean[ids] == pytest.approx(stored, abs=1e-5)
    for each in formats:
        assert export(served, tmp_path / f"one.{each}", inputs[:9]).exists()


def test_a_label_is_served_with_the_entropies_of_yes_and_no(runs: Path) -> None:
    served, inputs, *_ = of(runs, "labels")
    with torch.no_grad():
        found, each = served(torch.from_numpy(inputs)), served.outputs(torch.from_numpy(inputs)).double().sigmoid()
    mean = each.mean(0)
    assert found.mean.numpy() == pytest.approx(mean.numpy(), abs=1e-6)
    entropy = torch.distributions.Bernoulli(probs=mean).entropy()
    inner = torch.distributions.Bernoulli(probs=each).entropy().mean(0)
    assert found.total.numpy() == pytest.approx(entropy.numpy(), abs=1e-6)
    assert found.aleatoric.numpy() == pytest.approx(inner.numpy(), abs=1e-6)


def test_a_recipe_in_bf16_is_served_and_other_weights_are_still_refused(runs: Path) -> None:
    served, inputs, ids, stored = of(runs, "bf16")
    assert predict(served, inputs)["mean"][ids] == pytest.approx(stored, abs=0.02)
    with pytest.raises(IntegrityError, match="does not reproduce its predictions"):
        sweep.load_ensemble(runs, variant="kind=bf16", trust=True, rows=Rows(ids, inputs[ids] + 1))


def test_weights_in_16_bits_are_exported_or_refused_by_name(runs: Path, tmp_path: Path) -> None:
    served, inputs, ids, stored = of(runs, "weights in 16 bits")
    assert predict(served, inputs)["mean"][ids] == pytest.approx(stored, abs=1e-3)
    assert export(served, tmp_path / "one.pt2", inputs[:9]).exists()
    with pytest.raises(EnsembleError, match="onnxruntime cannot run this model") as refused:
        export(served, tmp_path / "one.onnx", inputs[:9])
    assert "pt2" in str(refused.value.hint)
    assert not (tmp_path / "one.onnx").exists()


def test_a_file_is_predicted_for_several_labels(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "in.npy", sys.modules["served_kinds"].X[:5])
    out = tmp_path / "out.npy"
    words = ["predict", str(runs), str(tmp_path / "in.npy"), "--variant", "kind=labels", "--out", str(out), "--trust"]
    assert main(words) == 0, capsys.readouterr().err
    assert np.load(out).shape == (5, 3)


@pytest.mark.parametrize("vectorize", [0, 2])
def test_a_model_that_gives_a_mapping_or_a_tuple_trains_as_one_that_gives_its_logits(
    runs: Path, tmp_path: Path, vectorize: int
) -> None:
    config = {"name": "rich", "recipe": "served_kinds:rich", "vectorize": vectorize}
    grid = {"params.form": ["plain", "mapping", "tuple"]}
    done = sweep.run(
        config, seeds=[0, 1], grid=grid, out=tmp_path / "rich", engine="inline", on_event=lambda event: None
    )
    assert (done.frame["status"] == "ok").all()
    each = [
        sweep.load_ensemble(tmp_path / "rich", variant=f"form={form}", trust=True).state_dict()
        for form in grid["params.form"]
    ]
    for name, value in each[0].items():
        assert all(torch.equal(value, other[name]) for other in each), name


def test_a_model_that_gives_several_tensors_without_a_name_is_refused_before_it_starts(runs: Path) -> None:
    rich = sys.modules["served_kinds"].Rich

    class Two(rich):  # type: ignore[misc, valid-type]
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x), x

    kinds = sys.modules["served_kinds"]
    made = sweep.recipe(
        model=lambda data: Two(data.inputs, data.outputs, "plain"), data=sweep.data.arrays(kinds.X, kinds.Y.argmax(1))
    )
    with pytest.raises(ConfigError, match="its model returns a tuple with 2 tensors") as refused:
        check(made, "mine:recipe", "cpu")
    assert "logits" in str(refused.value.hint)
