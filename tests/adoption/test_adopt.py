"""Results that were not made here: taken once, counted right, and never claimed to be more than they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pexpect
import pytest
from finished import sweep_of
from predicted import classes
from scipy import stats

import sweep
from sweep.cli.app import main
from sweep.errors import ConfigError, StoreError
from sweep.report import to_json
from sweep.store import Store

Said = Callable[[], str]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What was printed since it was last asked, on one line."""

    def told() -> str:
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    return told


PATTERN = "old/{lr}/seed{seed}/metrics.csv"


def run_of(lr: float, seed: int, *, epochs: int = 3, extra: float = 0.0) -> None:
    folder = Path("old", str(lr), f"seed{seed}")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{0.7 + lr + seed / 100 + epoch / 1000 + extra:.4f}" for epoch in range(1, epochs + 1)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,test_acc", *rows]) + "\n")


def folder_of_runs() -> None:
    for lr in (0.1, 0.01):
        for seed in range(4):
            run_of(lr, seed)


def values(out: str, metric: str) -> dict[tuple[str, int], float]:
    frame = sweep.open(out).frame
    return {(v, s): x for v, s, x in zip(frame["variant"].str[:-7], frame["seed"], frame[metric], strict=True)}


def table(rows: Sequence[tuple[Any, ...]], columns: Sequence[str], path: str = "table.csv") -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(columns))
    frame.to_csv(path, index=False)
    return frame


# A folder of files


def test_two_commands_lead_from_a_folder_of_files_to_a_table_for_a_paper(said: Said) -> None:
    folder_of_runs()
    assert main(["adopt", PATTERN, "--out", "runs/old"]) == 0
    assert "8 runs found" in said()
    assert main(["report", "runs/old", "--format", "latex"]) == 0
    table = said()
    assert "\\toprule" in table
    numbers = [0.7 + 0.1 + seed / 100 + 0.003 for seed in range(4)]
    half = stats.t.ppf(0.975, 3) * np.std(numbers, ddof=1) / 2
    assert f"{np.mean(numbers):.3f} $\\pm$ {half:.3f}" in table
    assert "unknown" in table
    assert len(sweep.open("runs/old").history) == 24


def test_files_of_a_pattern_that_the_shell_expanded_are_not_seeds_of_one_variant(said: Said) -> None:
    folder_of_runs()
    files = sorted(map(str, Path("old").glob("*/*/metrics.csv")))
    assert main(["adopt", *files, "--out", "o", "--yes"]) == 2
    assert "a quoted pattern" in said()
    assert not Path("o").exists()
    assert main(["adopt", "old/*/*/metrics.csv", "--out", "o", "--dry-run"]) == 0, "negative control: asked for"
    assert main(["adopt", files[0], "--out", "one", "--yes"]) == 0, "negative control: one table"
    assert "1 run found" in said()


def test_a_folder_that_is_not_adopted_yet_is_told_how(said: Said) -> None:
    folder_of_runs()
    assert main(["compare", "old", "--format", "latex"]) == 2
    assert "sweep adopt" in said()


def test_the_same_again_adds_what_is_new_and_nothing_twice(said: Said) -> None:
    folder_of_runs()
    main(["adopt", PATTERN, "--out", "o"])
    before = {path: path.read_bytes() for path in Path("o").rglob("record.json")}
    assert main(["adopt", PATTERN, "--out", "o"]) == 0
    assert "0 new runs" in said()
    run_of(0.1, 9)
    run_of(0.5, 9)
    assert main(["adopt", PATTERN, "--out", "o"]) == 0
    assert "2 new runs" in said()
    assert all(path.read_bytes() == text for path, text in before.items())
    assert len(list(Path("o").rglob("record.json"))) == 10
    store = Store.open("o")
    assert store.manifest.extensions == 1, "results had been there to look at"
    assert [m.status for m in store.scan(verify=True)].count("pending") == 5


def test_a_changed_file_is_refused_and_taken_only_when_that_is_asked_for(said: Said) -> None:
    folder_of_runs()
    main(["adopt", PATTERN, "--out", "o"])
    run_of(0.1, 2, extra=0.05)
    run_of(0.1, 8)
    before = values("o", "test_acc")
    assert main(["adopt", PATTERN, "--out", "o"]) == 2
    told = said()
    assert "seed2" in told
    assert "--replace" in told
    assert values("o", "test_acc") == before, "nothing was written, what was new included"
    assert main(["adopt", PATTERN, "--out", "o", "--replace"]) == 0
    after = values("o", "test_acc")
    assert after["lr-0.1", 2] == pytest.approx(before["lr-0.1", 2] + 0.05)
    assert {key: each for key, each in after.items() if key in before and key != ("lr-0.1", 2)} == {
        key: each for key, each in before.items() if key != ("lr-0.1", 2)
    }
    assert len(list(Path("o").rglob("record.read-*.json"))) == 1, "the old record is kept"


def test_what_is_missing_twice_there_unequal_or_unread_is_shown_and_a_dry_run_writes_nothing(said: Said) -> None:
    folder_of_runs()
    Path("old/0.1/seed3/metrics.csv").unlink()
    run_of(0.01, 1, epochs=2)
    Path("old/0.01/seed0/metrics.csv").write_text("")
    assert main(["adopt", PATTERN, "--out", "o", "--dry-run"]) == 0
    told = said()
    assert not Path("o").exists()
    assert "missing 2" in told
    assert "lr-0.1-" in told.partition("missing")[2].partition("unread")[0]
    assert "old/0.01/seed0/metrics.csv: the table is empty" in told
    assert "seed1 ends at step 2; the others end at step 3" in told
    Path("old/again").mkdir()
    assert main(["adopt", "old/{lr}/s*{seed}/metrics.csv", "--seed", "lr", "--variant", "", "--out", "o"]) == 2
    assert "twice" in said()
    assert not Path("o").exists()


def test_on_a_terminal_it_asks_first() -> None:
    folder_of_runs()
    words = ["-m", "sweep.cli", "adopt", PATTERN, "--out", "o"]
    for answer, there in (("n", False), ("y", True)):
        child = pexpect.spawn(sys.executable, words, timeout=60)
        child.expect("adopt these runs into o")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        assert Path("o", "sweep.json").exists() is there


def test_a_missing_run_is_unknown_and_no_failure_is_ruled_out(said: Said) -> None:
    folder_of_runs()
    Path("old/0.1/seed3/metrics.csv").unlink()
    main(["adopt", PATTERN, "--out", "o"])
    said()
    for words in (["report", "o"], ["compare", "o"], ["status", "o"], ["report", "o", "--format", "md"]):
        main(words)
        told = said()
        assert "0 failed" not in told.replace("not 0 failed", ""), words
        assert "0 of 3 " not in told.replace("A wins 0 of 3 ", ""), words
        assert "missing" in told or "unknown" in told, words
    main(["report", "o", "--json"])
    row = json.loads(said())["rows"][0]
    assert row["failure_high"] == 1
    page = Path("page.html")
    main(["report", "o", "--html", str(page)])
    assert "No run failed" not in page.read_text()
    made = sweep_of(Path("here"), lambda spec: {"metrics": {"test_acc": 0.5 + spec.seed}}, config={"primary": None})
    assert "0 failed" in str(sweep.Results(made)), "of runs that were made here it is known"


@pytest.mark.parametrize(
    "words", [["verify"], ["reproduce"], ["collect"], ["resume"], ["run", "--engine", "inline", "--out"]]
)
def test_nothing_trains_them_again(words: list[str], said: Said) -> None:
    folder_of_runs()
    main(["adopt", PATTERN, "--out", "o"])
    before = {path: path.read_bytes() for path in Path("o").rglob("*") if path.is_file()}
    said()
    assert main([*words, "o"]) == 2
    assert "adopted" in said()
    assert {path: path.read_bytes() for path in Path("o").rglob("*") if path.is_file()} == before


def test_a_sweep_that_was_run_here_takes_none(said: Said) -> None:
    sweep_of(Path("here"), lambda spec: {"metrics": {"test_acc": 0.5}})
    folder_of_runs()
    assert main(["adopt", PATTERN, "--out", "here"]) == 2
    assert "run here" in said()


def test_records_say_where_they_are_from_and_nothing_of_a_machine() -> None:
    folder_of_runs()
    main(["adopt", PATTERN, "--out", "o"])
    record = next(Store.open("o").scan()).record
    assert record is not None
    assert record.environment == {}
    assert record.collected["source"].endswith("metrics.csv")
    assert set(Store.open("o").manifest.versions) == {"seed-sweep"}
    assert sweep.open("o").report.environments == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.json", '{"test": {"acc": %s}}'), ("r.jsonl", '{"step": 1, "test/acc": 0}\n{"step": 2, "test/acc": %s}\n'),
        ("log.txt", "epoch 1 test/acc=0.1\nepoch 2 test/acc=%s\n"), ("r.tsv", "epoch\ttest/acc\n1\t0\n2\t%s\n"),
    ],
)  # fmt: skip
def test_files_of_every_kind(name: str, text: str) -> None:
    for seed in range(3):
        Path(f"run_{seed}").mkdir()
        Path(f"run_{seed}", name).write_text(text % (0.5 + seed / 10))
    assert main(["adopt", f"run_{{seed}}/{name}", "--out", "o"]) == 0
    assert sweep.open("o").frame["test/acc"].tolist() == [0.5, 0.6, 0.7]


def test_parquet_and_tensorboard() -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for seed in range(3):
        folder = Path("tb", f"seed{seed}", "2026-01-01_10-00-00")
        writer = EventFileWriter(str(folder))
        summary = Summary(value=[Summary.Value(tag="val_acc", simple_value=0.5 + seed)])
        writer.add_event(Event(step=4, summary=summary))
        writer.close()
        pd.DataFrame({"epoch": [1, 2], "val_acc": [0.0, 0.5 + seed]}).to_parquet(f"s{seed}.parquet")
    for at, pattern in enumerate(("tb/seed{seed}", "./tb/seed{seed}/*/events*", "s{seed}.parquet")):
        assert main(["adopt", pattern, "--out", f"o{at}"]) == 0
        assert sweep.open(f"o{at}").frame["val_acc"].tolist() == [0.5, 1.5, 2.5], pattern


def test_predictions_by_a_pattern_make_an_ensemble(said: Said) -> None:
    probs, targets = classes(3, 60)
    for seed, one in enumerate(probs):
        accuracy = float((one.argmax(1) == targets).mean())
        Path(f"s{seed}.json").write_text(json.dumps({"test/accuracy": accuracy}))
        np.savez(f"p{seed}-test.npz", ids=np.arange(60), targets=targets, probs=one)
    words = ["adopt", "s{seed}.json", "--predictions", "p{seed}-{split}.npz", "--out", "o"]
    assert main(words) == 0
    made = sweep.open("o").ensemble()
    ensemble = float((probs.mean(axis=0).argmax(1) == targets).mean())
    scored = {score.metric: score for one in sweep.open("o").report.together for score in one.scores}
    assert scored["accuracy"].ensemble == pytest.approx(ensemble)
    assert len(made.frame)
    np.savez("p1-test.npz", ids=np.arange(60), targets=targets, probs=probs[2])
    assert main(words) == 2, "other predictions are another run"
    np.savez("p7-test.npz", ids=np.arange(60), targets=targets, probs=probs[2])
    said()
    assert main(words) == 2
    assert "p7-test.npz" in said()


# Tables


def test_four_methods_on_39_tasks_are_what_pandas_and_scipy_say() -> None:
    rng = np.random.default_rng(0)
    names = {f"data-{i:02d}": rng.uniform(0.6, 0.9) for i in range(39)}
    rows = [
        (method, task, seed, level + 0.02 * place + 0.01 * rng.standard_normal())
        for place, method in enumerate("ABCD") for task, level in names.items() for seed in (7, 8, 9)
    ]  # fmt: skip
    frame = table(rows, ("method", "dataset", "seed", "accuracy"))
    words = ["adopt", "table.csv", "--seed", "seed", "--variant", "method", "--task", "dataset", "--out", "o"]
    assert main(words) == 0
    summary = sweep.open("o").summary()
    assert len(summary) == 4 * 39
    wanted = frame.groupby(["dataset", "method"])["accuracy"].agg(["mean", "std"])
    for row in summary.to_dict("records"):
        mean, sd = wanted.loc[(row["task"][:-7], row["variant"][:-7])]
        low, high = stats.t.interval(0.95, 2, mean, sd / np.sqrt(3))
        assert (row["mean"], row["sd"], row["low"], row["high"]) == pytest.approx((mean, sd, low, high))
    found = sweep.open("o").compare(baseline="A")
    assert len(found.pairs) == 3 * 39
    wide = frame.pivot_table(index=["dataset", "seed"], columns="method", values="accuracy")
    for pair in found.pairs:
        both = wide.loc[pair.task[:-7]]
        assert pair.difference is not None
        assert pair.difference.p == pytest.approx(
            stats.ttest_rel(*(both[side.name[-1]] for side in (pair.a, pair.b))).pvalue
        )


def test_references_put_the_tasks_of_a_table_on_one_scale(said: Said) -> None:
    """A config that names no tasks has none, and its references were refused."""
    rows = [(m, t, s, k + s / 10) for k, m in enumerate("AB") for t in ("x", "y z") for s in range(3)]
    frame = table(rows, ("method", "task", "seed", "score"))
    words = ["adopt", "table.csv", "--variant", "method", "--out", "o", "references={x: [0, 2], 'y z': [-1, 1]}"]
    assert main([*words, "goals.score=max"]) == 0
    assert [one.mean for one in sweep.open("o").report.across] == pytest.approx([0.3, 0.8])
    assert main(["adopt", "table.csv", "--variant", "method", "--out", "p", "references.w=[0, 2]"]) == 2
    assert "tasks: x, y z" in said()
    found = sweep.adopt(
        frame, variant="method", out="q", goals={"score": "max"}, references={"x": [0, 2], "y z": [-1, 1]}
    )
    assert [one.mean for one in found.report.across] == pytest.approx([0.3, 0.8])


def test_one_list_of_numbers_is_numbered_and_pairs_nothing(said: Said) -> None:
    numbers = np.random.default_rng(1).normal(0.8, 0.05, 61)
    table([(value,) for value in numbers], ("score",))
    assert main(["adopt", "table.csv", "--out", "o", "goals.score=max"]) == 0
    assert "numbered" in said()
    row = sweep.open("o").summary().iloc[0]
    low, high = stats.t.interval(0.95, 60, numbers.mean(), stats.sem(numbers))
    assert (row["n"], row["mean"], row["low"], row["high"]) == pytest.approx((61, numbers.mean(), low, high))


def test_numbered_runs_of_two_variants_are_compared_unpaired() -> None:
    rng = np.random.default_rng(2)
    frame = table([(method, rng.normal(0.8, 0.1)) for method in "AB" for _ in range(8)], ("method", "accuracy"))
    assert main(["adopt", "table.csv", "--out", "o"]) == 0
    (pair,) = sweep.open("o").compare().pairs
    a, b = (frame["accuracy"][frame["method"] == name] for name in "AB")
    assert not pair.paired
    assert pair.difference is not None
    assert pair.difference.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


def test_every_task_has_the_seeds_that_it_has(said: Said) -> None:
    rng = np.random.default_rng(3)
    counts = {f"t{i}": 8 + i % 3 for i in range(6)}
    rows = [(m, t, s, rng.normal()) for m in "AB" for t, n in counts.items() for s in range(n)]
    rows.remove(next(row for row in rows if row[:3] == ("B", "t2", 4)))
    table(rows, ("method", "task", "seed", "accuracy"))
    assert main(["adopt", "table.csv", "--variant", "method", "--out", "o"]) == 0
    told = said()
    assert "8 to 10 per task" in told
    assert "missing 1:" in told
    summary = sweep.open("o").summary()
    assert {t[:2]: n for t, n in zip(summary["task"], summary["planned"], strict=True)} == counts
    assert summary["pending"].sum() == 1
    assert Store.open("o").manifest.runs == 2 * sum(counts.values())
    assert sweep.open("o").compare(metric="accuracy").pairs[0].paired


def test_a_row_per_step_is_a_curve_and_seeds_may_have_names(said: Said) -> None:
    rows = [(f"run-{s}", e, 0.5 + e / 10 + k / 100) for k, s in enumerate("ac") for e in (1, 2, 3)]
    table(rows, ("run", "epoch", "val_acc"))
    assert main(["adopt", "table.csv", "--seed", "run", "--out", "o"]) == 0
    assert "run-a, run-c" in said()
    assert sweep.open("o").frame["val_acc"].tolist() == [0.8, 0.81]
    assert sweep.open("o").history["epoch" if "epoch" in sweep.open("o").history else "step"].tolist() == [1, 2, 3] * 2
    table([*rows, ("run-b", 3, 0.9)], ("run", "epoch", "val_acc"))
    assert main(["adopt", "table.csv", "--seed", "run", "--out", "o"]) == 0
    assert sweep.open("o").frame["val_acc"].tolist() == [0.8, 0.81, 0.9], "a name keeps its number"


def test_a_run_that_ended_at_nan_failed_and_its_metric_is_named(said: Said) -> None:
    for seed in range(3):
        run_of(0.1, seed)
    with open("old/0.1/seed1/metrics.csv", "a") as file:
        file.write("4,nan\n")
    assert main(["adopt", PATTERN, "--out", "o"]) == 0
    frame = sweep.open("o").frame
    assert frame["failure"].tolist() == ["", "diverged", ""]
    assert frame["message"].tolist() == ["", "test_acc is nan", ""]


def test_cells_without_a_value_are_no_results_and_text_is_refused(said: Said) -> None:
    table([(0, 0.5), (1, None), (2, 0.7)], ("seed", "accuracy"))
    assert main(["adopt", "table.csv", "--out", "o"]) == 0
    assert "row 2: it has no value of accuracy" in said()
    assert sweep.open("o").frame["status"].tolist() == ["ok", "pending", "ok"]
    table([(0, "91 %"), (1, "0.7")], ("seed", "accuracy"))
    assert main(["adopt", "table.csv", "--metrics", "accuracy", "--out", "p"]) == 2
    assert "91 %" in said()
    Path("semi.csv").write_text("seed;accuracy\n0;0,5\n1;0,7\n")
    assert main(["adopt", "semi.csv", "--out", "s"]) == 0
    assert sweep.open("s").frame["accuracy"].tolist() == [0.5, 0.7]


@pytest.mark.parametrize(
    "text",
    [
        "# made by hand\n\nseed,accuracy,note\n0,0.5,a\n1,0.7,\n", 'seed,accuracy\n0,"0,5"\n1,"0,7"\n',
        "\ufeffseed\taccuracy\n0\t0,5\n1\t0,7\n", "# seed,accuracy\n0,0.5\n1,0.7\n",
        "\nseed;accuracy;cost\n0;0,5;1.234,5\n1;0,7;2\n",
    ],
)  # fmt: skip
def test_tables_as_spreadsheets_write_them(text: str) -> None:
    Path("t.csv").write_text(text, encoding="utf-8")
    assert main(["adopt", "t.csv", "--metrics", "accuracy", "--out", "o"]) == 0
    assert sweep.open("o").frame["accuracy"].tolist() == [0.5, 0.7]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("seed,accuracy\n0,0.5\nseed,accuracy\n1,0.7\n", "row 2 repeats the header"),
        ("seed,accuracy,accuracy\n0,0.5,0.6\n", "'accuracy' occurs twice"), ("0,0.5\n1,0.7\n", "0, 0.5"),
        ("seed,accuracy\n0,0.5,0.7\n", "0, 0.5, 0.7"), ("seed,accuracy\n0,91.5%\n", "91.5%"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_refused_and_its_row_is_quoted(text: str, quoted: str, said: Said) -> None:
    Path("t.csv").write_text(text)
    assert main(["adopt", "t.csv", "--metrics", "accuracy", "--out", "o"]) == 2
    assert quoted in said()
    assert not Path("o").exists()


def test_from_python(tmp_path: Path) -> None:
    rows = [{"net": net, "s": s, "acc": 0.5 + s / 10 + k} for k, net in enumerate("xy") for s in range(3)]
    found = sweep.adopt(pd.DataFrame(rows), seed="s", variant="net", metrics=["acc"], out="o")
    assert isinstance(found, sweep.Results)
    assert found.summary()["mean"].tolist() == pytest.approx([0.6, 1.6])
    assert "adopted" in str(found)
    again = pd.DataFrame([*rows, {"net": "x", "s": 7, "acc": 0.9}])
    assert len(sweep.adopt(again, seed="s", variant="net", metrics=["acc"], out="o").frame) == 8
    with pytest.raises(StoreError, match="changed after adoption"):
        sweep.adopt(again.assign(acc=0.1), seed="s", variant="net", metrics=["acc"], out="o")
    with pytest.raises(ConfigError, match="no column"):
        sweep.adopt(again, seed="seeds")
    with pytest.raises(ConfigError, match="which columns are metrics"):
        sweep.adopt(pd.DataFrame({"seed": [1, 2], "foo": [1.0, 2.0], "bar": [2.0, 1.0]}))


# The folders of trackers


def test_an_mlflow_folder() -> None:
    for number, (lr, seed) in enumerate((lr, seed) for lr in (0.1, 0.01) for seed in range(3)):
        run = Path("mlruns", "0", f"{number:032x}")
        write(run / "meta.yaml", f"lifecycle_stage: active\nstatus: 3\nstart_time: {number}\n")
        for name, value in {"lr": lr, "random_seed": seed, "out": f"runs/{number}", "epochs": 3}.items():
            write(run / "params" / name, str(value))
        write(run / "metrics" / "test" / "accuracy", f"1700 0.1 0\n1800 {lr + seed} 1\n")
    write(Path("mlruns", "0", "meta.yaml"), "name: Default\n")
    write(Path("mlruns", "0", "f" * 32, "meta.yaml"), "lifecycle_stage: active\nstatus: 1\n")
    write(Path("mlruns", "0", "f" * 32, "metrics", "test", "accuracy"), "1700 0.1 0\n")
    assert main(["adopt", "mlruns", "--out", "o"]) == 0
    wanted = {(f"lr-{lr}", seed): lr + seed for lr in (0.1, 0.01) for seed in range(3)}
    assert {key: value for key, value in values("o", "test/accuracy").items() if value == value} == wanted


def test_a_parameter_called_experiment_tells_runs_of_one_mlflow_experiment_apart() -> None:
    for number, (which, seed) in enumerate((which, seed) for which in ("a", "b") for seed in range(2)):
        run = Path("mlruns", "0", f"{number:032x}")
        write(run / "meta.yaml", "lifecycle_stage: active\nstatus: 3\n")
        write(run / "params" / "experiment", which)
        write(run / "params" / "seed", str(seed))
        write(run / "metrics" / "acc", f"1700 {number} 0\n")
    write(Path("mlruns", "0", "meta.yaml"), "name: Default\n")
    assert main(["adopt", "mlruns", "--out", "o"]) == 0
    assert values("o", "acc") == {("a", 0): 0.0, ("a", 1): 1.0, ("b", 0): 2.0, ("b", 1): 3.0}


def test_a_folder_of_lightning() -> None:
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    for kind, top in ((CSVLogger, "csv"), (TensorBoardLogger, "tb")):
        for seed in range(3):
            logger = kind(top, name="lightning_logs")
            logger.log_hyperparams({"model": {"width": 8}, "seed": seed})
            for step in range(2):
                logger.log_metrics({"train_loss": 1.0}, step=step)
                logger.log_metrics({"val_acc": step / 10 + seed}, step=step)
            logger.save()
            logger.finalize("success")
        assert main(["adopt", f"{top}/lightning_logs", "--out", f"o-{top}"]) == 0
        assert sweep.open(f"o-{top}").frame["val_acc"].tolist() == pytest.approx([0.1, 1.1, 2.1])


def test_a_folder_of_ray_tune() -> None:
    for number, (lr, seed) in enumerate((lr, seed) for lr in (0.1, 0.01) for seed in range(2)):
        trial = Path("ray_results", "train_2026", f"train_{number}")
        write(trial / "params.json", json.dumps({"opt": {"lr": lr}, "seed": seed}))
        lines = [
            {"accuracy": i / 10 + seed, "training_iteration": i, "pid": 7, "config": {"seed": seed}} for i in (1, 2)
        ]
        write(trial / "result.json", "\n".join(map(json.dumps, lines)))
    write(trial / "error.txt", "Traceback")
    assert main(["adopt", "ray_results", "--out", "o"]) == 0
    frame = sweep.open("o").frame
    assert set(frame.columns) & {"pid", "config/seed", "training_iteration"} == set()
    assert values("o", "accuracy")["lr-0.1", 1] == 1.2
    assert frame["status"].tolist().count("failed") == 1, "here it is known"


def test_an_export_of_wandb() -> None:
    columns = ("Name", "State", "Runtime", "Created", "lr", "seed", "val_acc", "_step")
    rows = [(f"r{i}", "finished", 10 + i, f"2026-{i}", lr, seed, lr + seed, 99)
            for i, (lr, seed) in enumerate((lr, seed) for lr in (0.1, 0.01) for seed in range(2))]  # fmt: skip
    rows[3] = ("r3", "crashed", 1, "2026-9", 0.01, 1, None, 3)
    table([*rows, ("r9", "running", 1, "2026-9", 0.01, 2, 0.1, 3)], columns, "wandb.csv")
    assert main(["adopt", "wandb.csv", "--out", "o"]) == 0
    frame = sweep.open("o").frame
    assert values("o", "val_acc")["lr-0.1", 1] == 1.1
    assert frame["status"].tolist().count("failed") == 1
    assert "crashed" in " ".join(frame["message"])
    assert "1 of 2 failed, others unknown" in " ".join(
        row["headline"] for row in to_json(sweep.open("o").report)["rows"]
    )


@pytest.mark.filterwarnings("ignore")  # of libraries among themselves
def test_mlflows_own_database_and_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for address, place in ((f"sqlite:///{tmp_path}/mlflow.db", "mlflow.db"), (f"file:{tmp_path}/mlruns", "mlruns")):
        mlflow.set_tracking_uri(address)
        for seed in range(2):
            with mlflow.start_run():
                mlflow.log_params({"seed": seed, "lr": 0.1})
                mlflow.log_metric("val_acc", 0.1, step=0)
                mlflow.log_metric("val_acc", 0.5 + seed, step=1)
        assert main(["adopt", place, "--out", f"o-{place}"]) == 0
        assert sweep.open(f"o-{place}").frame["val_acc"].tolist() == [0.5, 1.5]


@pytest.mark.filterwarnings("ignore")  # of libraries among themselves
def test_what_is_exported_to_mlflow_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    folder_of_runs()
    main(["adopt", PATTERN, "--out", "o"])
    assert main(["export", "o", "--to", "mlflow"]) == 0
    assert main(["adopt", "o-mlflow/mlflow.db", "--variant", "lr", "--out", "p"]) == 0
    assert values("p", "test_acc") == values("o", "test_acc")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["nothing/{seed}.csv"], "there is no nothing"), (["old/{lr}/seed_{seed}/m.csv"], "old/0.01 has"),
        (["no.csv"], "no such file"), (["old"], "a pattern of the files"), ([PATTERN, "--task", "data"], "{data}"),
    ],
)  # fmt: skip
def test_what_cannot_be_found_is_said_with_the_next_step(words: list[str], hint: str, said: Said) -> None:
    folder_of_runs()
    assert main(["adopt", *words, "--out", "o"]) == 2
    assert hint in said()
    assert not Path("o").exists()


def test_gates_hold_for_adopted_results_and_say_what_they_do_not_know(said: Said) -> None:
    rng = np.random.default_rng(4)
    table([(m, s, rng.normal(0.9 if m == "new" else 0.8, 0.01)) for m in ("old", "new") for s in range(10)],
          ("method", "seed", "accuracy"))  # fmt: skip
    main(["adopt", "table.csv", "--out", "o"])
    said()
    assert main(["compare", "o", "--baseline", "old", "--require", "accuracy >= base"]) == 0
    assert "whether runs failed is unknown" in said()
    assert main(["compare", "o", "--baseline", "new", "--require", "accuracy >= base"]) == 1
