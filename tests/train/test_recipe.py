"""A recipe of one's own: parts in a few words, checked before anything starts, trained as the built-in ones are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training import Killed, dies_at, finish, handle

import sweep
from sweep.cli.app import main
from sweep.config import load
from sweep.errors import ConfigError
from sweep.prepare import prepare
from sweep.train.check import check
from sweep.train.recipes import classifier
from sweep.train.splits import TEST_SHARE

DRAW = np.random.default_rng(0)
TABLE = DRAW.normal(size=(120, 5))
LABELS = (TABLE @ DRAW.normal(size=(5, 3))).argmax(1)
IMAGES = DRAW.normal(size=(60, 1, 8, 8))


def mlp(data: Any) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(data.inputs, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, data.outputs)
    )


def cnn(data: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, data.outputs))


def normed(data: Any) -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))


def made(x: Any = TABLE, y: Any = LABELS, /, model: Any = mlp, **parts: Any) -> sweep.Recipe:
    options = {name: parts.pop(name) for name in ("test", "val", "normalise", "layout") if name in parts}
    source = sweep.data.arrays(x, y, **options)
    return sweep.recipe(**{"model": model, "data": source, "epochs": 2, "batch_size": 16, **parts})


def test_the_names_of_a_recipe_load_neither_torch_nor_ray() -> None:
    code = (
        "import sys, sweep; sweep.Recipe; sweep.recipe; sweep.adamw(lr=0.1); sweep.data.arrays([[1.0]], [0]);"
        "print(sorted({'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_recipe_of_the_built_in_parts_has_the_bits_of_the_built_in_recipe(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=TABLE, y=LABELS)
    theirs = classifier(
        model={"hidden": [8], "dropout": 0.2}, data={"name": "npz", "path": str(tmp_path / "data.npz")}, epochs=2,
        batch_size=16,
    )  # fmt: skip
    ours = [made(), made(data=(TABLE, LABELS)), made(data=lambda: (TABLE, LABELS)), made(data=theirs.data)]
    ours.append(made(data=sweep.data.npz(tmp_path / "data.npz")))
    runs = [handle(tmp_path / f"run{i}") for i in range(1 + len(ours))]
    for run, recipe in zip(runs, [theirs, *ours], strict=True):
        assert isinstance(finish(recipe, run), dict)
    assert all(run.chain == runs[0].chain for run in runs)


def test_a_run_that_was_interrupted_at_any_checkpoint_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = made(epochs=2)
    whole = handle(tmp_path / "whole")
    finish(recipe, whole)
    for step in (1, 5, 8):
        first = handle(tmp_path / f"first{step}", every=(0, 1e-9))
        with pytest.raises(Killed):
            finish(dies_at(recipe, step), first)
        again = handle(tmp_path / f"again{step}", previous=(tmp_path / f"first{step}",))
        finish(recipe, again)
        assert again.resumed
        assert again.chain == whole.chain


def test_splits_are_drawn_or_named_and_examples_keep_their_positions() -> None:
    drawn = made().data()
    assert len(drawn.test) == pytest.approx(TEST_SHARE * len(TABLE), abs=2)
    named = made(test=[3, 1, 2], val=np.arange(len(TABLE)) >= 110).data()
    assert named.test.ids.tolist() == [1, 2, 3]
    assert named.val.ids.tolist() == list(range(110, 120))
    assert len(named.train) == len(TABLE) - 13
    apart = made(test=(TABLE[:7], LABELS[:7])).data()
    assert apart.test.ids.tolist() == list(range(120, 127))


def test_inputs_are_normalised_by_train_unless_they_are_to_stay() -> None:
    assert float(made().data().train.inputs.mean(0).abs().max()) < 1e-6
    ids = DRAW.integers(0, 9, size=(60, 7))
    kept = made(ids, LABELS[:60], normalise=False).data()
    assert kept.train.inputs.dtype == torch.int64
    assert torch.equal(kept.train.inputs, torch.from_numpy(ids[kept.train.ids.numpy()]))
    signal = made(DRAW.normal(3, 2, size=(60, 7, 2)), LABELS[:60]).data()
    assert signal.input_shape == (7, 2)
    assert len(signal.mean) == 1


def test_text_labels_are_named_classes() -> None:
    names = np.array(["cat", "ant", "bee"])[LABELS]
    data = made(TABLE, names).data()
    assert data.classes == ("ant", "bee", "cat")
    assert data.outputs == 3


def test_the_content_of_the_data_is_part_of_the_identity() -> None:
    changed = TABLE.copy()
    changed[0, 0] += 1e-9

    def content(*parts: Any, **options: Any) -> str:
        return sweep.data.arrays(*parts, **options).content()

    assert content(TABLE, LABELS) == content(TABLE.copy(), LABELS.copy())
    others = [content(changed, LABELS), content(TABLE, LABELS, test=[1]), content(TABLE, LABELS, normalise=False)]
    assert len({content(TABLE, LABELS), *others}) == 4


# What is refused before anything starts.

BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: made(np.where(TABLE > 2, np.nan, TABLE)), "not finite"),
    "labels that are no classes": (lambda: made(TABLE, LABELS + 0.5), "not class numbers"),
    "negative labels": (lambda: made(TABLE, LABELS - 1), "not class numbers"),
    "rows": (lambda: made(TABLE[:-1]), "rows"),
    "channels last": (lambda: made(IMAGES.transpose(0, 2, 3, 1), LABELS[:60]), "channels last"),
    "a cnn on a table": (lambda: made(model=cnn), "not an image"),
    "too few outputs": (lambda: made(model=lambda data: nn.Linear(5, 2)), "data.outputs"),
    "an embedding of numbers": (
        lambda: made(model=lambda data: nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(15, 3))),
        "normalise=False",
    ),
    "a module for all seeds": (lambda: made(model=nn.Linear(5, 3)), "Linear"),
    "a loss for each example": (
        lambda: made(loss=lambda a, b: nn.functional.cross_entropy(a, b, reduction="none")),
        "mean",
    ),
    "an unknown loss": (lambda: made(loss="entropy"), "cross-entropy"),
    "one example under batch norm": (
        lambda: made(batch_size=len(made().data().train) - 1, model=normed),
        "drop_last",
    ),
    "a rate below 0": (lambda: made(optimizer=sweep.adamw(lr=-1.0)), "lr"),
    "an optimizer without a rate": (lambda: made(optimizer=torch.optim.SGD), "lr"),
    "a name that no schedule has": (lambda: made(schedule="cosinus"), "cosine"),
    "no recipe": (lambda: {"epochs": 3}, "sweep.recipe"),
    "no data": (lambda: made(data=3), "sweep.data.arrays"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_trained_is_refused_with_its_way_out(what: str) -> None:
    make, said = BAD[what]
    with pytest.raises(ConfigError) as refused:
        check(make(), "my:recipe", "cpu")
    assert said in str(refused.value)


def test_the_line_of_the_model_that_fails_is_named() -> None:
    class Net(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs @ torch.zeros(3, 3)

    with pytest.raises(ConfigError) as refused:
        check(made(model=lambda data: Net()), "my:recipe", "cpu")
    assert "test_recipe.py, line" in str(refused.value)
    assert "inputs @ torch.zeros(3, 3)" in str(refused.value)
    assert "site-packages" not in str(refused.value)


def test_what_can_be_trained_is_not_refused() -> None:
    for recipe in (
        made(), made(IMAGES, LABELS[:60], model=cnn),
        made(IMAGES.transpose(0, 2, 3, 1), LABELS[:60], model=cnn, layout="NHWC"),
        made(TABLE, TABLE[:, 0], loss="mse", model=lambda data: nn.Linear(5, 1)),
        made(TABLE, TABLE[:, 0], loss="gaussian", model=lambda data: nn.Linear(5, 2)),
        made(optimizer=lambda parameters, lr: torch.optim.RAdam(parameters, lr=lr), lr=0.1),
        made(schedule=lambda step, steps: 1 - step / steps),
    ):  # fmt: skip
        assert check(recipe, "my:recipe", "cpu") is recipe


MODULE = """\
import numpy as np
import sweep
from torch import nn

def recipe(*, bad: bool = False, epochs: int = 1) -> sweep.Recipe:
    x = np.load("x.npy")
    x[0] = np.nan if bad else 0
    return sweep.recipe(model=lambda data: nn.Linear(data.inputs, data.outputs), data=sweep.data.arrays(x, x[:, 0] > 0),
                        epochs=epochs)

wide = recipe
"""


def test_bad_data_end_the_command_once_before_anything_starts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", TABLE)
    (folder / "mine.py").write_text(MODULE)
    assert main(["run", "recipe=mine:recipe", "params.bad=true", "--seeds", "0-9"]) == 2
    said = capsys.readouterr().err
    assert said.count("not finite") == 1
    assert "mine:recipe" in said
    assert not (folder / "runs").exists()


def test_data_that_a_recipe_reads_itself_are_part_of_its_identity_and_its_name_is_its_own(folder: Path) -> None:
    np.save("x.npy", TABLE)
    (folder / "mine.py").write_text(MODULE)

    def prepared(name: str = "recipe") -> Any:
        return prepare(load(None, [f"recipe=mine:{name}"]))

    before = prepared()
    assert before.config.name == "mine"
    assert prepared("wide").config.name == "wide"
    assert before.cells[0].data == prepared().cells[0].data != ""
    np.save("x.npy", TABLE + 1)
    assert prepared().cells[0].data != before.cells[0].data


@pytest.mark.walk
def test_seeds_are_ensembled_served_verified_and_grown_with_a_recipe_of_ones_own(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", TABLE)
    (folder / "mine.py").write_text(MODULE)
    run = ["run", "recipe=mine:recipe", "--engine", "inline"]
    assert main([*run, "--seeds", "0-1", "vectorize=2"]) == 0
    assert main([*run, "--seeds", "0-2", "vectorize=2"]) == 0
    assert "sweep ensemble runs/mine" in capsys.readouterr().out
    served = sweep.load_ensemble("runs/mine")
    assert served.about.kind == "classification"
    assert served.about.mean  # it takes inputs as they were stored
    assert served(torch.from_numpy(TABLE[:4])).mean.shape == (4, 2)
    assert main(["reproduce", "runs/mine", "--seed", "1"]) == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "of another"))
    assert main(["reproduce", "runs/mine", "--seed", "1"]) == 2
    assert "--trust" in capsys.readouterr().err
