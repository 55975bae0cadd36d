"""Scores of items and answers of examples: from a run's call or a program's file to the command's answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from answered import answering, graded
from scipy import stats as oracle

import sweep
from sweep import evaluation
from sweep.cli.app import main
from sweep.errors import SweepError
from sweep.metrics import samples
from sweep.report import ensemble_figures as figures
from sweep.report.html import page
from sweep.report.worded import build
from sweep.store import Member, Store, scores

SEEDS = (3, 1, 2)

pytestmark = pytest.mark.usefixtures("unforked")


def swept(folder: Path, **params: float) -> Store:
    sweep.run(graded, seeds=SEEDS, engine="inline", out=folder, params=params, tasks={})
    return Store.open(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return swept(tmp_path_factory.mktemp("plain") / "a")


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A sweep whose seed 2 failed."""
    return swept(tmp_path_factory.mktemp("lacking") / "a", fails=2)


def test_a_run_keeps_the_score_of_each_item_and_its_mean_is_a_metric(plain: Store) -> None:
    (found,) = evaluation.items(plain, "quiz")
    assert found.seeds == (1, 2, 3)
    assert (found.planned, found.failed, len(found.ids), found.mean.clusters) == (3, 0, 40, 10)
    recorded = {m.seed: m.record.metrics["quiz/score"] for m in plain.scan() if m.record}
    assert [recorded[seed] for seed in found.seeds] == pytest.approx(found.table.mean(axis=1), abs=1e-12)
    assert found.binary
    assert [one.k for one in found.passes] == [1, 3]
    assert found.passes[0].at == pytest.approx(found.mean.mean)
    assert found.passes[0].at == pytest.approx(found.passes[0].all)
    assert evaluation.names(plain) == ["quiz"]
    with pytest.raises(SweepError, match="quiz"):
        evaluation.items(plain, "other")


def test_repeats_within_a_seed_are_the_tries_of_pass_at_k(tmp_path: Path) -> None:
    (found,) = evaluation.items(swept(tmp_path / "a", repeats=4), "quiz", ks=[2])
    assert found.tries == 4
    assert found.passes[0].all < found.mean.mean < found.passes[0].at
    with pytest.raises(SweepError, match="k is 5"):
        evaluation.items(Store.open(tmp_path / "a"), "quiz", ks=[5])


def test_a_failed_seed_is_counted_and_not_averaged(lacking: Store, capfd: pytest.CaptureFixture[str]) -> None:
    (found,) = evaluation.items(lacking, "quiz")
    assert (found.seeds, found.planned, found.failed) == ((1, 3), 3, 1)
    capfd.readouterr()
    assert main(["items", str(lacking.path)]) == 0
    said = capfd.readouterr().out
    assert "n = 2, 1 failed" in said
    assert "1 of 3 planned seeds saved no scores" in said


def test_two_directories_are_paired_by_item_and_by_seed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, two = swept(tmp_path / "a", skill=0.8), swept(tmp_path / "b", skill=0.4)
    (a,), (b,) = evaluation.items(one, "quiz"), evaluation.items(two, "quiz")
    found = evaluation.compare(a, b)
    assert found.paired
    assert found.interval is not None
    assert found.interval.low > 0
    assert found.difference == pytest.approx(a.mean.mean - b.mean.mean)
    wide = evaluation.compare(a, evaluation.items(swept(tmp_path / "c", skill=0.4, items=50), "quiz")[0])
    assert (wide.items, wide.only_a, wide.only_b) == (40, 0, 10)
    capfd.readouterr()
    assert main(["items", str(tmp_path / "a"), "--against", str(tmp_path / "b"), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["against"]["difference"] == pytest.approx(found.difference)
    assert main(["items", str(tmp_path / "a"), "--against", str(tmp_path / "b"), "--format", "latex"]) == 0


def test_the_report_has_a_row_with_the_intervals_over_seeds_items_and_both(
    lacking: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    (found,) = evaluation.items(lacking, "quiz")
    (row,) = sweep.open(lacking.path).report.items
    assert (row.name, row.mean, row.lacking) == ("quiz", found.mean, 1)
    capfd.readouterr()
    for more in ((), ("--full",)):
        assert main(["report", str(lacking.path), *more]) == 0
        said = " ".join(capfd.readouterr().out.split())
        assert "quiz, 40 items" in said
        assert "10 clusters of items count as one draw each" in said
        assert "1 planned seed saved no scores of quiz" in said
    assert main(["report", str(lacking.path), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)["items"][0]["mean"]
    assert found.mean.over_both is not None
    assert told["over_both"]["low"] == found.mean.over_both.low
    assert 'id="items"' in page(lacking)


def test_a_report_with_items_scans_its_directory_once(plain: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, scanned = Store.scan, []

    def counted(self: Store, **asked: bool) -> Iterator[Member]:
        scanned.append(self)
        return scan(self, **asked)

    monkeypatch.setattr(Store, "scan", counted)
    assert build(plain).items
    assert len(scanned) == 1


def scored_as(folder: Path, table: dict[int, list[float]], cluster: list[int] | None = None) -> Store:
    """Return a sweep whose seeds have these scores, one list per seed."""

    def train(run: sweep.Run) -> None:
        score = table[run.seed]
        run.save_scores("quiz", ids=list(range(len(score))), score=score, cluster=cluster)

    sweep.run(train, seeds=table, engine="inline", out=folder)
    return Store.open(folder)


@pytest.mark.usefixtures("quiet")
def test_seeds_with_other_items_have_no_mean_and_the_report_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = scored_as(tmp_path / "a", {0: [1, 0, 1], 1: [1, 0]})
    with pytest.raises(SweepError, match="different items"):
        evaluation.items(store, "quiz")
    capfd.readouterr()
    assert main(["report", str(tmp_path / "a")]) == 0
    assert "different items" in " ".join(capfd.readouterr().out.split())


def test_equal_items_and_seeds_have_intervals_without_width_and_no_flips(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = scored_as(tmp_path / "a", {0: [1, 1, 1, 1], 1: [1, 1, 1, 1], 2: [1, 1, 1, 1]})
    (found,) = evaluation.items(store, "quiz")
    for interval in (found.mean.over_seeds, found.mean.over_items, found.mean.over_both):
        assert interval is not None
        assert (interval.low, interval.high) == (1, 1)
    assert found.flip == 0
    assert [one.at for one in found.passes] == [1, 1]
    compared = evaluation.compare(found, found)
    assert (compared.difference, compared.needed and compared.needed.items) == (0, None)
    capfd.readouterr()
    assert main(["items", str(tmp_path / "a"), "--against", str(tmp_path / "a")]) == 0
    assert "nan" not in capfd.readouterr().out


def test_unknown_clusters_are_said_and_known_ones_count_wherever_they_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scores = {s: np.random.default_rng(s).integers(0, 2, 12).astype(float).tolist() for s in range(3)}
    plain = scored_as(tmp_path / "a", scores)
    known = scored_as(tmp_path / "b", {s: scores[2 - s] for s in range(3)}, [i // 3 for i in range(12)])
    capfd.readouterr()
    assert main(["items", str(tmp_path / "a")]) == 0
    assert "no clusters are known" in capfd.readouterr().out
    (a,), (b,) = evaluation.items(plain, "quiz"), evaluation.items(known, "quiz")
    there, back = evaluation.compare(a, b).interval, evaluation.compare(b, a).interval
    assert there is not None
    assert back is not None
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-9)


@pytest.mark.parametrize(("items", "repeats"), [(1, 1), (1, 3), (2, 1)])
def test_very_few_items_have_an_answer_without_an_interval_that_does_not_exist(
    tmp_path: Path, items: int, repeats: int, capfd: pytest.CaptureFixture[str]
) -> None:
    (found,) = evaluation.items(swept(tmp_path / "a", items=items, repeats=repeats), "quiz")
    assert (found.mean.over_items is None) == (found.mean.clusters == 1)
    assert main(["items", str(tmp_path / "a")]) == 0


def test_what_is_no_score_is_refused_where_it_is_saved() -> None:
    for wrong in (
        {"ids": [1, 2], "score": [1]},
        {"ids": [1, 2], "score": [1, np.nan]},
        {"ids": [1, 2], "score": ["a", "b"]},
        {"ids": [], "score": []},
        {"ids": [1, 1], "score": [1, 0], "cluster": ["a", "b"]},
        {"ids": [1, 1], "score": [1, 0], "repeat": [0, 0]},
        {"ids": [0.5, 1], "score": [1, 0]},
    ):
        with pytest.raises(SweepError):
            scores.checked(**wrong)
    assert scores.mean(scores.checked([1, 1, 2], [1, 0, 1])) == 0.75


HARNESS = [
    {"doc_id": i, "doc": {"q": "?"}, "filter": kind, "exact_match": float(i % 2 == at)}
    for at, kind in enumerate(("strict-match", "flexible-extract"))
    for i in range(4)
]
INSPECT = {
    "samples": [
        {"id": f"q{i}", "epoch": epoch, "scores": {"match": {"value": "C" if (i + epoch) % 2 else "I"}}}
        for i in range(3)
        for epoch in (1, 2)
    ]
}


def test_files_that_evaluations_write_are_read(tmp_path: Path) -> None:
    harness, inspect = tmp_path / "samples.jsonl", tmp_path / "log.json"
    harness.write_text("".join(json.dumps(row) + "\n" for row in HARNESS))
    inspect.write_text(json.dumps(INSPECT))
    found = samples.read(harness, "exact_match", "strict-match", "collect")
    assert found == {"ids": [0, 1, 2, 3], "score": [1.0, 0.0, 1.0, 0.0]}
    with pytest.raises(SweepError, match="once per filter") as refused:
        samples.read(harness, "", "", "collect")
    assert "samples.jsonl:FIELD:strict-match" in str(refused.value)
    log = samples.read(inspect, "", "", "collect")
    assert log["score"] == [1, 0, 0, 1, 1, 0]
    assert log["repeat"] == ["1", "2"] * 3
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"question": 1, "answer": 2}\n')
    with pytest.raises(SweepError, match="question, answer"):
        samples.read(plain, "", "", "collect")
    plain.write_text('{"id": 1, "score": 2}\n{"id": 2, "sc')
    with pytest.raises(SweepError, match="line 2") as refused:
        samples.read(plain, "", "", "collect.scores.quiz")
    assert refused.value.where == "collect.scores.quiz: plain.jsonl"


def test_a_program_names_the_file_of_its_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judge.py").write_text(
        "import json, random, sys\n"
        "random.seed(int(sys.argv[1]))\n"
        "with open(sys.argv[2] + '/samples.jsonl', 'w') as out:\n"
        "    for i in range(20):\n"
        "        print(json.dumps({'doc_id': i, 'acc': random.random() < 0.5}), file=out)\n"
    )
    (tmp_path / "judge.yaml").write_text(
        'command: [python, judge.py, "{seed}", "{dir}"]\nseeds: 0-2\ncollect: {scores: {quiz: samples.jsonl}}\n'
    )
    monkeypatch.chdir(tmp_path)
    assert main(["run", "judge.yaml", "--engine", "inline", "--out", "out"]) == 0
    (found,) = evaluation.items(Store.open(Path("out")), "quiz")
    assert found.table.shape == (3, 20)
    assert {m.record.metrics["quiz/score"] for m in Store.open(Path("out")).scan() if m.record} == {
        float(mean) for mean in found.table.mean(axis=1)
    }


def test_answers_that_depend_on_the_seed_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, doubt in (("a", 0.6), ("b", 0.0), ("c", 0.6)):
        sweep.run(answering, seeds=range(4), engine="inline", out=tmp_path / name, params={"doubt": doubt})
    found = evaluation.answers(Store.open(tmp_path / "a"), {})
    assert set(found.arbitrary) <= set(range(30, 60))
    assert found.votes.arbitrary == len(found.arbitrary) / 60
    assert found.abstention.coverage[-1] == 1
    assert found.abstention.accuracy[0] >= found.abstention.accuracy[-1]
    sure = evaluation.answers(Store.open(tmp_path / "b"), {})
    assert sure.arbitrary.size == 0
    assert evaluation.between(found, sure).churn.interval is not None
    same = evaluation.between(found, evaluation.answers(Store.open(tmp_path / "c"), {}))
    assert same.churn.interval is not None
    assert 0 in same.churn.interval
    for other in ("b", "c"):
        capfd.readouterr()
        assert main(["examples", str(tmp_path / "a"), "--against", str(tmp_path / other)]) == 0
        assert "depend on the seed" in capfd.readouterr().out
    assert main(["examples", str(tmp_path / "b"), "--format", "md"]) == 0
    assert "all members give the same answer" in capfd.readouterr().out
    shown = page(Store.open(tmp_path / "a"))
    assert "Answers on which members agree" in shown
    assert "most arbitrary examples" in shown


def voting(folder: Path, answers: dict[int, list[int] | None], targets: list[int]) -> Store:
    """Return a sweep whose seeds gave these answers; a seed of None fails."""

    def train(run: sweep.Run) -> None:
        said = answers[run.seed]
        if said is None:
            raise RuntimeError("no answer")
        run.save_predictions("test", ids=range(len(targets)), targets=targets, probs=np.eye(3)[said])
        run.log({"test/accuracy": float(np.mean(np.equal(said, targets)))}, step=1)

    sweep.run(train, seeds=answers, engine="inline", out=folder)
    return Store.open(folder)


def test_votes_of_few_members_are_what_a_count_by_hand_gives(tmp_path: Path) -> None:
    store = voting(tmp_path / "a", {0: [0, 1, 2, 0], 1: [0, 1, 1, 1], 2: [0, 2, 2, 2], 3: None}, [0, 1, 2, 0])
    with pytest.raises(SweepError, match="seed3"):
        evaluation.answers(store, {})
    found = evaluation.answers(store, {"allow_missing": True})
    assert [one for one, _ in found.missing] == ["seed3"]
    assert found.votes.members == 3
    assert found.votes.arbitrary == 0.75
    assert found.votes.share == pytest.approx([1, 2 / 3, 2 / 3, 1 / 3], abs=1e-9)
    assert found.votes.unequal == pytest.approx([0, 2 / 3, 2 / 3, 1], abs=1e-9)
    assert found.arbitrary.tolist() == [3, 1, 2]
    assert found.abstention.coverage == pytest.approx([0.25, 0.75, 1], abs=1e-9)
    assert found.abstention.accuracy == pytest.approx([1, 1, 1], abs=1e-9)
    low = oracle.binomtest(3, 3).proportion_ci(method="exact").low
    assert found.abstention.low[1] == pytest.approx(low, abs=1e-9)


@pytest.mark.parametrize("answers", [[[0], [0]], [[0], [1]], [[0, 1, 2], [0, 1, 2]]])
def test_one_example_and_equal_members_have_an_answer(
    tmp_path: Path, answers: list[list[int]], capfd: pytest.CaptureFixture[str]
) -> None:
    store = voting(tmp_path / "a", dict(enumerate(answers)), answers[0])
    found = evaluation.answers(store, {})
    assert found.votes.arbitrary == float(np.mean(np.not_equal(*answers)))
    assert main(["examples", str(tmp_path / "a"), "--against", str(tmp_path / "a")]) == 0
    assert "nan" not in capfd.readouterr().out.lower()
    figures.agreement(found)  # one level of agreement is a dot


def test_members_that_answered_other_examples_are_refused_by_name(tmp_path: Path) -> None:
    def train(run: sweep.Run) -> None:
        count = 5 if run.seed == 2 else 6
        run.save_predictions("test", ids=range(count), targets=[0] * count, probs=np.eye(3)[[0] * count])
        run.log({"test/accuracy": 1.0}, step=1)

    sweep.run(train, seeds=range(3), engine="inline", out=tmp_path)
    with pytest.raises(SweepError, match="seed2"):
        evaluation.answers(Store.open(tmp_path), {})


def test_a_single_member_agrees_with_nobody(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="2 members"):
        evaluation.answers(voting(tmp_path / "a", {0: [0, 1]}, [0, 1]), {})
