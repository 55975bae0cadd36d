"""Seeds until the answer is known: what a rule sees, which seeds it asks for, and what it may claim."""

from __future__ import annotations

import json
import math
import random
import shlex
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from finished import accuracies, failure, normal, planned, put, sweep_of

import sweep
from sweep import forkserver, report
from sweep.analysis import adaptive as until
from sweep.cli.app import main
from sweep.config import from_dict
from sweep.errors import ConfigError
from sweep.plan import Cell, Plan, Target
from sweep.results import open as results
from sweep.stats import more_seeds, order_rule, sequence_interval, width_rule
from sweep.store import Predictions, Store

pytestmark = pytest.mark.usefixtures("unforked")


def noisy(run, *, shift=0.0, sd=0.01):
    return {"test/accuracy": 0.9 + shift + random.Random(f"{run.seed}/{shift}").gauss(0, sd)}


def constant(run):
    return {"test/accuracy": 0.9}


def failing(run):
    if run.seed == 2:
        raise ValueError("no luck")
    return noisy(run)


def misnamed(run):
    return {"test/acc": 0.9 + run.seed / 100}


def trained(function, path, rule, *, seeds=(10, 11, 12), max_seeds=40, **settings):
    return sweep.run(
        function, seeds=list(seeds), out=path, engine="inline", until=rule, max_seeds=max_seeds,
        primary="test/accuracy", on_event=lambda event: None, **settings,
    )  # fmt: skip


def order_of(store):
    """Values in planned order."""
    found = {m.seed: m.record.metrics["test/accuracy"] for m in store.scan() if m.status == "ok"}
    return [found.get(seed, math.nan) for seed in store.manifest.seeds]


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    return trained(noisy, tmp_path_factory.mktemp("met") / "d", "test/accuracy ± 0.008").store


def test_a_width_is_met_and_four_more_seeds_follow(met):
    kept = met.manifest.until
    values = order_of(met)
    state = width_rule(values, 0.008, max_seeds=40)
    assert state.state == kept["state"] == "met"
    assert len(values) == state.met_at + 4 == state.used
    assert kept["counted"] == list(met.manifest.seeds)
    assert (kept["rule"], kept["max_seeds"], kept["alpha"]) == ("test/accuracy ± 0.008", 40, 0.05)
    # A seed fewer would not have been enough: the rule stopped at its first look that met the width.
    assert width_rule(values[: state.met_at - 1], 0.008, max_seeds=40).state == "running"


def test_the_seeds_it_adds_are_the_smallest_unused_and_logged_as_its_own(met):
    added = met.manifest.seeds[3:]
    assert list(added) == more_seeds((10, 11, 12), len(added))
    assert {entry.note for entry in met.manifest.seed_log[1:]} == {"until"}
    assert met.manifest.extensions == 0


def test_the_report_gives_the_asked_width_and_calls_the_t_interval_descriptive(met):
    made = report.build(met)
    assert "± 0.0080 (95 % CI over seeds" in made.headline
    assert "fixed-width rule" in made.headline
    assert "only descriptive" in made.stopping
    assert made.rows[0].half_width != pytest.approx(0.008)
    assert "a rule chose the number of seeds" in report.markdown(made)


def test_the_same_command_again_trains_nothing(met, tmp_path):
    shutil.copytree(met.path, tmp_path / "d")
    again = trained(noisy, tmp_path / "d", "test/accuracy ± 0.008").store
    assert again.manifest.seeds == met.manifest.seeds
    assert again.manifest.until == met.manifest.until
    assert not again.manifest.until["named_late"]


def test_a_rule_named_after_results_existed_says_so(tmp_path):
    sweep.run(noisy, seeds=[0, 1, 2], out=tmp_path / "d", engine="inline", on_event=lambda event: None)
    store = trained(noisy, tmp_path / "d", "test/accuracy ± 0.01", seeds=[0, 1, 2]).store
    assert store.manifest.until["named_late"]
    said = "the stopping rule was named after results existed: its result does not account for that look"
    assert said in " ".join(report.text(report.build(store)).split())
    assert "it was named after results existed" in report.markdown(report.build(store))


def test_a_launch_that_died_before_its_first_look_had_named_its_rule_in_time(tmp_path):
    rule = "test/accuracy ± 0.01"
    config = {"seeds": [0, 1, 2], "until": rule, "max_seeds": 40, "primary": "test/accuracy"}

    def dies(event):
        if type(event).__name__ == "Finished":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(noisy, out=tmp_path / "d", engine="inline", on_event=dies, **config)
    stopped = Store.open(tmp_path / "d")
    assert any(member.record is not None for member in stopped.scan())
    assert not stopped.manifest.until
    store = trained(noisy, tmp_path / "d", rule, seeds=[0, 1, 2]).store
    assert store.manifest.until["state"] == "met"
    assert not store.manifest.until["named_late"]
    assert not any("named after" in said for said in report.build(store).warnings)


def test_another_rule_later_is_on_the_record(tmp_path):
    trained(noisy, tmp_path / "d", "test/accuracy ± 0.02")
    store = trained(noisy, tmp_path / "d", "test/accuracy ± 0.01").store
    assert store.manifest.until["before"] == ["test/accuracy ± 0.02"]
    assert store.manifest.until["named_late"]


def test_no_spread_never_stops_before_the_cap(tmp_path):
    store = trained(constant, tmp_path / "d", "test/accuracy ± 0.5", max_seeds=9).store
    assert len(store.manifest.seeds) == 9
    assert store.manifest.until["state"] == "not reached"
    assert "not reached with 9 seeds" in report.build(store).stopping


def test_a_failed_seed_uses_its_place_and_gives_no_number(tmp_path):
    store = trained(failing, tmp_path / "d", "test/accuracy ± 0.01", seeds=[0, 1, 2]).store
    cell = store.manifest.until["cells"][0]
    assert cell["used"] == cell["n"] + 1
    assert "of finished runs" in report.build(store).headline


def test_a_metric_that_no_run_reports_ends_it_at_the_first_look(tmp_path):
    store = trained(misnamed, tmp_path / "d", "test/accuracy ± 0.006").store
    assert len(store.manifest.seeds) <= 9
    assert store.manifest.until["state"] == "incomplete"
    assert "no run reports test/accuracy" in report.build(store).stopping


@pytest.mark.parametrize(("gap", "verdict"), [(0.03, "A > B"), (-0.03, "B > A"), (0.0, "not reached")])
def test_an_order_ends_with_the_sequence_it_was_decided_by(tmp_path, gap, verdict):
    grid = {"params.shift": [gap, 0.0001]}
    store = trained(noisy, tmp_path / "d", "test/accuracy: A > B", grid=grid, max_seeds=10).store
    kept = store.manifest.until
    assert kept["state"] == ("not reached" if verdict == "not reached" else kept["cells"][0]["state"])
    assert kept["cells"][0]["state"] == verdict
    a, b = (
        [m.record.metrics["test/accuracy"] for m in store.scan() if m.variant == cell["variant"]]
        for cell in store.manifest.experiment["cells"]
    )
    expected = sequence_interval(np.array(a) - np.array(b))
    assert kept["cells"][0]["interval"]["low"] == pytest.approx(expected.low)
    assert results(tmp_path / "d").compare().pairs[0].interval.low == pytest.approx(expected.low)
    state = order_rule(np.array(a), np.array(b), max_seeds=10)
    assert len(store.manifest.seeds) == state.used


# Only completed prefixes, whatever runs and whatever ended first.


def rule_and_directory(tmp_path, outcome, seeds, rule="test/accuracy ± 0.006", most=40):
    config = from_dict({"until": rule, "max_seeds": most, "seeds": list(seeds), "train": "made:up"})
    plan = replace(planned(seeds, ("",), ("",), 1, deterministic=False), config=config)
    more = until.waves(plan, tmp_path / "d")
    return more, sweep_of(tmp_path / "d", outcome, seeds=seeds)


def test_a_look_sees_the_completed_prefix_only(tmp_path):
    """Seed 1 still runs: what ended after it is not looked at, though nine are done."""
    values = {s: normal(s, sd=0.001) for s in range(10) if s != 1}
    _, store = rule_and_directory(tmp_path, accuracies(values), range(10))
    config = from_dict({"until": "test/accuracy ± 0.006", "max_seeds": 40, "train": "made:up"})
    rule = until.rule_of(replace(planned(range(10), ("",), ("",), 1, deterministic=False), config=config))
    look = until.look(rule, store.scan(), store.manifest.seeds)[0]
    assert (look.state.state, look.state.used) == ("running", 1)
    # The negative control: with seed 1 there, the same directory meets the width.
    put(store, next(s for s in planned([1], ("",), ("",), 1, deterministic=False)), {"metrics": {"test/accuracy": 0.9}})
    assert until.look(rule, store.scan(), store.manifest.seeds)[0].state.state == "met"


def test_nothing_certain_is_withheld_and_idle_slots_are_bounded(tmp_path):
    """Five seeds are planned and none is done: nine are certain; then idle slots get up to twice what is done."""
    more, store = rule_and_directory(tmp_path, lambda spec: None, range(5))
    assert list(more(store)) == [5, 6, 7, 8]
    store.extend([5, 6, 7, 8], note="until")
    asked = []
    while found := more(store):
        asked += found
        store.extend(found, note="until")
    assert asked == list(range(9, 18))


def test_seeds_beyond_the_stop_are_shown_not_counted(tmp_path):
    values = {s: normal(s, sd=0.001) for s in range(20)}
    more, store = rule_and_directory(tmp_path, accuracies(values), range(20))
    assert list(more(store)) == []
    kept = store.manifest.until
    assert kept["counted"] == list(range(9))
    assert "11 further seeds shown but not counted" in report.build(store).stopping
    assert kept["cells"][0]["mean"] == pytest.approx(np.mean([values[s] for s in range(9)]))
    assert "n = 9," in report.build(store).headline


def test_a_lost_seed_ends_as_incomplete(tmp_path):
    def outcome(spec):
        return {"lost": True} if spec.seed == 6 else {"metrics": {"test/accuracy": normal(spec.seed)}}

    more, store = rule_and_directory(tmp_path, outcome, range(9), rule="test/accuracy ± 0.0001")
    assert list(more(store)) == []
    assert store.manifest.until["state"] == "incomplete"


def test_a_spread_below_one_example_is_none(tmp_path):
    """Four test examples: an accuracy moves in steps of a quarter, and its spread cannot be less than that of one."""

    def outcome(spec):
        ids = np.arange(4)
        probs = np.eye(2)[[0, 0, 0, spec.seed % 9 == 0]]
        found = Predictions(ids=ids, targets=np.zeros(4, dtype=np.int64), probs=probs)
        return {"metrics": {"test/accuracy": 0.75 if spec.seed % 9 == 0 else 1.0}, "predictions": {"test": found}}

    store = sweep_of(tmp_path / "d", outcome, seeds=range(9))
    assert until.quantum(store, list(store.scan()), "test/accuracy") == 0.25
    assert until.quantum(store, list(store.scan()), "test/nll") == 0.0


# What is refused before anything starts.

CELLS = [{"params.lr": 0.1}, {"params.lr": 0.2}]


GRID = {"params.lr": [0.1, 0.2]}


def plan_of(*cells, tasks=("",)):
    made = tuple(
        Cell(f"lr-{c['params.lr']}-00000{i}", t, {key.removeprefix("params."): value for key, value in c.items()})
        for t in tasks
        for i, c in enumerate(cells)
    )
    return Plan(from_dict({"train": "made:up"}), Target("function", "made:up"), made, "cpu")


@pytest.mark.parametrize(
    ("rule", "most", "plan", "message"),
    [
        ("test/accuracy ± 0.01", 8, plan_of(*CELLS), "the rule first looks at 5 seeds and adds 4 more"),
        ("test/accuracy: A > B", 5, plan_of(*CELLS), "the rule first looks at 6 seeds"),
        ("test/accuracy: lr-0.1 > lr-0.3", 20, plan_of(*CELLS), "'lr-0.3' is not a variant"),
        ("test/accuracy: 0.1 > lr=0.1", 20, plan_of(*CELLS), "are the same variant"),
        ("test/accuracy: A > B", 20, plan_of(*CELLS, tasks=("t", "u")), "for one task only"),
        ("test/accuracy: A > C", 20, plan_of(*CELLS), "'C' is not a variant"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(rule, most, plan, message):
    config = from_dict({"until": rule, "max_seeds": most, "train": "made:up", "grid": GRID})
    with pytest.raises(ConfigError, match=message):
        until.rule_of(replace(plan, config=config))


@pytest.mark.parametrize(
    ("first", "second"),
    [("A", "B"), ("0.1", "0.2"), ("lr-0.1", "lr=0.2"), ("lr-0.1-000000", "B"), ("params.lr=0.1", "lr=0.2")],
)
def test_variants_are_found_by_what_people_call_them(first, second):
    config = from_dict({"until": f"test/accuracy: {first} > {second}", "train": "made:up", "grid": GRID})
    rule = until.rule_of(replace(plan_of(*CELLS), config=config))
    assert (rule.first, rule.second) == ("lr-0.1-000000", "lr-0.2-000001")


def test_variants_of_several_parameters_are_called_as_in_a_report():
    cells = [{"params.lr": lr, "params.depth": depth} for lr in (0.1, 0.2) for depth in (2, 4)]
    grid = {"params.lr": [0.1, 0.2], "params.depth": [2, 4]}
    for rule in ("test/accuracy: lr=0.1 depth=4 > lr=0.2 depth=2", "test/accuracy: B > C"):
        config = from_dict({"until": rule, "train": "made:up", "grid": grid})
        found = until.rule_of(replace(plan_of(*cells), config=config))
        assert (found.first, found.second) == ("lr-0.1-000001", "lr-0.2-000002")


# Through the command line.

TOY = """\
import random
def train(run, *, shift=0.0):
    return {"test/accuracy": 0.9 + shift + random.Random(f"{run.seed}/{shift}").gauss(0, 0.01)}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "until_toy.py").write_text(TOY)
    (tmp_path / "toy.yaml").write_text("train: until_toy:train\nprimary: test/accuracy\n")
    return tmp_path


def test_until_on_the_command_line(folder, capsys):
    arguments = ["run", "toy.yaml", "--seeds", "0-4", "--engine", "inline", "--json"]
    assert main([*arguments, "--until", "test/accuracy +- 0.008", "--max-seeds", "30"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["until"]["state"] == "met"
    assert len(body["seeds"]) == body["until"]["cells"][0]["met_at"] + 4
    assert main([*arguments, "--until", "test/accuracy +- 0.008", "--max-seeds", "6"]) == 2
    assert main([*arguments, "--until", "as long as you like"]) == 2


def test_a_grid_to_a_comparison_to_a_gate(folder, capsys):
    run = ["run", "toy.yaml", "params.shift=0.05,0", "--seeds", "0-5", "--engine", "inline", "--out", "both"]
    assert main(run) == 0
    assert "sweep compare both" in capsys.readouterr().out
    assert main(["compare", "both", "--baseline", "shift-0"]) == 0
    assert "shift=0.05 is better than shift=0 in test/accuracy" in capsys.readouterr().out
    gate = ["compare", "both", "--baseline", "shift-0", "--require"]
    assert main([*gate, "test/accuracy >= base"]) == 0
    assert main([*gate, "test/accuracy >= base + 0.2"]) == 1
    capsys.readouterr()
    assert main(["report", "both", "--group-by", "shift", "--json"]) == 0
    labels = [row["label"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert labels == ["shift=0", "shift=0.05"]
    assert Store.open("both").manifest.extensions == 0


def test_failures_are_no_reason_to_stop_looking(tmp_path):
    """All seeds fail: no number, no stop, and the cap is said."""

    def outcome(spec):
        return {"failure": failure()}

    more, store = rule_and_directory(tmp_path, outcome, range(12), most=12)
    assert list(more(store)) == []
    assert store.manifest.until["state"] == "not reached"


@pytest.mark.ray
def test_on_ray_the_same_seeds_count_though_others_ran_beside(tmp_path, monkeypatch):
    """Idle slots are given further seeds; which of them count is what one worker alone would have found."""

    def train(run):  # of this test alone, so that it travels to the workers by value
        import random
        import time

        own = random.Random(run.seed)
        time.sleep(own.random() / 20)
        return {"test/accuracy": own.gauss(0.9, 0.01)}

    settings = {"seeds": [10, 11, 12], "until": "test/accuracy ± 0.01", "max_seeds": 40, "primary": "test/accuracy"}
    alone = sweep.run(train, out=tmp_path / "one", engine="inline", on_event=lambda event: None, **settings).store
    monkeypatch.setattr(forkserver, "POSSIBLE", sys.platform == "linux")
    beside = sweep.run(train, out=tmp_path / "ray", jobs=2, on_event=lambda event: None, **settings).store
    assert beside.manifest.until["state"] == "met"
    assert beside.manifest.until["counted"] == alone.manifest.until["counted"]
    assert beside.manifest.until["cells"][0]["mean"] == alone.manifest.until["cells"][0]["mean"]
    assert all(member.status == "ok" for member in beside.scan())


def test_the_rule_that_a_comparison_proposes_names_variants_as_it_does_and_runs(folder, capsys):
    (folder / "toy.yaml").write_text(
        "train: until_toys:train\ngrid: {params.shift: [0.0, 0.001], params.more: [1, 2]}\n"
    )
    toy = TOY.replace("shift=0.0)", "shift=0.0, more=1)").replace("{run.seed}/{shift}", "{run.seed}/{shift}/{more}")
    (folder / "until_toys.py").write_text(toy)
    assert main(["run", "toy.yaml", "--seeds", "0-4", "--engine", "inline"]) == 0
    capsys.readouterr()
    assert main(["compare", "runs/toy", "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    plans = [line for pair in pairs for line in pair["plan"] if "--until" in line]
    assert any("shift=0.0 more=1 > shift=0.0 more=2" in plan for plan in plans)
    words = shlex.split(plans[0].partition(": ")[2])
    assert words[:2] == ["sweep", "resume"]
    words[words.index("--max-seeds") + 1] = "6"
    assert main([*words[1:], "--engine", "inline", "--trust"]) == 0
