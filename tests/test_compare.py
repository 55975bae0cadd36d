"""Is A better than B: the design, what counts, what is refused, and what failures do to the answer."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from finished import accuracies, failure, normal, put, sweep_of

from sweep import report
from sweep.analysis.compare import best as best_of
from sweep.cli.app import main
from sweep.errors import ConfigError, StatisticsError
from sweep.report import comparison
from sweep.report.intervals import limits
from sweep.stats import (
    failure_difference,
    paired_t,
    sequence_interval,
    sign_flip_test,
    superiority,
    welch,
)
from sweep.store import Predictions, Store

A, B, C = "lr-0.1-00000a", "lr-0.01-00000b", "lr-1-00000c"
SHIFT = {A: 0.02, B: 0.0, C: 0.001}


def value(seed, variant, sd=0.004):
    """A number that shares something with the other variants of its seed, and something not."""
    own = np.random.default_rng([seed, *variant.encode()]).normal(0, sd)
    return normal(seed, 0.9, 0.005) + SHIFT.get(variant, 0.0) + float(own)


def accuracy(spec):
    return {"metrics": {"test/accuracy": value(spec.seed, spec.variant)}}


def grid(path, outcome=accuracy, variants=(A, B), seeds=range(10), **options):
    return sweep_of(path, outcome, seeds=seeds, variants=variants, **options)


def values(variant, seeds=range(10)):
    return [value(seed, variant) for seed in seeds]


class Said:
    """A pair with what is said of it."""

    def __init__(self, found, at):
        self.pair, self.body = found.pairs[at], comparison.to_json(found)["pairs"][at]

    def __getattr__(self, name):
        return getattr(self.pair, name) if hasattr(self.pair, name) else self.body[name]


def only(found):
    assert len(found.pairs) == 1
    return Said(found, 0)


def test_variants_of_one_directory_are_paired_by_seed(tmp_path):
    pair = only(comparison.compare(grid(tmp_path / "d")))
    expected = paired_t(values(A), values(B))
    assert pair.difference == expected
    assert pair.interval == expected.interval
    assert pair.p_holm == expected.p
    assert pair.permutation == sign_flip_test(values(A), values(B))
    assert pair.superiority == superiority(values(A), values(B), higher_is_better=True)
    assert pair.wins is not None
    assert pair.verdict == "a"
    assert pair.sentence.startswith("lr-0.1 is better than lr-0.01 in test/accuracy by 0.0")


def test_unpaired_is_welch_and_has_no_same_seed_wins(tmp_path):
    pair = only(comparison.compare(grid(tmp_path / "d"), paired=False))
    assert pair.difference == welch(values(A), values(B))
    assert pair.wins is None


def test_directories_with_other_seeds_are_unpaired_and_with_the_same_seeds_paired(tmp_path):
    one = sweep_of(tmp_path / "one", accuracies({s: normal(s) for s in range(6)}), seeds=range(6))
    same = sweep_of(tmp_path / "same", accuracies({s: normal(s + 50) for s in range(6)}), seeds=[5, 4, 3, 2, 1, 0])
    other = sweep_of(tmp_path / "other", accuracies({s: normal(s + 90) for s in range(4, 10)}), seeds=range(4, 10))
    assert only(comparison.compare(one, same)).paired
    found = comparison.compare(one, other)
    assert not found.pairs[0].paired
    assert found.why == "unpaired: the planned seeds differ"
    assert found.arms == ("one", "other")


def test_the_sentence_turns_with_the_direction_of_the_metric(tmp_path):
    def loss(spec):
        return {"metrics": {"test/nll": value(spec.seed, spec.variant)}}

    pair = only(comparison.compare(grid(tmp_path / "d", loss, config={"primary": "test/nll"})))
    assert pair.verdict == "a"  # the larger mean
    assert pair.sentence.startswith("lr-0.01 is better than lr-0.1 in test/nll by 0.0")
    assert "CI +0.0" in pair.sentence
    assert pair.superiority.probability < 0.5


def test_a_metric_without_a_direction_is_never_called_better(tmp_path):
    def unknown(spec):
        return {"metrics": {"my_metric": value(spec.seed, spec.variant)}}

    pair = only(comparison.compare(grid(tmp_path / "d", unknown, config={"primary": "my_metric"})))
    assert "better" not in pair.sentence
    assert "my_metric of lr-0.1 is larger than that of lr-0.01" in pair.sentence
    assert pair.a.best is None


def test_holm_and_bonferroni_are_over_all_pairs(tmp_path):
    found = comparison.compare(grid(tmp_path / "d", variants=(A, B, C)))
    assert [(p.a.name, p.b.name) for p in found.pairs] == [
        ("lr-0.1", "lr-0.01"), ("lr-0.1", "lr-1"), ("lr-0.01", "lr-1"),
    ]  # fmt: skip
    for pair in found.pairs:
        assert pair.p_holm >= pair.difference.p
        assert pair.simultaneous.level == pytest.approx(1 - 0.05 / 3)
        assert pair.simultaneous.half_width > pair.interval.half_width
    smallest = min(found.pairs, key=lambda p: p.difference.p)
    assert smallest.p_holm == pytest.approx(3 * smallest.difference.p)


def test_tables_of_several_pairs_set_bonferroni_beside_holm(tmp_path):
    found = comparison.compare(grid(tmp_path / "d", variants=(A, B, C)))
    pair = found.pairs[0]
    sure, alone = (limits(one, 4, sign=True) for one in (pair.simultaneous, pair.interval))
    assert sure != alone  # the negative control
    for told in (comparison.markdown(found), comparison.latex(found).replace("\\%", "%"), comparison.text(found)):
        assert "Bonferroni 98.33 % CI" in told
        assert sure in told
    assert alone not in comparison.markdown(found)
    assert "hold for all of them together at 95 %" in comparison.markdown(found)
    assert "Bonferroni" not in comparison.markdown(comparison.compare(grid(tmp_path / "two")))


def test_many_arms_are_ranked_and_only_what_is_significant_is_told(tmp_path):
    sames = [f"same-{i}-{i:06x}" for i in range(3)]

    def outcome(spec):
        rng = np.random.default_rng([spec.seed, int(spec.variant[-1], 16)])
        return {"metrics": {"test/accuracy": 0.9 - 0.5 * (spec.variant == sames[2]) + 0.01 * rng.normal()}}

    found = comparison.compare(grid(tmp_path / "d", outcome, variants=sames))
    lines = [line.strip() for line in comparison.text(found, width=200).splitlines()]
    assert [p.verdict for p in found.pairs] == ["none", "a", "a"]
    best, other = sorted("AB", key=lambda one: -found.pairs[0].a.mean if one == "A" else -found.pairs[0].b.mean)
    lead = next(
        line for line in lines if line.startswith(f"{best} (same-{'AB'.index(best)}) is best: test/accuracy 0.")
    )
    assert lead.endswith("; 1 other is not distinguishable from it")
    assert lines[-1] == lead
    assert sum(" is better than " in line for line in lines) == 2
    assert not any("no difference" in line for line in lines)
    assert [line[0] for line in lines if re.match(r"[ABC]  same-", line)] == [best, other, "C"]
    matrix = lines[lines.index("A  B  C") + 1 :][:3]
    assert [line.split() for line in matrix] == [["A", "·", "A"], ["B", "·", "B"], ["C", "A", "B"]]


@pytest.mark.parametrize("variants", [(A, B), (A, B, C)])
def test_a_difference_that_is_equal_on_every_seed_is_said_alike_by_report_and_comparison(tmp_path, variants):
    def outcome(spec):
        return {"metrics": {"test/accuracy": normal(spec.seed) + (0.125 if spec.variant == A else 0.0)}}

    store = grid(tmp_path / "d", outcome, variants=variants)
    pair = comparison.to_json(comparison.compare(store))["pairs"][0]
    reason = "on every seed: without spread there is nothing to test it against"
    assert reason in pair["sentence"]
    views = [report.brief_text(report.build(store), width=300)]
    views += [comparison.text(comparison.compare(store), width=300)] if len(variants) > 2 else []
    for text in views:
        who = "the other differs" if len(variants) == 2 else "both others differ"
        assert f"; {who} from it by the same amount {reason}" in text
        assert "distinguishable" not in text
    if len(variants) > 2:
        against = comparison.text(comparison.compare(store, baseline="lr-1"), width=300)
        assert "2 different by the same amount on every seed (lr-0.1, lr-0.01)" in against


def test_arms_against_a_baseline_are_counted(tmp_path):
    found = comparison.compare(grid(tmp_path / "d", variants=(A, B, C)), baseline="B")
    assert "of 2 arms compared with lr-0.01: " in comparison.text(found)
    assert " is best" not in comparison.text(found)


def test_with_failures_no_arm_is_called_best(tmp_path):
    def outcome(spec):
        return {"failure": failure()} if (spec.variant, spec.seed) == (B, 3) else accuracy(spec)

    text = comparison.text(comparison.compare(grid(tmp_path / "d", outcome, variants=(A, B, C))), width=200)
    assert " has the best mean of finished runs: test/accuracy" in text
    assert " is best" not in text
    assert text.count("Fisher's exact") == 1  # in the pair whose means differ; the table of arms counts all failures
    assert "1 of 10" in text


def test_one_pair_that_alone_would_pass_does_not_pass_among_many(tmp_path):
    """Twelve equal variants: without Holm some pair of 66 would nearly always be called different."""
    variants = [f"same-{i:06x}" for i in range(12)]
    found = comparison.compare(grid(tmp_path / "d", variants=variants, seeds=range(8)))
    assert any(pair.difference.p < 0.05 for pair in found.pairs)  # the negative control
    assert all(pair.verdict == "none" for pair in found.pairs)
    assert "not significant after Holm correction" in " ".join(
        pair["sentence"] for pair in comparison.to_json(found)["pairs"]
    )


@pytest.mark.parametrize("name", ["lr-0.01", B, "0.01", "2", "B"])
def test_a_baseline_is_found_by_what_people_call_it(tmp_path, name):
    found = comparison.compare(grid(tmp_path / "d", variants=(A, B, C)), baseline=name)
    assert [(p.a.name, p.b.name) for p in found.pairs] == [("lr-0.1", "lr-0.01"), ("lr-1", "lr-0.01")]


def test_an_unknown_baseline_is_refused_with_the_names(tmp_path):
    with pytest.raises(ConfigError, match="'lr-7' is not a configuration here") as caught:
        comparison.compare(grid(tmp_path / "d"), baseline="lr-7")
    assert "lr-0.1, lr-0.01" in str(caught.value)


def test_failures_come_before_means(tmp_path):
    def outcome(spec):
        if spec.variant == A and spec.seed in (2, 5):
            return {"failure": failure("diverged", "loss is nan"), "metrics": {"test/accuracy": math.nan}}
        return accuracy(spec)

    pair = only(comparison.compare(grid(tmp_path / "d", outcome)))
    kept = [s for s in range(10) if s not in (2, 5)]
    with_failures = [math.nan if s in (2, 5) else value(s, A) for s in range(10)]
    assert pair.failures == failure_difference(2, 10, 0, 10)
    assert pair.superiority.probability == pytest.approx(
        superiority(with_failures, values(B), higher_is_better=True).probability
    )
    assert pair.difference == paired_t(values(A, kept), values(B, kept))
    assert pair.over == "finished pairs only"
    assert pair.sentence.startswith("2 of 10 seeds of lr-0.1 failed, and 0 of 10 of lr-0.01")
    assert "Over finished pairs only: lr-0.1 is better" in pair.sentence
    assert not pair.plan


def test_dropping_failures_would_have_turned_the_answer(tmp_path):
    """A fails on half of its seeds and gains on the rest: by P over all seeds it is not the better one."""

    def outcome(spec):
        return {"failure": failure()} if spec.variant == A and spec.seed % 2 else accuracy(spec)

    pair = only(comparison.compare(grid(tmp_path / "d", outcome)))
    kept = values(A, range(0, 10, 2))
    assert superiority(kept, values(B), higher_is_better=True).probability > 0.9
    assert pair.superiority.probability < 0.55


# Ragged directories, each with its stated result.


def test_one_seed_shows_nothing(tmp_path):
    pair = only(comparison.compare(grid(tmp_path / "d", seeds=[0])))
    assert pair.interval is None
    assert pair.verdict == "none"
    assert "one seed has no spread: this shows nothing" in pair.sentence


def test_no_spread_shows_nothing(tmp_path):
    def constant(spec):
        return {"metrics": {"test/accuracy": 0.9 if spec.variant == A else 0.8}}

    pair = only(comparison.compare(grid(tmp_path / "d", constant)))
    assert pair.p_holm is None
    assert pair.verdict == "none"
    assert "without spread there is nothing to test it against" in pair.sentence


def test_an_arm_that_failed_whole_has_no_mean_but_a_failure_rate(tmp_path):
    pair = only(
        comparison.compare(grid(tmp_path / "d", lambda s: {"failure": failure()} if s.variant == A else accuracy(s)))
    )
    assert pair.difference is None
    assert pair.failures.estimate == 1
    assert pair.superiority.probability == 0
    assert "lr-0.1 has no value of it" in pair.sentence


def test_unequal_seeds_of_variants_pair_what_both_have(tmp_path):
    def outcome(spec):
        return None if spec.variant == B and spec.seed > 6 else accuracy(spec)

    found = comparison.compare(grid(tmp_path / "d", outcome))
    pair = only(found)
    assert pair.difference == paired_t(values(A, range(7)), values(B, range(7)))
    assert (pair.a.n, pair.b.n, pair.b.pending) == (10, 7, 3)
    assert "part of the plan" in found.warnings[0]


def test_a_metric_missing_in_some_seeds_is_counted_not_imputed(tmp_path):
    def outcome(spec):
        return {"metrics": {"test/nll": 1.0}} if spec.seed == 4 and spec.variant == A else accuracy(spec)

    pair = only(comparison.compare(grid(tmp_path / "d", outcome)))
    assert pair.a.missing == 1
    assert pair.difference.n_a == 9
    assert pair.failures is None


def test_an_infinite_value_is_no_number(tmp_path):
    def outcome(spec):
        return {"metrics": {"test/accuracy": math.inf}} if spec.seed == 4 and spec.variant == A else accuracy(spec)

    pair = only(comparison.compare(grid(tmp_path / "d", outcome)))
    assert pair.a.missing == 1
    assert math.isfinite(pair.difference.estimate)


def test_a_single_configuration_and_the_same_directory_twice_are_refused(tmp_path):
    store = sweep_of(tmp_path / "d", accuracies({0: 0.9, 1: 0.8}), seeds=(0, 1))
    with pytest.raises(StatisticsError, match="nothing to compare it with"):
        comparison.compare(store)
    with pytest.raises(StatisticsError, match="named twice"):
        comparison.compare(store, Store.open(tmp_path / "d"))


def test_an_unknown_metric_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="no run reports 'test/accurracy'"):
        comparison.compare(grid(tmp_path / "d"), metric="test/accurracy")


# Looking and adding seeds.


def extended(path, outcome=accuracy, first=6, second=4):
    store = grid(path, outcome, seeds=range(first))
    plan = list(_plan(range(first, first + second)))
    store.extend(range(first, first + second))
    for spec in plan:
        put(store, spec, outcome(spec))
    return Store.open(path)


def _plan(seeds):
    from finished import planned

    return planned(seeds, (A, B), ("",), 1, deterministic=False)


def test_seeds_added_after_a_look_are_paid_for_by_the_sequence(tmp_path):
    store = extended(tmp_path / "d")
    assert store.manifest.extensions == 1
    pair = only(comparison.compare(store))
    gaps = np.array(values(A)) - np.array(values(B))
    expected = sequence_interval(gaps)
    assert pair.interval.low == pytest.approx(expected.low)
    assert pair.interval.half_width > pair.difference.interval.half_width  # the negative control
    assert pair.p_holm is None
    assert "confidence sequence" in pair.sentence


def test_what_the_sequence_does_not_cover_is_stamped(tmp_path):
    store = extended(tmp_path / "d")
    pair = only(comparison.compare(store, margin=0.5))
    assert not pair.stamp
    assert pair.others == "unadjusted for 1 extension"
    text = re.sub(r"\s+", " ", comparison.text(comparison.compare(store)))
    assert "looks every p value and interval here except the sequence is unadjusted for 1 extension" in text
    assert "significant and meaningful (unadjusted for 1 extension)" in text
    assert "P and g are unadjusted for 1 extension" in comparison.markdown(comparison.compare(store))
    fresh = comparison.compare(store, fresh=True)
    assert only(fresh).others == ""
    assert "unadjusted for" not in comparison.text(fresh)
    same = extended(
        tmp_path / "e",
        lambda spec: {"metrics": {"test/accuracy": value(spec.seed, B, 0.004 + 1e-5 * (spec.variant == A))}},
    )
    equal = only(comparison.compare(same, margin=0.1))
    assert equal.sentence.endswith("equivalent within ± 0.1 (unadjusted for 1 extension).")


def test_a_gate_over_seeds_that_a_comparing_rule_chose_is_stamped(tmp_path):
    store = grid(tmp_path / "d", seeds=range(6))
    store.keep_until({"rule": "test/accuracy: A > B", "state": "A > B", "cells": []})
    found = comparison.compare(Store.open(tmp_path / "d"), baseline="lr-0.01", require=["test/accuracy >= base"])
    assert comparison.to_json(found)["checks"][0]["stamp"] == "unadjusted for the looks of a stopping rule"


def test_without_pairs_the_interval_is_stamped(tmp_path):
    pair = only(comparison.compare(extended(tmp_path / "d"), paired=False))
    assert pair.stamp == "unadjusted for 1 extension"
    assert pair.stamp in pair.sentence
    assert pair.interval == pair.difference.interval


def test_fresh_seeds_only_need_no_adjustment(tmp_path):
    pair = only(comparison.compare(extended(tmp_path / "d"), fresh=True))
    assert pair.difference == paired_t(values(A, range(6, 10)), values(B, range(6, 10)))
    assert not pair.stamp
    with pytest.raises(StatisticsError, match="there are no fresh seeds"):
        comparison.compare(grid(tmp_path / "e"), fresh=True)


def test_seeds_that_a_rule_asked_for_are_no_peeking(tmp_path):
    store = grid(tmp_path / "d", seeds=range(6))
    store.extend([6, 7], note="until")
    assert store.manifest.extensions == 0


# Equivalence, plans, tasks, groups.


def test_equivalence_needs_a_margin_and_then_says_so(tmp_path):
    store = grid(tmp_path / "d", variants=(B, C))
    assert only(comparison.compare(store)).equivalence is None
    pair = only(comparison.compare(store, margin=0.01))
    assert pair.equivalence.verdict == "equivalent"
    assert "equivalent within ± 0.01" in pair.sentence
    assert only(comparison.compare(store, margin=0.0001)).equivalence.verdict != "equivalent"


def test_a_plan_is_called_an_estimate_and_names_the_honest_command(tmp_path):
    pair = only(comparison.compare(grid(tmp_path / "d", variants=(B, C))))
    assert pair.verdict == "none"
    assert pair.plan[0].startswith("planning estimate, not evidence: ")
    assert "80 % power" in pair.plan[0]
    assert f"--until 'test/accuracy: {pair.a.name} > {pair.b.name}'" in pair.plan[1]


@pytest.mark.parametrize(("paired", "least"), [(True, 6), (False, 4)])
def test_a_plan_never_names_fewer_seeds_than_the_exact_test_needs(tmp_path, paired, least):
    def far_apart(spec):
        more = (0.5 + spec.seed % 2 / 9e3) * (spec.variant == C)
        return {"metrics": {"test/accuracy": value(spec.seed, B) + more}}

    store = grid(tmp_path / "d", far_apart, variants=(B, C), seeds=range(3))
    pair = only(comparison.compare(store, paired=paired))
    assert pair.verdict == "none"
    assert pair.planned.seeds == least
    assert f": {least} seeds" in pair.plan[0]


def test_tasks_are_compared_one_by_one_in_one_family(tmp_path):
    store = grid(tmp_path / "d", tasks=("easy-00000a", "hard-00000b"))
    found = comparison.compare(store)
    assert [pair.task for pair in found.pairs] == ["easy-00000a", "hard-00000b"]
    assert {pair.simultaneous.level for pair in found.pairs} == {0.975}
    assert "easy: lr-0.1 is better" in comparison.text(found)


def test_a_cut_through_a_grid_averages_within_the_seed(tmp_path):
    config = {"grid": {"params.lr": [1, 2], "params.wd": [0, 5]}}
    variants = [f"lr-{lr}-wd-{wd}-00000{lr}{wd}"[:40] for lr in (1, 2) for wd in (0, 5)]
    store = grid(tmp_path / "d", variants=variants, config=config)
    cells = [{**c, "params": {"lr": int(c["variant"][3]), "wd": int(c["variant"][8])}}
             for c in store.manifest.experiment["cells"]]  # fmt: skip
    store.manifest.experiment["cells"][:] = cells
    members = list(store.scan())
    assert {m.status for m in members} == {"lost"}  # their records are of other parameters: a stranger's directory

    from sweep.variants import regrouped

    assert {m.variant for m in regrouped(members, store.manifest, ["lr"])} == {"lr=1", "lr=2"}
    assert {m.variant for m in regrouped(members, store.manifest, ["params.wd"])} == {"wd=0", "wd=5"}
    with pytest.raises(ConfigError, match="'momentum' names no axis of the grid"):
        regrouped(members, store.manifest, ["momentum"])


def test_shared_examples_give_the_difference_over_both(tmp_path):
    targets = np.arange(60) % 3

    def outcome(spec):
        rng = np.random.default_rng([spec.seed, *spec.variant.encode()])
        probs = rng.dirichlet(np.ones(3), size=60)
        probs[np.arange(60), targets] += 1.0 if spec.variant == A else 0.4
        probs /= probs.sum(axis=1, keepdims=True)
        right = float((probs.argmax(axis=1) == targets).mean())
        return {
            "metrics": {"test/accuracy": right},
            "predictions": {"test": Predictions(ids=np.arange(60), targets=targets, probs=probs)},
        }

    pair = only(comparison.compare(grid(tmp_path / "d", outcome, seeds=range(5))))
    assert pair.examples.examples == 60
    assert pair.examples.mean == pytest.approx(pair.difference.estimate)
    assert pair.examples.interval.half_width > pair.interval.half_width


def test_different_modes_and_data_are_said(tmp_path):
    one = sweep_of(tmp_path / "one", accuracies({s: normal(s) for s in range(4)}), seeds=range(4))
    other = sweep_of(
        tmp_path / "other", accuracies({s: normal(s + 9) for s in range(4)}), seeds=range(4), deterministic=True
    )
    assert "different modes (deterministic, fast)" in comparison.compare(one, other).warnings[0]


# The gate.


def gate(tmp_path, rule, *, candidate=accuracy, base=accuracy, **options):
    def outcome(spec):
        return (base if spec.variant == B else candidate)(spec)

    store = grid(tmp_path / "d", outcome, variants=(B, A))
    return comparison.compare(store, require=[rule], **options)


def test_a_gate_passes_contradicts_and_stays_undecided(tmp_path):
    store = grid(tmp_path / "d", variants=(B, A))
    codes = {
        "test/accuracy >= base - 0.005": 0,
        "test/accuracy >= base + 0.1": 1,
        "test/accuracy >= base + 0.02": 4,
        "test/accuracy >= base * 0.5": 0,
        "test/accuracy >= 0.5": 0,
        "test/accuracy >= 0.99": 1,
    }
    for rule, code in codes.items():
        found = comparison.compare(store, require=[rule])
        assert (rule, found.code) == (rule, code)
        assert 0 <= found.checks[0].decision.identical_passes <= 1
    assert comparison.compare(store, require=list(codes)).code == 1


def test_a_failed_candidate_passes_only_where_that_is_allowed(tmp_path):
    def failing(spec):
        return {"failure": failure()} if spec.seed == 3 else accuracy(spec)

    assert gate(tmp_path, "test/accuracy >= base - 0.005", candidate=failing).code == 4
    store = Store.open(tmp_path / "d")
    assert comparison.compare(store, require=["test/accuracy >= base - 0.005"], max_failures=1).code == 0


def test_pending_seeds_decide_nothing(tmp_path):
    found = gate(tmp_path, "test/accuracy >= base - 0.5", candidate=lambda s: None if s.seed == 9 else accuracy(s))
    assert found.code == 4
    decision = found.checks[0].decision
    assert (decision.reason, decision.unfinished) == ("unfinished", 1)


def test_a_fixed_bound_needs_no_second_configuration(tmp_path):
    store = sweep_of(tmp_path / "d", accuracies({s: normal(s) for s in range(6)}), seeds=range(6))
    assert comparison.compare(store, require=["test/accuracy >= 0.5"]).code == 0
    with pytest.raises(StatisticsError, match="nothing to compare it with"):
        comparison.compare(store, require=["test/accuracy >= base"])


# As it is printed.


def test_the_command_prints_and_answers(tmp_path, capsys):
    path = str(tmp_path / "d")
    grid(tmp_path / "d", variants=(B, A))
    assert main(["compare", path]) == 0
    text = capsys.readouterr().out
    assert "lr-0.1 is better than lr-0.01 in test/accuracy" in text
    assert "permutation p = " in text
    assert "minimum attainable p" in text
    assert main(["compare", path, "--require", "test/accuracy >= base + 0.1"]) == 1
    assert "contradicted" in capsys.readouterr().out
    assert main(["compare", path, "--require", "test/accuracy >= base + 0.02"]) == 4
    assert main(["compare", path, "--require", "accuracy is nice"]) == 2
    assert "the requirement 'accuracy is nice' cannot be read" in capsys.readouterr().err


def test_json_has_every_number_unrounded_with_its_method(tmp_path, capsys):
    grid(tmp_path / "d")
    assert main(["compare", str(tmp_path / "d"), "--format", "json", "--margin", "0.01"]) == 0
    body = json.loads(capsys.readouterr().out)
    pair = body["pairs"][0]
    expected = paired_t(values(A), values(B))
    assert pair["difference"]["estimate"] == expected.estimate
    assert pair["interval"] == {
        "low": expected.interval.low, "high": expected.interval.high, "level": 0.95, "method": "paired t over seeds",
    }  # fmt: skip
    assert pair["superiority"]["interval"]["method"] == "Newcombe method 5"
    assert pair["permutation"]["floor"] == 2 / 2**10
    assert pair["a"]["expected_inflation"] == pytest.approx(1.5388 * pair["a"]["sd"], rel=1e-3)


def test_the_order_of_completion_cannot_be_seen(tmp_path):
    one = comparison.to_json(comparison.compare(grid(tmp_path / "a" / "d")))
    other = comparison.to_json(comparison.compare(grid(tmp_path / "b" / "d", seeds=range(9, -1, -1))))
    keep = ("pairs", "exploratory", "checks")
    assert [one[k] for k in keep] == [other[k] for k in keep]


def test_tables_escape_and_mark(tmp_path):
    found = comparison.compare(grid(tmp_path / "d", variants=("a_b-00000a", "c.d-00000b")))
    assert r"a\_b" in comparison.latex(found)
    assert "10 pairs" in comparison.markdown(found)


def test_bold_across_directories_is_what_was_compared(tmp_path):
    stores = [
        sweep_of(tmp_path / name, accuracies({s: normal(s + shift, mean) for s in range(8)}), seeds=range(8), name=name)
        for name, mean, shift in (("good", 0.95, 0), ("bad", 0.5, 20))
    ]
    made = [report.build(store) for store in stores]
    best = best_of(stores, "test/accuracy", {})
    assert best == {(str(tmp_path / "good"), "", "")}
    assert "| good | **0.9" in report.markdown(*made, best=best)
    assert "**" not in report.markdown(*made)


def test_results_compare_in_python(tmp_path):
    from sweep.results import open as results

    grid(tmp_path / "d")
    found = results(tmp_path / "d").compare()
    assert "lr-0.1 is better than lr-0.01" in repr(found)
    sweep_of(tmp_path / "other", accuracies({s: normal(s, 0.5) for s in range(10)}), seeds=range(10))
    assert len(results(tmp_path / "d").compare(tmp_path / "other").pairs) == 3


def test_an_arm_of_another_size_has_no_digits_without_end(tmp_path):
    def outcome(spec):
        return {"metrics": {"test/accuracy": (1e29 if spec.variant == C else 0.5) * (1 + spec.seed / 100)}}

    text = comparison.text(comparison.compare(grid(tmp_path / "d", outcome, variants=(B, C), seeds=range(4))))
    assert "0.5075" in text
    assert "1.015" in text
    assert not re.search(r"\d\.\d{8,}", text)


def test_an_arm_that_hardly_varies_is_not_rounded_to_nothing(tmp_path):
    def outcome(spec):
        scale = 1.0 if spec.variant == A else 0.001
        return {"metrics": {"test/loss": scale * (2 + spec.seed % 3)}}

    store = grid(tmp_path / "d", outcome, config={"primary": "test/loss"})
    table = comparison.text(comparison.compare(store)).splitlines()
    line = next(line for line in table if line.startswith("  B  lr-0.01  "))
    assert line.split() == ["B", "lr-0.01", "10", "0.00290", "0.00088", "0.00227", "to", "0.00353", "0", "of", "10"]


def test_the_estimate_ends_with_a_command_that_adds_seeds_to_the_directory(tmp_path):
    store = grid(tmp_path / "d", variants=(B, C))
    told = only(comparison.compare(store)).plan[1]
    assert told.startswith(f"valid sequential design: sweep resume {store.path} --until ")


@pytest.mark.parametrize(("seeds", "verdict"), [(5, "none"), (6, "a")])
def test_nothing_is_significant_where_the_exact_test_cannot_reach_the_level(tmp_path, seeds, verdict):
    store = grid(tmp_path / "d", seeds=range(seeds))
    pair = only(comparison.compare(store))
    assert pair.difference.p < 0.01
    assert (pair.permutation.floor <= 0.05) == (verdict == "a")
    assert pair.verdict == verdict
    gated = comparison.compare(store, require=["test/accuracy >= 0.5"])
    assert gated.code == (0 if seeds == 6 else 4)


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ("test/loss >= base - 0.005", "test/loss <= base + 0.005"),
        ("test/loss >= base * 0.9", "test/loss <= base * 1.1"),
        ("test/accuracy <= base * 0.9", "test/accuracy >= base * 0.9"),
        ("test/accuracy <= base + 0.01", "test/accuracy >= base - 0.01"),
    ],
)
def test_a_gate_that_the_worse_passes_is_refused_with_the_right_one(tmp_path, rule, hint):
    store = grid(tmp_path / "d", lambda s: {"metrics": {"test/loss": 1.0 + s.seed, "test/accuracy": 0.5 + s.seed / 99}})
    with pytest.raises(ConfigError, match="goal is") as caught:
        comparison.compare(store, require=[rule])
    assert hint in str(caught.value)
    comparison.compare(store, require=[hint])


@pytest.mark.parametrize(
    ("metric", "side", "hint"), [("test/log_likelihood", ">=", "base - 0.1"), ("test/nll", "<=", "base + 0.1")]
)
def test_a_share_of_a_negative_base_is_refused_with_a_margin_instead(tmp_path, metric, side, hint):
    store = grid(tmp_path / "d", lambda s: {"metrics": {metric: -1.0 - s.seed}})
    with pytest.raises(StatisticsError, match="negative") as caught:
        comparison.compare(store, require=[f"{metric} {side} base * 0.9"])
    assert hint in str(caught.value)


def test_more_pairs_than_anybody_reads_are_refused_with_the_way_out(tmp_path):
    """A plan of a few kilobytes can name thousands of variants, and have results of none."""
    grid(tmp_path, lambda spec: None, [f"lr-{i}" for i in range(500)], range(2))
    with pytest.raises(StatisticsError, match="pairs") as refused:
        comparison.compare(Store.open(tmp_path), metric="test/accuracy")
    assert "--baseline" in refused.value.hint
    assert len(comparison.compare(Store.open(tmp_path), metric="test/accuracy", baseline="lr-7").pairs) == 499


@pytest.mark.parametrize("variants", [(B, A), (B, A, C)])
def test_a_gate_answers_first_and_last(tmp_path, variants):
    store = grid(tmp_path / "d", variants=variants)
    rules = ["test/accuracy >= base - 0.1", "test/accuracy >= base + 0.1"]
    one = comparison.text(comparison.compare(store, require=rules[:1]), width=200).splitlines()
    several = comparison.text(comparison.compare(store, require=rules), width=200).splitlines()
    count = len(variants) - 1
    expected = f"  gate       contradicted ({count} passed, {count} contradicted)"
    assert (several[2], several[-1]) == (expected, expected)
    if count == 1:
        assert one[2] == one[-1] == f"  passed     lr-0.1 (base lr-0.01): {rules[0]}"
    else:
        assert one[2] == one[-1] == "  gate       passed (2 passed)"
    without = comparison.text(comparison.compare(store), width=200)
    assert not without.splitlines()[2].startswith(("  passed", "  gate"))


def test_a_gate_of_one_directory_speaks_of_no_base(tmp_path):
    said = comparison.text(comparison.compare(grid(tmp_path / "d", variants=(B,)), require=["test/accuracy >= 0.5"]))
    assert "the same number of other seeds would pass with probability" in said
    assert "base" not in said
