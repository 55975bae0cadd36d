"""Each field alone changes the verdict as the table says."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest

from sweep.determinism.environment import (
    FIELDS,
    HASH_ORDER_NOT_CONTROLLED,
    UNDETERMINED,
    Answer,
    Origin,
    environment_id,
    switches_stood,
    verdict,
)

ENVIRONMENT = {
    **{name: f"{name} of a" for name in FIELDS},
    "device": "cuda",
    "threads": 1,
    "hash_seed": "0",
    "flush_denormal": False,
    "precision": {"all": "none", "cudnn.conv": "tf32"},
    "mkl": {},
    "deterministic_algorithms": True,
    "deterministic_warn_only": False,
    "cudnn_deterministic": True,
    "cudnn_benchmark": False,
}
SPEC = {
    "target": {"kind": "recipe", "reference": "a:b", "argv": [], "digest": "1"},
    "params": {"lr": 0.1, "epochs": 3},
    "variant": "",
    "task": "",
    "seed": 42,
    "streams": {"init": 1, "order": 2, "augment": 3, "dropout": 4},
    "repeat": 0,
    "deterministic": True,
    "device": "cuda",
    "threads": 1,
    "data": "d",
}


def origin(**changed):
    given = {"spec_id": "s1", "environment": ENVIRONMENT, "deterministic": True, "spec": SPEC}
    return Origin(**{**given, **changed})


def with_field(name, value):
    return origin(environment={**ENVIRONMENT, name: value})


def with_spec(**changed):
    spec = copy.deepcopy(SPEC)
    for name, value in changed.items():
        *outer, last = name.split("__")
        inner = spec
        for each in outer:
            inner = inner[each]
        inner[last] = value
    return origin(spec_id="s2", spec=spec, deterministic=spec["deterministic"])


def test_equal_deterministic_runs_must_match():
    assert verdict(origin(), origin()).answer is Answer.MUST_MATCH
    assert verdict(origin(), origin()).fields == ()


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_alone_changes_the_verdict_as_tabled(name):
    found = verdict(origin(), with_field(name, "another"))
    expected = FIELDS[name]
    assert found.answer is expected
    assert (name, ENVIRONMENT[name], "another") in found.fields
    assert environment_id(with_field(name, "another").environment) != environment_id(ENVIRONMENT)


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_unknown(name):
    less = {key: value for key, value in ENVIRONMENT.items() if key != name}
    for pair in ((origin(), origin(environment=less)), (origin(environment=less), origin())):
        assert verdict(*pair).answer is Answer.UNKNOWN
        assert name in [field for field, _, _ in verdict(*pair).fields]
    undetermined = with_field(name, UNDETERMINED)
    assert verdict(undetermined, undetermined).answer is Answer.UNKNOWN, "twice unknown is not the same"


def test_a_field_that_is_known_to_decide_outweighs_what_is_unknown():
    less = {key: value for key, value in ENVIRONMENT.items() if key != "numpy"} | {"torch": "9"}
    found = verdict(origin(), origin(environment=less))
    assert found.answer is Answer.NOT_EXPECTED
    assert found.fields == (("torch", "torch of a", "9"),)


def test_a_field_of_a_newer_version_is_unknown_only_where_it_differs():
    assert verdict(with_field("new", 1), with_field("new", 1)).answer is Answer.MUST_MATCH
    assert verdict(with_field("new", 1), with_field("new", 2)).answer is Answer.UNKNOWN
    assert verdict(with_field("new", 1), origin()).answer is Answer.UNKNOWN


def test_fast_runs_may_match_and_no_more():
    fast = origin(deterministic=False)
    found = verdict(fast, fast)
    assert found.answer is Answer.MAY_MATCH
    assert found.fields == (("deterministic", False, False),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deterministic_algorithms", False),
        ("deterministic_warn_only", True),
        ("cudnn_deterministic", False),
        ("cudnn_benchmark", True),
    ],
)
def test_switches_turned_off_during_training_end_the_promise_even_where_both_did(name, value):
    both = with_field(name, value)
    assert switches_stood(ENVIRONMENT)
    assert not switches_stood(both.environment)
    found = verdict(both, both)
    assert found.answer is Answer.MAY_MATCH
    assert (name, value, value) in found.fields


def test_cudnn_does_not_count_on_a_cpu():
    cpu = {**ENVIRONMENT, "device": "cpu", "cudnn_deterministic": False, "cudnn_benchmark": True}
    assert switches_stood(cpu)
    assert verdict(origin(environment=cpu), origin(environment=cpu)).answer is Answer.MUST_MATCH


def test_uncontrolled_hash_order_ends_the_promise_even_where_both_had_it():
    both = with_field("hash_seed", HASH_ORDER_NOT_CONTROLLED)
    assert verdict(both, both).answer is Answer.MAY_MATCH
    assert verdict(both, both).fields == (("hash_seed", "random", "random"),)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"seed": 43}, "seed"),
        ({"params__lr": 0.2}, "params.lr"),
        ({"params__new": None}, None),
        ({"streams__order": 9}, "streams.order"),
        ({"target__digest": "2"}, "target.digest"),
        ({"target__kind": "function"}, "target.kind"),
        ({"variant": "b"}, "variant"),
        ({"task": "b"}, "task"),
        ({"data": "e"}, "data"),
    ],
)
def test_another_question_is_another_experiment(changed, field):
    found = verdict(origin(), with_spec(**changed))
    assert found.answer is Answer.DIFFERENT_EXPERIMENT
    assert [name for name, _, _ in found.fields] == [field or "spec_id"]


@pytest.mark.parametrize(("name", "value"), [("threads", 4), ("device", "cpu"), ("deterministic", False)])
def test_the_same_question_computed_in_another_way_is_not_expected_to_match(name, value):
    found = verdict(origin(), with_spec(**{name: value}))
    assert found.answer is Answer.NOT_EXPECTED
    assert name in [field for field, _, _ in found.fields]


def test_a_changed_thread_count_is_named_once():
    four = with_spec(threads=4)
    four = origin(spec_id="s2", spec=four.spec, environment={**ENVIRONMENT, "threads": 4})
    assert verdict(origin(), four).fields == (("threads", 1, 4),)


def test_repeats_of_a_seed_must_match():
    assert verdict(origin(), with_spec(repeat=1)).answer is Answer.MUST_MATCH


def test_data_that_could_not_be_identified_is_unknown_against_data_that_was():
    assert verdict(origin(), with_spec(data="")).answer is Answer.UNKNOWN


def test_without_specs_the_ids_decide():
    assert verdict(origin(spec={}), origin(spec={}, spec_id="s2")).answer is Answer.DIFFERENT_EXPERIMENT
    assert verdict(origin(spec={}), origin(spec={}, spec_id="")).answer is Answer.UNKNOWN
    assert verdict(origin(spec_id=""), origin(spec_id="")).answer is Answer.UNKNOWN


def test_the_verdict_is_the_same_the_other_way_round():
    others = [origin(), origin(deterministic=False), with_spec(seed=1), with_spec(threads=2)]
    others += [with_field(name, "x") for name in FIELDS]
    for other in others:
        there, back = verdict(origin(), other), verdict(other, origin())
        assert there.answer is back.answer
        assert [(name, b, a) for name, a, b in there.fields] == list(back.fields)


def test_the_id_depends_on_values_and_not_on_their_order():
    reordered = dict(reversed(ENVIRONMENT.items())) | {"precision": {"cudnn.conv": "tf32", "all": "none"}}
    assert environment_id(reordered) == environment_id(ENVIRONMENT)
    assert environment_id({"a": True}) != environment_id({"a": 1}) != environment_id({"a": "1"})
    assert verdict(with_field("threads", True), with_field("threads", 1)).answer is Answer.NOT_EXPECTED


def test_a_verdict_reads_well_and_travels_as_json():
    found = verdict(origin(), with_field("threads", 4))
    assert str(found) == "NOT_EXPECTED (threads: 1 / 4)"
    assert found.to_json() == {"answer": "NOT_EXPECTED", "fields": [["threads", 1, 4]]}
    assert str(verdict(origin(), origin())) == "MUST_MATCH"


def test_judging_needs_no_torch():
    program = "import sys, sweep.determinism.environment; print(sorted({'torch', 'numpy'} & {*sys.modules}))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
