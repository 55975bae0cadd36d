"""Folds: how data are cut, what a run is told, and what the report, ensembles and comparisons make of folds x seeds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answered import N, folded
from finished import failure, planned, sweep_of
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

import sweep
from sweep import evaluation
from sweep.analysis import frames
from sweep.analysis.compare import compare
from sweep.cli.app import main
from sweep.config import load
from sweep.determinism.environment import Answer, Origin, verdict
from sweep.ensemble.gather import choose, matched
from sweep.errors import ConfigError, EnsembleError, StatisticsError, SweepError
from sweep.launch.bundles import bundles
from sweep.plan import RunSpec
from sweep.report.worded import build
from sweep.store import Store
from sweep.train import splits
from sweep.train.data import load as load_data
from sweep.train.params import Data
from sweep.train.read import Raw

FOLDS = 4

pytestmark = pytest.mark.usefixtures("unforked")


def gather(store: Store, *, allow_missing: bool = False) -> Any:
    return matched(store, choose(store), allow_missing=allow_missing)


def cut(raw: Raw, kind: splits.Kind, folds: int) -> list[dict[str, np.ndarray[Any, Any]]]:
    found = splits.stored(raw, kind, "data")
    return [splits.chosen(found, raw, splits.Fold(number, folds)) for number in range(folds)]


def test_folds_are_those_of_scikit_learn_without_shuffling() -> None:
    rng = np.random.default_rng(0)
    x, classes = rng.normal(size=(103, 2)), np.concatenate([[0, 1, 2], rng.integers(0, 3, 100)])
    for raw, task, theirs in (
        (Raw(x, classes), "classification", StratifiedKFold(5).split(x, classes)),
        (Raw(x, rng.normal(size=103)), "regression", KFold(5).split(x)),
    ):
        mine = cut(raw, task, 5)
        for chosen, (_, test) in zip(mine, theirs, strict=True):
            assert chosen["test"].tolist() == test.tolist()
            parts = np.concatenate([chosen["train"], chosen["val"], chosen["test"]])
            assert sorted(parts.tolist()) == list(range(103))


def test_a_test_set_of_its_own_joins_the_pool_and_another_seed_shuffles_it() -> None:
    x = np.arange(40.0)[:, None]
    raw = Raw(x, np.arange(40) % 2, test_inputs=x[:12], test_targets=np.arange(12) % 2)
    tested = np.concatenate([each["test"] for each in cut(raw, "classification", 4)])
    assert sorted(tested.tolist()) == list(range(52))
    shuffled = cut(Raw(x, np.arange(40) % 2, seed=3), "classification", 4)
    assert sorted(np.concatenate([each["test"] for each in shuffled]).tolist()) == list(range(40))
    assert shuffled[0]["test"].tolist() != cut(Raw(x, np.arange(40) % 2), "classification", 4)[0]["test"].tolist()


def test_groups_stay_whole_in_every_fold_and_split() -> None:
    rng = np.random.default_rng(0)
    who = rng.choice(list("abcdefghijkl"), size=120, p=np.arange(1, 13) / 78)
    x, y = rng.normal(size=(120, 2)), rng.integers(0, 2, 120)
    raw = Raw(x, y, together=who)
    every = [*cut(raw, "classification", 4), splits.chosen(splits.stored(raw, "classification", "data"), raw)]
    for chosen in every:
        held = [set(who[index]) for index in (chosen["train"], chosen["val"], chosen["test"])]
        assert sum(map(len, held)) == len(set(who))
    sizes = sorted(len(each["test"]) for each in every[:4])
    assert sizes == sorted(len(test) for _, test in GroupKFold(4).split(x, y, who))
    with pytest.raises(ConfigError, match="groups"):
        cut(raw, "classification", 13)
    with pytest.raises(ConfigError, match="groups"):
        splits.stored(Raw(x, y, together=who[:7]), "classification", "data")


def test_the_folds_of_a_file_are_cut_from_one_reading(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, x=np.arange(60.0).reshape(30, 2), y=np.arange(30) % 2)
    kept = path.stat()
    params, reads = Data(path=str(path)), []
    for fold in range(3):
        reads.append(load_data(params, "classification", splits.Fold(fold, 3)).test.ids.tolist())
        path.write_bytes(b"x" * kept.st_size)  # another reading would fail: its time and size stay
        os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert sorted(np.concatenate(reads).tolist()) == list(range(30))


def test_the_folds_of_a_source_are_cut_from_one_reading() -> None:
    class Counted:
        taken = 0

        def __len__(self) -> int:
            return 30

        def __getitem__(self, i: int) -> tuple[list[float], int]:
            if i >= 30:
                raise IndexError
            Counted.taken += 1
            return [float(i), 1.0], i % 2

    source = sweep.data.dataset(Counted())
    for fold in range(3):
        source.load(None, splits.Fold(fold, 3))
    assert Counted.taken == 30


@pytest.mark.parametrize("names", [[f"{i}" for i in range(36)], ["", *"abcdefgh"] * 4])
def test_groups_of_one_row_and_rows_without_a_group_stay_whole(tmp_path: Path, names: list[str]) -> None:
    """Rows without a name are one group: nothing says that they are apart."""
    (tmp_path / "g.csv").write_text("a,who,y\n" + "\n".join(f"{i},{who},{i % 2}" for i, who in enumerate(names)))
    source = sweep.data.table(tmp_path / "g.csv", "y", group="who")
    held = [source.load(None, splits.Fold(at, 3)).test.ids.tolist() for at in range(3)]
    assert sorted(np.concatenate(held).tolist()) == list(range(36))
    for who in set(names):
        assert sum(any(names[row] == who for row in rows) for rows in held) == 1


def test_folds_of_one_example_are_refused() -> None:
    source = sweep.data.arrays(np.arange(10.0)[:, None], np.arange(10) % 2)
    with pytest.raises(ConfigError, match="too few examples are left for test"):
        source.load(None, splits.Fold(0, 10))


def test_a_group_column_is_no_input_and_part_of_what_is_identified(tmp_path: Path) -> None:
    rows = "\n".join(f"{i % 7}.5,{'xyz'[i % 3]},{i % 2}" for i in range(60))
    (tmp_path / "t.csv").write_text("a,who,y\n" + rows)
    plain = sweep.data.table(tmp_path / "t.csv", "y", ignore=("who",))
    grouped = sweep.data.table(tmp_path / "t.csv", "y", group="who")
    assert grouped.load().inputs == plain.load().inputs == 1
    assert grouped.content() != plain.content()
    assert sweep.data.arrays(np.ones((4, 1)), np.ones(4)).content() == (
        sweep.data.arrays(np.ones((4, 1)), np.ones(4), group=None).content()
    )
    with pytest.raises(ConfigError, match="nobody"):
        sweep.data.table(tmp_path / "t.csv", "y", group="nobody").load()


def swept(folder: Path, **params: Any) -> Store:
    sweep.run(folded, seeds=[1, 2, 3], folds=2, engine="inline", out=folder, params=params)
    return Store.open(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three seeds of two folds each."""
    return swept(tmp_path_factory.mktemp("whole") / "a")


def test_the_folds_of_a_seed_are_one_member_that_predicts_every_example(
    whole: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sorted(m.key for m in whole.scan())[:2] == ["seed1-fold0", "seed1-fold1"]
    found = gather(whole)
    assert found.labels == ("seed1", "seed2", "seed3")
    assert found.ids.tolist() == list(range(N))
    right = (found.probs.argmax(axis=2) == found.targets).mean(axis=1)
    row = build(whole).primary_rows[0]
    assert (row.n, row.planned, row.ok) == (3, 3, 3)
    assert row.mean == pytest.approx(right.mean())
    assert evaluation.answers(whole, {}).votes.members == 3
    (items,) = evaluation.items(whole, "quiz")
    assert items.table.shape == (3, N)
    capfd.readouterr()
    assert main(["report", str(whole.path)]) == 0
    assert "over seeds and 2 folds of this data set, for new data" in " ".join(capfd.readouterr().out.split())
    assert main(["ensemble", str(whole.path)]) == 0
    assert "3 members on test, 40 examples" in capfd.readouterr().out
    with pytest.raises(EnsembleError, match="without one fold"):
        sweep.load_ensemble(whole.path)


def test_the_ensemble_of_all_folds_has_the_scores_of_probabilities_put_together_by_hand(
    whole: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    """By scikit-learn's log loss on an array that is filled here, fold by fold."""
    probs = np.full((3, N, 2), np.nan)
    for row, seed in enumerate((1, 2, 3)):
        for fold in range(2):
            mine = np.flatnonzero(np.arange(N) % 2 == fold)
            right = np.random.default_rng([seed, fold]).random(mine.size) < 0.8
            said = np.where(right, mine % 2, 1 - mine % 2)
            probs[row, mine, said], probs[row, mine, 1 - said] = 0.9, 0.1
    mean, targets = probs.mean(axis=0), np.arange(N) % 2
    capfd.readouterr()
    assert main(["ensemble", str(whole.path), "--json"]) == 0
    found = {each["metric"]: each for each in json.loads(capfd.readouterr().out)["scores"]}
    assert found["nll"]["ensemble"] == pytest.approx(log_loss(targets, mean), abs=1e-9)
    assert found["nll"]["members_mean"] == pytest.approx(np.mean([log_loss(targets, p) for p in probs]), abs=1e-9)
    brier = np.mean(np.sum((mean - np.eye(2)[targets]) ** 2, axis=1))
    assert found["brier"]["ensemble"] == pytest.approx(brier, abs=1e-9)


def test_folds_that_predict_the_same_example_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="two folds saved predictions for the example 0"):
        gather(swept(tmp_path / "a", overlap=True))


def test_a_seed_with_a_failed_fold_is_failed_and_in_no_mean(tmp_path: Path) -> None:
    store = swept(tmp_path / "a", fails=2)
    row = build(store).primary_rows[0]
    assert (row.n, row.failed, row.planned) == (2, 1, 3)
    with pytest.raises(EnsembleError, match="seed2"):
        gather(store)
    assert gather(store, allow_missing=True).labels == ("seed1", "seed3")
    assert evaluation.items(store, "quiz")[0].seeds == (1, 3)
    assert sweep.open(tmp_path / "a").summary().set_index("metric").loc["test/accuracy", "n"] == 2


def value(seed: int, fold: int, shift: float = 0.0) -> float:
    rng = np.random.default_rng([seed, fold, round(100 * shift)])
    return 0.8 + 0.02 * fold + float(rng.normal(0, 0.004)) + shift


def outcome(spec: RunSpec) -> dict[str, Any] | None:
    if (spec.seed, spec.repeat) == (3, 2):
        return None
    if (spec.seed, spec.repeat) == (4, 0):
        return {"failure": failure()}
    if (spec.seed, spec.repeat) == (5, 1):
        return {"metrics": {"test/accuracy": float("nan")}}
    return {"metrics": {"test/accuracy": value(spec.seed, spec.repeat, 0.03 * (spec.variant == "B"))}}


def test_pending_failed_and_missing_folds_cost_their_seed(tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "a", outcome, seeds=range(6), folds=FOLDS)
    (row,) = build(store).primary_rows
    assert (row.n, row.ok, row.failed, row.pending, row.missing) == (3, 4, 1, 1, 1)
    table = np.array([[value(seed, fold) for fold in range(FOLDS)] for seed in range(3)])
    wanted = sweep.stats.summarise(table, ratio=1 / 3)
    assert (row.mean, row.low, row.high) == pytest.approx((wanted.mean, wanted.low, wanted.high))
    assert row.method == "Student t over seeds and folds, variance by Nadeau & Bengio"
    assert not build(store).spreads[0].repeat_sd  # folds differ by their examples, which is no noise


def test_one_seed_has_an_interval_and_its_caption_says_for_which(tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "a", outcome, seeds=[1], folds=FOLDS)
    (row,) = build(store).primary_rows
    assert row.low is not None
    assert "for this seed, over 4 folds" in build(store).headline


def test_variants_are_compared_fold_by_fold(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = sweep_of(tmp_path / "a", outcome, seeds=range(6), variants=("A", "B"), folds=FOLDS)
    (pair,) = compare(store, margin=0.1).pairs
    tables = [[[value(s, f, shift) for f in range(FOLDS)] for s in range(3)] for shift in (0.0, 0.03)]
    wanted = sweep.stats.fold_difference(*tables, 1 / 3, paired=True)
    assert pair.difference == wanted
    assert pair.verdict == "b"
    assert (pair.permutation, pair.effect, pair.planned) == (None, None, None)
    assert pair.equivalence is not None
    assert pair.equivalence.verdict == "equivalent"
    assert not any(row.best for row in build(store).rows)
    assert main(["compare", str(tmp_path / "a")]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "Over finished seeds and 4 folds, for new data: B is better than A" in said
    assert "over 3 seeds and 4 folds" in said
    with pytest.raises(StatisticsError, match="cross-validated"):
        compare(store, require=["test/accuracy >= base"])


def test_other_folds_are_never_compared(tmp_path: Path) -> None:
    one = sweep_of(tmp_path / "a", outcome, folds=FOLDS)
    for folds in (5, 0):
        with pytest.raises(StatisticsError, match="4 folds"):
            compare(one, sweep_of(tmp_path / f"b{folds}", outcome, folds=folds))


def test_a_built_in_recipe_is_tested_on_each_example_once_per_seed(tmp_path: Path) -> None:
    arguments = ["run", "--engine", "inline", "--seeds", "0,1", "--folds", "3", "params.epochs=1",
                 "params.data.limit=null", "params.model.hidden=[8]", "--out", str(tmp_path / "a")]  # fmt: skip
    assert main(arguments) == 0
    found = gather(Store.open(tmp_path / "a"))
    assert found.ids.tolist() == list(range(1797))
    held = next(Store.open(tmp_path / "a").scan()).record
    assert held is not None
    assert held.spec["folds"] == 3
    assert held.result["examples"]["test"] == 599
    assert main(arguments) == 0  # resumed: nothing is left to train
    assert main(["reproduce", str(tmp_path / "a"), "--seed", "1", "--repeat", "2"]) in (0, 4)


def test_a_program_is_told_its_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.py").write_text("import sys\nprint('{\"test/acc\": 0.' + sys.argv[2] + '}')\n")
    words = [sys.executable, "p.py", "{seed}", "{fold}"]
    assert main(["run", "--engine", "inline", "--seeds", "1,2", "--folds", "2", "--out", "o", "--", *words]) == 0
    values = [m.record.metrics["test/acc"] for m in Store.open("o").scan() if m.record]
    assert sorted(values) == [0.0, 0.0, 0.1, 0.1]
    with pytest.raises(ConfigError, match="fold"):
        sweep.run(command=words[:3], folds=2, engine="inline", out="p")


def test_what_folds_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deaf.py").write_text("def train(run):\n    return 0.5\n")
    assert main(["run", "train=deaf:train", "--engine", "inline", "--folds", "3", "--out", "a"]) == 2
    assert "run.fold" in capfd.readouterr().err
    for words in (["folds=1"], ["folds=3", "repeats=2"], ["folds=3", "vary=[split]"], ["folds=3", "until=a ± 1"]):
        with pytest.raises(ConfigError):
            load(None, words)
    assert not Path("a").exists()
    assert load(None, ["folds=off"]).folds == 0


def test_a_fold_is_part_of_what_a_run_is_and_none_leaves_it_as_it_was() -> None:
    plain, first, second = (
        next(iter(plan)) if at == 0 else list(plan)[at]
        for plan, at in (
            (planned([1], ("",), ("",), 1, deterministic=True), 0),
            (planned([1], ("",), ("",), 1, deterministic=True, folds=2), 0),
            (planned([1], ("",), ("",), 1, deterministic=True, folds=2), 1),
        )
    )
    assert "folds" not in plain.to_json()
    assert RunSpec.from_json(first.to_json()) == first
    assert len({plain.id, first.id, second.id}) == 3
    a, b = (Origin(spec.id, {}, True, spec.to_json()) for spec in (first, second))
    assert verdict(a, b).answer is Answer.DIFFERENT_EXPERIMENT
    # One bundle trains on one fold's data.
    specs = list(planned([1, 2, 3], ("",), ("",), 1, deterministic=True, folds=2))
    assert [{spec.fold for spec in task} for task in bundles(specs, 64, 1)] == [{0}, {1}]


def test_the_numbers_of_a_report_carry_the_folds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sweep_of(tmp_path / "a", outcome, seeds=range(3), folds=FOLDS)
    capfd.readouterr()
    assert main(["report", str(tmp_path / "a"), "--json"]) == 0
    body = json.loads(capfd.readouterr().out)
    assert (body["folds"], body["repeats"]) == (FOLDS, 1)
    assert body["ratio"] == pytest.approx(1 / 3)
    table = frames.summary(frames.frame(Store.open(tmp_path / "a")), folds=FOLDS, ratio=1 / 3)
    assert table["low"].iloc[0] == pytest.approx(body["rows"][0]["low"])
