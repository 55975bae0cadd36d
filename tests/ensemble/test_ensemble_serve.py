"""Members served as one module, from a real run directory, exported and run by onnxruntime."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from predicted import classes, values
from torch import nn

import sweep
from sweep.ensemble import assess
from sweep.ensemble.assess import entropy_split, variance_split
from sweep.ensemble.gather import choose, matched
from sweep.ensemble.load import Rows, load_ensemble
from sweep.ensemble.predict import predict, predict_file
from sweep.ensemble.program import export
from sweep.ensemble.serve import SMALL, About, Ensemble, Loop, Prediction, by_pixel
from sweep.errors import EnsembleError, IntegrityError
from sweep.store import Store

pytestmark = pytest.mark.usefixtures("unforked")


def gather(store: Store, split: str = "test", *, allow_missing: bool = False, **chosen: Any) -> Any:
    return matched(store, choose(store, **chosen), split, allow_missing)


class Echo(nn.Module):
    """Answers logits it was built with, whatever the input: a member whose outputs are known."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.as_tensor(outputs, dtype=torch.float64))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.outputs[: inputs.shape[0]]


class Stubborn(nn.Linear):
    """Branches on a value, which vmap refuses."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out = super().forward(inputs)
        return out if bool((out.sum() > -1e9).item()) else -out


def networks(count: int = 4, seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    made = []
    for _ in range(count):
        one = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(64, 3),
        )
        one(torch.randn(32, 1, 4, 4))  # running statistics that differ
        made.append(one.eval())
    return made


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small classifiers on a slice of digits, trained by the real thing."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    config = {
        "name": "tiny", "recipe": "sweep.train.recipes:classifier",
        "params": {
            "data": {"name": "digits", "limit": 300}, "model": {"hidden": [16], "batch_norm": True}, "epochs": 4,
        },
    }  # fmt: skip
    sweep.run(config, seeds=[3, 1, 2], out=out, engine="inline", on_event=lambda event: None)
    return out


def images(ids: np.ndarray) -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().images.astype(np.float32)[ids]


def test_all_at_once_equals_the_members_one_by_one():
    modules = networks()
    about = About(input_shape=(1, 4, 4), mean=(0.5,), std=(2.0,), temperature=1.7)
    ensemble = Ensemble(modules, about)
    x = torch.randn(6, 1, 4, 4)
    with torch.no_grad():
        logits = torch.stack([one((x - 0.5) / 2.0) for one in modules]).double()
        found = ensemble(x)
    probs = logits.softmax(-1).numpy()
    expected = entropy_split(probs)
    mean = probs.mean(0)
    assert found.mean.numpy() == pytest.approx(mean, abs=1e-6)
    tempered = np.exp(np.log(mean) / 1.7)
    assert found.calibrated.numpy() == pytest.approx(tempered / tempered.sum(1, keepdims=True), abs=1e-6)
    assert found.total.numpy() == pytest.approx(expected.total, abs=1e-6)
    assert found.aleatoric.numpy() == pytest.approx(expected.aleatoric, abs=1e-6)
    assert found.epistemic.numpy() == pytest.approx(expected.epistemic, abs=1e-6)
    assert ensemble.form == "stacked"


def test_large_batches_give_what_small_ones_give():
    ensemble = Ensemble(networks())
    rows = SMALL // 16 + 40
    x = torch.randn(rows, 1, 4, 4)
    small = torch.cat([ensemble(part).mean for part in x.split(8)])
    assert ensemble(x).mean.numpy() == pytest.approx(small.numpy(), abs=1e-6)


class Viewed(nn.Module):
    """A convolution whose features are viewed as rows, which only one layout in memory allows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(2, 3, 3)

    def forward(self, x):
        return self.inner(x).view(len(x), -1)


@pytest.mark.parametrize("channels", [1, 2])
def test_images_are_looped_by_pixel_and_come_out_the_same(channels):
    torch.manual_seed(0)
    modules = [nn.Sequential(nn.Conv2d(channels, 3, 3), nn.MaxPool2d(2), nn.Flatten()) for _ in range(3)]
    x = torch.randn(SMALL // 36 + 1, channels, 6, 6)
    assert by_pixel(x).stride() == (36 * channels, 1, 6 * channels, channels)
    assert torch.equal(by_pixel(x), x)
    with torch.no_grad():
        plain = torch.stack([one(x) for one in modules])
    assert Ensemble(modules).outputs(x).numpy() == pytest.approx(plain.numpy(), abs=1e-6)


def test_a_module_that_needs_the_usual_layout_gets_it():
    torch.manual_seed(0)
    modules = [Viewed() for _ in range(3)]
    ensemble, x = Ensemble(modules), torch.randn(SMALL // 18 + 1, 2, 3, 6)
    with torch.no_grad(), pytest.raises(RuntimeError, match="view"):
        modules[0](by_pixel(x))
    with torch.no_grad():
        plain = torch.stack([one(x) for one in modules])
    assert ensemble.outputs(x).numpy() == pytest.approx(plain.numpy(), abs=1e-6)


def test_dropout_and_batch_norm_stay_in_evaluation_mode():
    ensemble = Ensemble([one.train() for one in networks()])
    x = torch.randn(5, 1, 4, 4)
    before = ensemble(x).mean
    assert ensemble.train()(x).mean.tolist() == before.tolist()
    assert not ensemble.training


def test_a_module_that_vmap_refuses_runs_as_a_loop():
    modules = [Stubborn(4, 3).eval() for _ in range(3)]
    ensemble = Ensemble(modules)
    x = torch.randn(5, 4)
    expected = torch.stack([one(x).double().softmax(-1) for one in modules]).mean(0)
    assert ensemble(x).mean.detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-6)
    assert ensemble.form == "loop"
    assert ensemble.refusal
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Ensemble(modules)(torch.randn(5, 7))


def test_the_form_survives_an_input_that_was_wrong():
    ensemble = Ensemble(networks())
    with pytest.raises(RuntimeError):
        ensemble(torch.randn(2, 3, 4, 4))
    assert ensemble.form == "stacked"


def test_confident_members_make_no_nan():
    ensemble = Ensemble([Echo([[1e4, 0.0]]), Echo([[0.0, 1e4]])])
    found = ensemble(torch.zeros(1, 2))
    assert found.mean.tolist() == [[0.5, 0.5]]
    assert found.epistemic.item() == pytest.approx(np.log(2), abs=1e-6)
    assert found.aleatoric.item() == 0
    same = Ensemble([Echo([[1e4, 0.0]])] * 2)(torch.zeros(1, 2))
    assert all(torch.isfinite(part).all() for part in same)


def test_regression_is_the_gaussian_mixture():
    mean, var, _ = values(3, 5)
    raw = np.stack([(mean - 10) / 4, np.log(var / 16)], axis=-1)
    about = About(kind="regression", variance="predicted", target_mean=10.0, target_std=4.0, temperature=2.0)
    found = Ensemble([Echo(one) for one in raw], about)(torch.zeros(5, 2))
    expected = variance_split(mean, var)
    assert found.mean.numpy() == pytest.approx(mean.mean(0), rel=1e-5, abs=1e-5)
    assert found.aleatoric.numpy() == pytest.approx(expected.aleatoric, rel=1e-5)
    assert found.epistemic.numpy() == pytest.approx(expected.epistemic, rel=1e-4, abs=1e-6)
    assert found.calibrated.numpy() == pytest.approx(2 * expected.aleatoric + expected.epistemic, rel=1e-5)
    residual = replace(about, variance="residual", residual=(1.0, 2.0, 3.0))
    assert Ensemble([Echo(one) for one in raw], residual)(torch.zeros(5, 2)).aleatoric.tolist() == [2.0] * 5


def test_the_loop_follows_the_weights_it_looks_into():
    ensemble, other = Ensemble(networks()), Ensemble(networks(seed=1))
    x = torch.randn(SMALL, 1, 4, 4)
    with torch.inference_mode():
        small = ensemble(x[:2]).mean  # by one call for all, the weights stacked
    before = ensemble(x).mean
    ensemble.load_state_dict(other.state_dict())
    assert torch.equal(ensemble(x).mean, other(x).mean)
    assert torch.equal(ensemble(x[:2]).mean, other(x[:2]).mean)
    assert not torch.equal(ensemble(x[:2]).mean, small)
    twin = copy.deepcopy(ensemble)
    twin.load_state_dict(Ensemble(networks(seed=2)).state_dict())
    assert not torch.equal(twin(x[:2]).mean, ensemble(x[:2]).mean)
    assert torch.equal(ensemble(x[:2]).mean, other(x[:2]).mean)
    assert not torch.equal(ensemble(x).mean, before)
    assert ensemble.double().outputs(x).dtype == torch.float64


def test_the_members_come_back_as_they_were():
    modules = networks()
    for before, after in zip(modules, Ensemble(modules).members(), strict=True):
        for name, value in before.state_dict().items():
            assert torch.equal(value, after.state_dict()[name])


def test_other_architectures_and_other_inputs_are_refused():
    with pytest.raises(EnsembleError, match="the weights of member 1 differ in name or shape"):
        Ensemble([nn.Linear(2, 3), nn.Linear(2, 4)])
    with pytest.raises(EnsembleError, match="there is no member to serve"):
        Ensemble([])
    ensemble = Ensemble(networks(), About(input_shape=(1, 4, 4)))
    with pytest.raises(EnsembleError, match=r"inputs of shape \(batch, 1, 4, 4\), not \(2, 5, 5\)") as refused:
        ensemble(torch.zeros(2, 5, 5))
    assert refused.value.hint == "reshape the array before you save it"
    assert ensemble(torch.zeros(2, 4, 4)).mean.shape == (2, 3)  # images stored without their only channel


def test_a_directory_is_served_as_it_predicted(directory):
    ensemble = sweep.load_ensemble(directory)
    members = gather(Store.open(directory))
    assert ensemble.about.labels == ("seed1", "seed2", "seed3")
    assert ensemble.about.classes == tuple("0123456789")
    found = predict(ensemble, images(members.ids), batch=17)
    assert found["mean"] == pytest.approx(members.probs.mean(0), abs=1e-5)
    split = entropy_split(members.probs)
    assert found["epistemic"] == pytest.approx(split.epistemic, abs=1e-5)
    judged = assess(members, val=gather(Store.open(directory), "val"), calibrated=True)
    assert ensemble.about.temperature == judged.calibration.served
    assert found["calibrated"] == pytest.approx(judged.probs, abs=1e-5)


def test_members_can_be_chosen_and_the_order_does_not_matter(directory):
    members = gather(Store.open(directory), members=["seed3", 1])
    assert members.labels == ("seed1", "seed3")
    assert load_ensemble(directory, members=[3, 1]).about.labels == ("seed1", "seed3")
    with pytest.raises(EnsembleError, match="no member 'seed9' is planned here") as refused:
        gather(Store.open(directory), members=[9])
    assert refused.value.hint == "choose among seed1, seed2, seed3"


def test_members_that_do_not_repeat_their_predictions_are_refused(directory):
    ids = gather(Store.open(directory)).ids
    load_ensemble(directory, rows=Rows(ids, images(ids)))
    broken = r"seed1 does not reproduce its predictions for test: its probs differs by"
    with pytest.raises(IntegrityError, match=broken) as refused:
        load_ensemble(directory, rows=Rows(ids, images(ids) + 1.0))
    assert refused.value.exit_code == 3  # a promise about bits on disk is broken, not a command mistyped
    with pytest.raises(EnsembleError, match="none of the 3 rows has an id that seed1 predicted for test"):
        load_ensemble(directory, rows=Rows(np.array([-1, -2, -3]), images(ids[:3])))


def test_altered_weights_are_refused(directory, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    weights = next((copy / "members" / "seed1").glob("attempt-*/model.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match="its content is not what was recorded"):
        load_ensemble(copy)


def test_a_missing_member_needs_the_flag_and_is_said(directory, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    shutil.rmtree(copy / "members" / "seed2")
    with pytest.raises(EnsembleError, match=r"there are no stored models of seed2 \(pending\)"):
        load_ensemble(copy)
    with pytest.raises(EnsembleError, match=r"there are no predictions for test of seed2 \(pending\)"):
        gather(Store.open(copy))
    ensemble = load_ensemble(copy, allow_missing=True)
    assert ensemble.about.notes == ("built without seed2 (pending)",)
    assert gather(Store.open(copy), allow_missing=True).missing == (("seed2", "pending"),)


def test_splits_and_variants_that_are_not_there(directory):
    with pytest.raises(EnsembleError, match="no finished run has predictions for 'shifted'") as refused:
        gather(Store.open(directory), "shifted")
    assert refused.value.hint == "choose one with --split: test, val"
    with pytest.raises(EnsembleError, match="no variant 'wide' is here"):
        choose(Store.open(directory), variant="wide")


def of_a_function(run, *, width=5):
    torch.manual_seed(run.seed)
    module = nn.Linear(3, width)
    inputs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    with torch.no_grad():
        probs = module(torch.from_numpy(inputs)).softmax(-1)
    run.save_predictions("test", ids=np.arange(20), targets=np.arange(20) % width, probs=probs)
    run.save_model(module)
    return {"test/accuracy": 0.5}


def test_models_of_a_function_need_build_and_rows_to_be_checked(tmp_path):
    sweep.run(of_a_function, seeds=[0, 1], out=tmp_path / "f", engine="inline", on_event=lambda event: None)
    with pytest.raises(EnsembleError, match="no code is taken from a run directory") as refused:
        load_ensemble(tmp_path / "f")
    assert "build=" in refused.value.hint
    inputs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    rows = Rows(np.arange(20), inputs)
    ensemble = load_ensemble(tmp_path / "f", build=lambda params: nn.Linear(3, params["width"]), rows=rows)
    assert ensemble.about.kind == "classification"
    assert ensemble.about.notes == ("not calibrated: no predictions for val are stored",)
    with pytest.warns(UserWarning, match="not checked against their predictions for test"):
        load_ensemble(tmp_path / "f", build=lambda params: nn.Linear(3, 5))
    with pytest.raises(EnsembleError, match="the weights of seed0 do not fit the module: bias differs"):
        load_ensemble(tmp_path / "f", build=lambda params: nn.Linear(3, 6))


def test_a_file_is_predicted_in_batches_and_keeps_its_ids(directory, tmp_path):
    ensemble = load_ensemble(directory)
    rows = images(np.arange(50))
    expected = predict(ensemble, rows)
    np.savez(tmp_path / "in.npz", x=rows.astype(np.uint8), ids=np.arange(50) + 7)
    told = predict_file(ensemble, tmp_path / "in.npz", tmp_path / "out.npz", batch=16)
    assert told.examples == 50
    with np.load(tmp_path / "out.npz") as out:
        assert out["ids"].tolist() == list(range(7, 57))
        for name in Prediction._fields:
            assert out[name] == pytest.approx(expected[name], abs=1e-6)
    np.save(tmp_path / "in.npy", rows)
    predict_file(ensemble, tmp_path / "in.npy", tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy") == pytest.approx(expected["calibrated"], abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "in.npz", "out.npy", "out.npz"]


def test_files_that_are_no_inputs_are_refused_and_leave_nothing(directory, tmp_path):
    ensemble = load_ensemble(directory)
    out = tmp_path / "out.npz"
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 64)), b=np.zeros((2, 64)))
    np.save(tmp_path / "flat.npy", np.zeros(64))
    np.save(tmp_path / "shape.npy", np.zeros((3, 63)))
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no array")
    whole = tmp_path / "whole.npy"
    np.save(whole, np.zeros((9, 1, 8, 8)))
    (tmp_path / "torn.npy").write_bytes(whole.read_bytes()[:-100])
    for name, message in {
        "two.npz": "has no array `inputs` or `x`; it holds a, b",
        "flat.npy": r"inputs of shape \(64,\)",
        "shape.npy": r"not \(3, 63\)",
        "objects.npy": "does not hold a complete array",
        "text.npy": "does not hold a complete array",
        "torn.npy": "does not hold a complete array",
        "gone.npy": "is not a file of inputs",
        "in.csv": r"in.csv is not an \.npz or \.npy file",
    }.items():
        with pytest.raises(EnsembleError, match=message):
            predict_file(ensemble, tmp_path / name, out)
        assert not out.exists()
    with pytest.raises(EnsembleError, match="not in a format"):
        predict_file(ensemble, whole, tmp_path / "out.csv")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_onnx_gives_the_same_probabilities_at_two_batch_sizes(directory, tmp_path):
    import onnx
    import onnxruntime

    ensemble = load_ensemble(directory)
    rows = images(np.arange(40))[:, None]
    path = export(ensemble, tmp_path / "ensemble.onnx", rows)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, 8, 8]
    assert [one.name for one in session.get_outputs()] == list(Prediction._fields)
    for size in (1, 40):
        expected = predict(ensemble, rows[:size])
        found = session.run(None, {"inputs": rows[:size]})
        for name, value in zip(Prediction._fields, found, strict=True):
            assert value == pytest.approx(expected[name], abs=1e-5)
    told = {one.key: one.value for one in onnx.load(path).metadata_props}
    assert json.loads(told["members"]) == ["seed1", "seed2", "seed3"]
    assert json.loads(told["classes"]) == list("0123456789")
    assert float(told["calibration"]) == ensemble.about.temperature


def test_a_torch_program_gives_the_same_and_has_a_dynamic_batch(tmp_path):
    ensemble = Ensemble(networks(), About(input_shape=(1, 4, 4), temperature=0.5))
    rows = torch.randn(6, 1, 4, 4)
    path = export(ensemble, tmp_path / "ensemble.pt2", rows)
    loaded = torch.export.load(str(path)).module()
    for size in (1, 3, 6):
        for mine, its in zip(loaded(rows[:size]), ensemble(rows[:size]), strict=True):
            assert mine.detach().numpy() == pytest.approx(its.numpy(), abs=1e-5)


def test_an_export_that_differs_is_not_kept(tmp_path, monkeypatch):
    ensemble = Ensemble(networks())
    rows = torch.randn(4, 1, 4, 4)
    (tmp_path / "ensemble.pt2").write_text("what was there")
    plain = Loop.forward
    monkeypatch.setattr(Loop, "forward", lambda self, inputs: plain(self, inputs * 1.1))
    with pytest.raises(EnsembleError, match=r"the exported mean differs by .* ensemble\.pt2 was not kept"):
        export(ensemble, tmp_path / "ensemble.pt2", rows)
    assert [path.name for path in tmp_path.iterdir()] == ["ensemble.pt2"]
    assert (tmp_path / "ensemble.pt2").read_text() == "what was there"


def test_a_model_that_cannot_be_exported_says_so(tmp_path):
    ensemble = Ensemble([Stubborn(4, 3) for _ in range(2)])
    with pytest.raises(EnsembleError, match=r"this model cannot be exported as a torch\.export program"):
        export(ensemble, tmp_path / "e.pt2", torch.randn(3, 4))
    with pytest.raises(EnsembleError, match=r"e\.bin is not in a format that can be written") as refused:
        export(ensemble, tmp_path / "e.bin", torch.randn(3, 4))
    assert refused.value.hint == "end it in .onnx or .pt2"
    with pytest.raises(EnsembleError, match="cannot check an export"):
        export(ensemble, tmp_path / "e.pt2", torch.randn(1, 4))


def test_probabilities_of_an_echo_are_those_of_the_formulas():
    probs, _ = classes(3, 4, 5)
    found = Ensemble([Echo(np.log(one)) for one in probs])(torch.zeros(4, 2))
    assert found.mean.numpy() == pytest.approx(probs.mean(0), abs=1e-6)


def far_away(folder: Path, offset: float) -> tuple[Path, np.ndarray, list[float]]:
    """Three classifiers of a table with an offset in all but its last column; its inputs, and their accuracies."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(400, 5))
    y = (x[:, 0] > 0).astype(int)
    x[:, :4] += offset
    np.savez(folder / "d.npz", x=x, y=y)
    config = {
        "name": "far", "recipe": "sweep.train.recipes:classifier",
        "params": {"data": {"name": "npz", "path": str(folder / "d.npz")}, "model": {"hidden": [32]}, "epochs": 20},
    }  # fmt: skip
    out = folder / "o"
    sweep.run(config, seeds=[1, 2, 3], out=out, engine="inline", on_event=lambda event: None)
    records = [json.loads(path.read_text()) for path in out.glob("members/**/record.json")]
    return out, x, [record["metrics"]["test/accuracy"] for record in records]


def test_an_offset_costs_no_accuracy_and_is_served(tmp_path):
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
    _, _, near = far_away(tmp_path / "near", 0.0)
    out, x, far = far_away(tmp_path / "far", 1.7e9)
    assert len(near) == len(far) == 3
    assert abs(np.mean(near) - np.mean(far)) < 0.05
    served = load_ensemble(out)  # checked against the stored predictions
    stored = [Store.open(out).predictions(one, "test") for _, one in choose(Store.open(out)).runs]
    mean = np.mean([one.probs for one in stored], axis=0)
    rows = x[stored[0].ids]
    assert np.allclose(predict(served, rows)["mean"], mean, atol=1e-4)
    rounded = predict(served, rows.astype(np.float32))["mean"]  # negative control
    assert not np.allclose(rounded, mean, atol=1e-2)
    np.savez(tmp_path / "rows.npz", inputs=rows)
    predict_file(served, tmp_path / "rows.npz", tmp_path / "said.npz")
    with np.load(tmp_path / "said.npz") as said:
        assert np.allclose(said["mean"], mean, atol=1e-4)
    export(served, tmp_path / "far.pt2", rows[:8])
