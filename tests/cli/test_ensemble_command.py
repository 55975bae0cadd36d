"""`sweep ensemble` and `sweep predict`: ten digits seeds become one model, and members that do not fit are refused."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from finished import failure, sweep_of
from predicted import classes, values
from sklearn.datasets import load_digits

mpl.use("Agg")

import sweep
from sweep.cli.app import main
from sweep.errors import EnsembleError, TargetError
from sweep.report import ensemble_figures as figures
from sweep.store import Predictions, predictions

pytestmark = pytest.mark.usefixtures("unforked")

TEN = {"name": "ten", "params": {"data": {"name": "digits", "limit": 500}, "model": {"hidden": [24]}, "epochs": 6}}


@pytest.fixture(scope="session")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "ten"
    config = {"recipe": "sweep.train.recipes:classifier", **TEN}
    sweep.run(config, seeds=range(10), out=out, engine="inline", on_event=lambda event: None)
    return out


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return load_digits().images.astype(np.float32)


def made_up(path, *, seeds=range(4), change=lambda seed, split, given: given, splits=("test", "val"), failed=()):
    """Members of which `change` may spoil what they saved."""
    splits = {name: classes(max(seeds) + 1, 60, 3, seed=i) for i, name in enumerate(splits)}

    def outcome(spec):
        if spec.seed in failed:
            return {"failure": failure("diverged", "nan")}
        given = {
            name: change(spec.seed, name, {"ids": np.arange(60), "targets": targets, "probs": probs[spec.seed]})
            for name, (probs, targets) in splits.items()
        }
        kept = {name: Predictions(**arrays) for name, arrays in given.items() if arrays is not None}
        return {"metrics": {"test/accuracy": 0.8}, "predictions": kept, "digests": {}}

    sweep_of(path, outcome, seeds=seeds)
    return str(path)


def spoiled(seed, name, values):
    return lambda its, split, given: given | {name: values(given[name])} if (its, split) == (seed, "test") else given


def strings(found):
    if isinstance(found, str):
        return [found]
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return [text for part in parts for text in strings(part)]


def flat(text):
    return re.sub(r"\s+", " ", text)


def test_ten_seeds_give_the_table_with_the_calibrated_difference_and_its_interval(ten, capsys):
    assert main(["ensemble", str(ten), "--margin", "0.01"]) == 0
    out = flat(capsys.readouterr().out)
    assert out.startswith("ten: an ensemble of 10 members on test, 450 examples The calibrated ensemble is better than")
    one = next(d for d in sweep.open(ten).ensemble().assessment.differences if d.metric == "nll")
    assert one.calibrated
    low, high = one.examples
    said = re.search(r"against \S+ (\S+) \(95 % CI (\S+) to (\S+) over examples", out)
    assert [float(text) for text in said.groups()] == pytest.approx([one.value, low, high], abs=(high - low) / 40)
    assert "over examples, given these members" in out
    assert "chosen after the fact" in out
    assert "1.54 sd" in out
    assert "by construction" in out
    assert "delete-one jackknife, these test examples" in out
    assert "of 10 are enough to stay within 0.01 of all 10 in NLL" in out
    assert f"next sweep ensemble {ten} --calibrate --export ensemble.pt2" in out


def test_json_has_the_numbers_of_python_and_markdown_the_same_tables(ten, capsys):
    worth = sweep.open(ten).ensemble(calibrate=True, margin={"accuracy": 0.01})
    assert main(["ensemble", str(ten), "--calibrate", "--margin", "accuracy=0.01", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["members"] == [f"seed{seed}" for seed in range(10)]
    assert (found["calibration"]["fitted_on"], found["calibration"]["folds"]) == ("val", 0)
    assert not [text for text in strings(found) if text.count(" ") > 2], "words are for reports"
    assert found["best_inflation_sd"] == pytest.approx(1.5388, abs=1e-4)
    assert found["enough"] == [{"metric": "accuracy", "margin": 0.01, "members": worth.enough[0][2]}]
    by = {row["metric"]: row for row in found["scores"]}
    assert by["nll"]["ensemble"] == worth.scores.loc["nll", "ensemble"]
    assert main(["ensemble", str(ten), "--format", "md"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("## ten: an ensemble of 10 members")
    assert "|  | ensemble | members | difference | 95 % CI, examples | 95 % CI, seeds |" in out


def test_the_frame_has_a_row_an_example_and_its_parts_add_up(ten):
    worth = sweep.open(ten).ensemble()
    frame = worth.frame
    assert list(frame)[:3] == ["id", "target", "prediction"]
    assert list(frame)[-4:] == ["total", "aleatoric", "epistemic", "variation_ratio"]
    assert len(frame) == 450
    assert np.abs(frame["total"] - frame["aleatoric"] - frame["epistemic"]).max() < 1e-12
    assert frame[[f"p{k}" for k in range(10)]].sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert frame["prediction"].eq(frame["target"]).mean() == worth.scores.loc["accuracy", "ensemble"]
    assert repr(worth).startswith("ten: an ensemble of 10 members")


def test_the_order_of_members_never_changes_a_byte(ten, capsys):
    said = []
    for members in (["7,3,5,9"], ["9", "5,3", "seed7"], ["3,5", "7-7,9"]):
        options = [word for one in members for word in ("--members", one)]
        assert main(["ensemble", str(ten), "--json", *options]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]
    assert main(["ensemble", str(ten), "--json", "--members", "7,3,5"]) == 0
    assert capsys.readouterr().out != said[0]


def test_the_onnx_file_runs_elsewhere_to_the_same_probabilities_at_two_batch_sizes(ten, images, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "ten.onnx"
    assert main(["ensemble", str(ten), "--calibrate", "--export", str(path)]) == 0
    said = capsys.readouterr()
    assert f"wrote {path}: 10 members" in said.err
    assert re.search("next +sweep predict", said.out)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    served = sweep.load_ensemble(ten)
    frame = sweep.open(ten).ensemble(calibrate=True).frame.set_index("id")
    probs = frame.loc[:, "p0":"p9"]
    for ids in (probs.index[:1], probs.index[:100]):
        mean, calibrated = session.run(["mean", "calibrated"], {"inputs": images[ids][:, None]})
        assert mean == pytest.approx(served(torch.from_numpy(images[ids])).mean.numpy(), abs=1e-5)
        assert calibrated == pytest.approx(probs.loc[ids].to_numpy(), abs=1e-5)


def test_predict_serves_a_file_in_batches(ten, images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = sweep.open(ten).ensemble(calibrate=True).frame
    ids = frame["id"].to_numpy()
    np.savez("in.npz", inputs=images[ids], ids=ids)
    assert main(["predict", str(ten), "in.npz", "--out", "out.npz", "--batch", "7"]) == 0
    out = capsys.readouterr().out
    assert "wrote out.npz: 450 examples, 10 members; mean (450, 10)" in out
    assert "next: python -c" in out
    with np.load("out.npz") as found:
        assert found["ids"].tolist() == ids.tolist()
        assert found["calibrated"] == pytest.approx(frame.loc[:, "p0":"p9"].to_numpy(), abs=1e-5)
        assert found["epistemic"] == pytest.approx(frame["epistemic"].to_numpy(), abs=1e-5)
    np.save("in.npy", images[:3])
    assert main(["predict", str(ten), "in.npy", "--out", "out.npy", "--members", "1,2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["members"] == ["seed1", "seed2"]
    assert np.load("out.npy").shape == (3, 10)
    assert main(["predict", str(ten), "gone.npy", "--out", "out.npy"]) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (spoiled(2, "ids", lambda ids: ids + 1), r"seed2 and seed0 have different examples in test: seed2 lacks 0"),
        (
            spoiled(2, "targets", lambda t: (t + (np.arange(60) == 7)) % 3),
            "seed2 has a different target .* for the example 7",
        ),
        (spoiled(2, "probs", lambda p: p[:, :2] / p[:, :2].sum(1, keepdims=True)), r"seed2: probs \(60, 2\)"),
        (spoiled(2, "probs", lambda p: np.log(p)), "seed2 .*(row|example)"),
        (spoiled(2, "probs", lambda p: p * np.where(np.arange(60) == 9, 0.9, 1)[:, None]), "seed2 .*9"),
        (spoiled(2, "probs", lambda p: p + np.where(np.arange(60) == 9, np.nan, 0)[:, None]), "seed2 .*9"),
    ],
    ids=["ids", "targets", "classes", "logits", "sums", "nan"],
)
def test_members_that_do_not_fit_are_refused_by_name_and_row(tmp_path, capsys, change, said):
    assert main(["ensemble", made_up(tmp_path / "d", change=change)]) == 2
    stopped = capsys.readouterr()
    assert re.search(said, stopped.err)
    assert stopped.out == ""


def test_rows_in_another_order_are_matched_by_id(tmp_path, capsys):
    def shuffled(seed, split, given):
        order = np.random.default_rng(seed).permutation(60)
        return {name: array[order] for name, array in given.items()}

    outputs = []
    for name, change in (("a", lambda seed, split, given: given), ("b", shuffled)):
        assert main(["ensemble", made_up(tmp_path / name, change=change), "--json"]) == 0
        outputs.append({**json.loads(capsys.readouterr().out), "directory": ""})
    assert outputs[0] == outputs[1]


def test_absent_members_need_leave_and_every_output_says_so(tmp_path, capsys):
    path = made_up(tmp_path / "d", failed={1})
    assert main(["ensemble", path]) == 2
    assert "seed1 (failed: diverged)" in capsys.readouterr().err
    note = "built without seed1 (failed: diverged)"
    for format_ in ("text", "md"):
        assert main(["ensemble", path, "--allow-missing", "--format", format_]) == 0
        assert note in flat(capsys.readouterr().out)
    assert main(["ensemble", path, "--allow-missing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == [{"member": "seed1", "reason": "failed: diverged"}]
    made = sweep.open(path).ensemble(allow_missing=True)
    assert note in repr(made)
    for frame in (made.frame, made.scores, made.differences):
        assert frame.attrs["notes"][0] == note
    assert main(["ensemble", path, "--allow-missing"]) == 0
    assert "3 of 4 members" in capsys.readouterr().out


def test_further_test_sets_are_scored_beside_and_gaps_are_said(tmp_path, capsys):
    def partly(seed, split, given):
        return None if (seed, split) == (3, "night") else given

    path = made_up(tmp_path / "d", change=partly, splits=("test", "val", "shift", "night", "train"))
    assert main(["ensemble", path]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^  shift +60 ", out, re.MULTILINE)
    assert "night is not scored: seed3 saved no predictions for it" in out
    assert "train" not in out


def test_without_val_calibration_is_cross_fitted_and_selection_refused(tmp_path, capsys):
    path = made_up(tmp_path / "d", splits=("test",))
    assert main(["ensemble", path]) == 0
    assert "cross-fitted in 5 folds of test" in capsys.readouterr().out
    assert main(["ensemble", path, "--select", "greedy"]) == 2
    assert "greedy selection needs predictions for val" in capsys.readouterr().err


def test_selection_stands_beside_the_uniform_average(ten, capsys):
    assert main(["ensemble", str(ten), "--select", "greedy"]) == 0
    out = capsys.readouterr().out
    assert "uniform" in out
    assert "by NLL on val, took seed" in flat(out)


@pytest.mark.parametrize("command", ["ensemble", "predict"])
def test_help_is_as_agreed(command, snapshot, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main([command, "--help"]) == 0
    snapshot(f"cli/help-{command}.txt", capsys.readouterr().out)


def test_a_file_of_some_members_says_so_wherever_it_goes(ten, tmp_path, capsys, images):
    import shutil

    import torch.export

    copy = tmp_path / "copy"
    shutil.copytree(ten, copy)
    shutil.rmtree(copy / "members" / "seed4")
    path = tmp_path / "some.pt2"
    assert main(["ensemble", str(copy), "--export", str(path)]) == 2
    assert not path.exists()
    assert main(["ensemble", str(copy), "--export", str(path), "--allow-missing"]) == 0
    assert "built without seed4 (pending)" in capsys.readouterr().err
    files = {"about.json": ""}
    torch.export.load(str(path), extra_files=files)
    assert "built without seed4 (pending)" in json.loads(files["about.json"])["notes"]
    np.save(tmp_path / "in.npy", images[:2])
    words = ["predict", str(copy), str(tmp_path / "in.npy"), "--out", str(tmp_path / "out.npz")]
    assert main(words) == 2
    assert main([*words, "--allow-missing"]) == 0
    assert "note: built without seed4 (pending)" in capsys.readouterr().out
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert found["notes"].tolist() == ["built without seed4 (pending)"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--members", "3,99"], "no member 'seed99' is planned here"),
        (["--members", ""], "no seeds"),
        (["--members", "3"], "needs 2 members or more"),
        (["--split", "shift"], "no finished run has predictions for 'shift'"),
        (["--margin", "a lot"], "a lot is not a margin"),
        (["--margin", "ece=0.1"], "there is no size curve of 'ece'"),
        (["--export", "ten.bin"], "end in .onnx or .pt2"),
    ],
)
def test_what_cannot_be_answered_says_what_can(ten, capsys, options, said):
    assert main(["ensemble", str(ten), *options]) == 2
    assert said in capsys.readouterr().err


RECIPE = """
from dataclasses import replace
from pathlib import Path

from torch import nn

from sweep.train.recipes import classifier


def mine(*, width: int = 8):
    Path("imported").touch()
    made = classifier(data={"name": "digits", "limit": 300}, epochs=1)
    model = lambda data: nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))
    return replace(made, model=model, meta=lambda data: {})
"""


def test_a_recipe_that_is_not_built_in_is_imported_only_when_trusted(tmp_path, monkeypatch, capsys, images):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("a_recipe_of_mine.py").write_text(RECIPE)
    config = {"name": "mine", "recipe": "a_recipe_of_mine:mine", "params": {"width": 5}}
    sweep.run(config, seeds=[1, 2], out="d", engine="inline", on_event=lambda event: None)
    np.save("in.npy", images[:4])
    predict = ["predict", "d", "in.npy", "--out"]
    assert main([*predict, "own.npz"]) == 0  # this user has just called it, with these parameters, from this folder
    Path("imported").unlink()
    Path("a_recipe_of_mine.py").write_text(f"{RECIPE}\nprint('changed')\n")
    assert main([*predict, "out.npz"]) == 2
    Path("a_recipe_of_mine.py").write_text(RECIPE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of another"))
    assert main(["predict", "d", "in.npy", "--out", "out.npz"]) == 2
    said = capsys.readouterr().err
    assert "this directory asks to import and call 'a_recipe_of_mine:mine'" in said
    assert "--trust" in said
    with pytest.raises(TargetError, match="not part of sweep"):
        sweep.load_ensemble("d")
    assert not Path("imported").exists()
    assert main(["predict", "d", "in.npy", "--out", "out.npz", "--trust"]) == 0
    assert Path("imported").exists()
    expected = sweep.open("d").ensemble().frame.set_index("id")
    known = expected.index[:4]
    found = sweep.load_ensemble("d", trust=True)(torch.from_numpy(images[known][:, None]))
    assert found.mean.numpy() == pytest.approx(expected.loc[known, "p0":"p9"].to_numpy(), abs=1e-5)


def test_values_have_their_own_scores_and_variances(tmp_path, capsys):
    means, variances, targets = values(4, 60)

    def outcome(spec):
        own = {"ids": np.arange(60), "targets": targets, "mean": means[spec.seed], "var": variances[spec.seed]}
        return {"metrics": {"test/rmse": 1.0}, "predictions": {"test": Predictions(**own)}}

    sweep_of(tmp_path / "d", outcome, seeds=range(4))
    assert main(["ensemble", str(tmp_path / "d"), "--margin", "rmse=0.1"]) == 0
    out = capsys.readouterr().out
    assert "CRPS" in out
    assert "mean variance" in out
    worth = sweep.open(tmp_path / "d").ensemble()
    assert {"std", "total", "aleatoric", "epistemic"} <= set(worth.frame)
    figures.size_curve(worth.assessment)
    figures.disagreement(worth.assessment)
    for draw in (figures.reliability, figures.risk_coverage, figures.uncertainty):
        with pytest.raises(sweep.SweepError, match="predict values"):
            draw(worth.assessment)


def test_pictures_hold_the_numbers_they_show(ten):
    made = sweep.open(ten).ensemble().assessment
    curve = next(one for one in made.curves if one.metric == "accuracy")
    assert list(figures.size_curve(made, "accuracy").axes[0].lines[0].get_ydata()) == list(curve.value)
    risk = figures.risk_coverage(made).axes[0].lines[0].get_ydata()
    assert set(risk) <= set(made.risk.risk)
    assert risk[-1] == made.risk.risk[-1]
    legend = figures.reliability(made).axes[0].get_legend().get_texts()
    assert f"raw: ECE {made.calibration.before['ece']:.3f}" in [text.get_text() for text in legend]
    assert len(figures.disagreement(made).axes[0].texts) == 45
    right = int((made.prediction == made.targets).sum())
    histogram = figures.uncertainty(made, "epistemic").axes[0]
    assert histogram.get_legend().get_texts()[0].get_text().startswith(f"right: {right} examples")


def test_reading_loads_no_torch(ten):
    import subprocess
    import sys

    code = (
        f"import sys; from sweep.cli.app import main; main(['ensemble', {str(ten)!r}, '--json']); "
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", ["ensemble", "ensemble --json", "report", "report --html page.html"])
def test_each_file_of_predictions_is_read_once(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    path = made_up(tmp_path / "d", splits=("test", "val", "shift"))
    read = []
    real = predictions.load
    monkeypatch.setattr(predictions, "load", lambda stream, where: read.append(where) or real(stream, where=where))
    assert main([*command.split(), path]) == 0
    assert read
    assert len(read) == len(set(read))


def test_an_error_of_an_ensemble_is_an_error_of_sweep(tmp_path):
    with pytest.raises(EnsembleError):
        sweep.open(made_up(tmp_path / "d")).ensemble(split="nowhere")


def of_a_grid(run, *, lr=0.1):
    probs, targets = classes(4, 40, 3, seed=int(100 * lr))
    if not (run.seed == 2 and lr == 0.2):
        run.save_predictions("test", ids=np.arange(40), targets=targets, probs=probs[run.seed])
    return {"test/accuracy": 0.8}


def test_a_variant_is_chosen_by_what_reports_call_it_and_the_next_commands_choose_it_again(tmp_path, capsys):
    out = tmp_path / "grid"
    sweep.run(
        of_a_grid,
        seeds=[0, 1, 2],
        grid={"params.lr": [0.1, 0.2]},
        out=out,
        engine="inline",
        on_event=lambda event: None,
    )
    assert main(["ensemble", str(out)]) == 2
    assert "choose with --variant: 'lr=0.1', 'lr=0.2'" in capsys.readouterr().err
    assert main(["ensemble", str(out), "--variant", "B", "--members", "0,1,2", "--allow-missing"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("of_a_grid, lr=0.2: an ensemble of 2 of 3 members")
    proposed = [line.split(maxsplit=1)[1] for line in said.splitlines() if line.strip().startswith("next ")]
    ensemble, predict = (shlex.split(line) for line in proposed)
    assert ensemble[:2] == ["sweep", "ensemble"]
    assert predict[:2] == ["sweep", "predict"]
    chosen = [str(out), "--variant", "lr=0.2", "--members", "0,1,2", "--allow-missing"]
    assert ensemble[2 : 2 + len(chosen)] == predict[2 : 2 + len(chosen)] == chosen
    assert main([*ensemble[1 : ensemble.index("--export")]]) == 0
    assert capsys.readouterr().out.startswith("of_a_grid, lr=0.2: ")


@pytest.mark.parametrize("calibrate", [(), ("--calibrate",)])
@pytest.mark.parametrize("probs", [(0.2, 0.3, 0.5), (0.1, 0.15, 0.75), (0.6, 0.1, 0.3)])
def test_members_that_are_the_same_are_named_and_gain_nothing(tmp_path, capsys, probs, calibrate):
    def same(seed, split, given):
        return given | {"probs": np.tile(probs, (len(given["ids"]), 1))}

    path = made_up(tmp_path / "same", change=same, seeds=range(6))
    assert main(["ensemble", path, *calibrate]) == 0
    said = flat(capsys.readouterr().out)
    assert "gave identical results: the program seems to ignore its seed" in said
    assert "not distinguishable from" in said
    assert "e-1" not in said
    for one in sweep.open(path).ensemble().assessment.differences:
        assert (one.value, one.examples, one.seeds) == (0.0, (0.0, 0.0), (0.0, 0.0))
