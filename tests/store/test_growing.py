"""A grid only ever grows: new values join a directory as new seeds do, and whatever else changed is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import sweep
from sweep.cli.app import main
from sweep.errors import StoreError
from sweep.store import Store

pytestmark = pytest.mark.usefixtures("unforked")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in (folder / "members").rglob("*") if p.is_file()}


def trained(grid: dict[str, list[Any]], *, seeds: Any = (1, 2), out: str = "runs/g", **more: Any) -> sweep.Results:
    given = {"train": "toys:line", "grid": grid, **more}
    return sweep.run(given, seeds=seeds, out=out, engine="inline", on_event=lambda event: None)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_new_value_joins_and_nothing_is_trained_twice() -> None:
    first = trained({"params.lr": [0.1, 0.2]})
    before = files(first.path)
    ids = {m.key: m.record.spec_id for m in first.store.scan() if m.record}
    more = trained({"params.lr": [0.1, 0.2, 0.3]}, seeds=(1, 2, 3))
    assert more.frame["status"].tolist() == ["ok"] * 9
    assert before.items() <= files(more.path).items()
    assert ids.items() <= {m.key: m.record.spec_id for m in more.store.scan() if m.record}.items()
    planned, variant, seed = more.store.manifest.seed_log
    assert (planned.variants, planned.results_existed) == ((), False)
    assert (len(variant.variants), variant.added, variant.results_existed) == (1, (), True)
    assert variant.variants[0].startswith("lr-0.3-")
    assert (seed.variants, seed.added) == ((), (3,))
    assert more.store.manifest.config["grid"] == {"params.lr": [0.1, 0.2, 0.3]}


@pytest.mark.parametrize("asked", [[0.2], [0.3], [0.3, 0.1], [0.2, 0.1]], ids=str)
def test_values_that_are_there_stay_whatever_is_asked_for(asked: list[float]) -> None:
    trained({"params.lr": [0.1, 0.2]})
    grid = trained({"params.lr": asked}).store.manifest.config["grid"]["params.lr"]
    assert grid == [0.1, 0.2, *(value for value in asked if value > 0.2)]


def test_each_of_two_parameters_can_grow_and_the_grid_stays_whole() -> None:
    trained({"params.lr": [0.1], "params.epochs": [1, 2]})
    made = trained({"params.epochs": [3], "params.lr": [0.2]})  # in another order, the new values alone
    assert len(made.store.manifest.cells) == 2 * 3
    assert made.frame["status"].tolist() == ["ok"] * 12


def test_a_comparison_says_that_its_grid_was_extended() -> None:
    trained({"params.lr": [0.1, 0.2]}, seeds=range(4))
    made = trained({"params.lr": [0.3]}, seeds=range(4))
    assert made.store.manifest.extensions == 1
    assert "unadjusted for 1 extension" in str(made.compare(metric="test/accuracy"))
    assert "unadjusted for 1 extension" in " ".join(str(made).split())


def test_a_grid_that_grew_before_there_was_a_result_is_no_extension() -> None:
    from sweep.config import load
    from sweep.launch.start import ready
    from sweep.prepare import manifest_of

    config = {"train": "toys:line", "seeds": [1]}
    for grid in ([0.1], [0.1, 0.2]):
        plan, path, _ = ready(load(grid={"params.lr": grid}, **config), "runs/g")
        store = Store.create(path, manifest_of(plan))
    assert len(store.manifest.cells) == 2
    assert store.manifest.extensions == 0


@pytest.mark.parametrize(
    ("grid", "changed", "line"),
    [
        ({"params.lr": [0.1, 0.3]}, {"params": {"epochs": 3}}, "params.epochs: 2 -> 3"),
        ({"params.lr": [0.3]}, {"params": {"epochs": 3}}, "params.epochs: 2 -> 3"),
        ({"params.lr": [0.1, 0.3]}, {"threads": 2}, "threads: 1 -> 2"),
        ({"params.lr": [0.1], "params.epochs": [2]}, {}, "grid.params.epochs: null -> [2]"),
        ({}, {"params": {"lr": 0.1}}, "grid.params.lr: [0.1,0.2] -> null"),
        ({"params.lr": [0.1, 0.2]}, {"tasks": {"a": {"params.epochs": 2}}}, "tasks.a"),
    ],
    ids=["a fixed parameter", "new values alone", "threads", "a second axis", "no grid", "tasks"],
)
def test_what_is_fixed_stays_fixed(grid: dict[str, list[Any]], changed: dict[str, Any], line: str) -> None:
    made = trained({"params.lr": [0.1, 0.2]}, params={"epochs": 2})
    before = made.store.manifest
    with pytest.raises(StoreError) as caught:
        trained(grid, **{"params": {"epochs": 2}, **changed})
    shown = re.sub(", ", ",", str(caught.value)).splitlines()
    assert any(line in one for one in shown)
    assert Store.open("runs/g").manifest == before


def test_a_refusal_names_the_changed_keys_alone_and_each_once() -> None:
    params = {"optimizer": {"name": "sgd", "lr": 0.1}, "model": {"hidden": [8] * 200}, "epochs": 1}
    words = ["run", "--engine", "inline", "--seeds", "1", "--out", "runs/g", "--dry-run"]

    from sweep.config import load
    from sweep.launch.start import ready
    from sweep.prepare import manifest_of

    grid = {"params.batch_size": [16, 32, 64]}
    plan, path, _ = ready(load(params=params, grid=grid, seeds=[1]), "runs/g")
    Store.create(path, manifest_of(plan))
    other = {**params, "optimizer": {"name": "sgd", "lr": 0.2}, "model": {"hidden": [9] * 201}}
    with pytest.raises(StoreError) as caught:
        ready(load(params=other, grid=grid, seeds=[1], threads=2), "runs/g")
    lines = [line.strip() for line in caught.value.what.splitlines()[1:]]
    assert [line.partition(":")[0] for line in lines] == ["params.model.hidden", "params.optimizer.lr", "threads"]
    assert lines[1:] == ["params.optimizer.lr: 0.1 -> 0.2", "threads: 1 -> 2"]
    assert max(map(len, lines)) < 240
    assert main([*words, "params.optimizer.lr=0.2"]) == 2


def test_ml_train_and_a_dry_run_see_the_grid_of_the_directory(capsys: pytest.CaptureFixture[str]) -> None:
    trained({"params.lr": [0.1, 0.2]})
    words = ["train=toys:line", "params.lr=0.3,0.4", "--out", "runs/g"]
    assert main(["run", *words, "--seeds", "1", "--dry-run"]) == 0
    assert "4 runs in runs/g" in capsys.readouterr().out
    assert len(Store.open("runs/g").manifest.cells) == 2
    assert main(["ml-train", *words, "--seed", "1"], program="ml-train") == 0
    store = Store.open("runs/g")
    assert sorted(m.status for m in store.scan() if m.seed == 1) == ["ok"] * 4
    assert [m.status for m in store.scan() if m.seed == 2].count("pending") == 2
