"""From a config to runs: each exactly once, each with an identity that only what it was asked to do decides."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.config import load
from sweep.plan import (
    STREAMS,
    Cell,
    Plan,
    RunSpec,
    Target,
    assign,
    canonical,
    cells_of,
    content_id,
    folder_name,
    grid_points,
    merge,
    stream_seed,
    variant_name,
)

TARGET = Target("function", "pkg.module:train", digest="d")
LARGEST = 2**32 - 1

keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def made(**settings: Any) -> Plan:
    config = load(**settings)
    return Plan(config, TARGET, tuple(cells_of(config)), "cpu")


def spec(**changes: Any) -> RunSpec:
    base = RunSpec(
        target=TARGET, params={"lr": 0.1}, variant="", task="", seed=42, streams=dict.fromkeys(STREAMS, 1),
        repeat=0, deterministic=False, device="cpu", threads=1, data="",
    )  # fmt: skip
    return replace(base, **changes)


def test_tasks_variants_seeds_and_repeats_each_meet_once() -> None:
    runs = made(
        seeds="0-3", repeats=2, grid={"params.a": [1, 2], "params.b.c": ["x", "y", "z"]},
        tasks={"one": {"params.data": "d1"}, "two": {"params.data": "d2"}},
    )  # fmt: skip
    specs = list(runs)
    assert len(specs) == len(runs) == 2 * 6 * 4 * 2
    assert len({s.key for s in specs}) == len({s.id for s in specs}) == len(specs)
    cells = {(s.params["data"], s.params["a"], s.params["b"]["c"], s.seed, s.repeat) for s in specs}
    assert len(cells) == len(specs)


def test_a_completed_prefix_holds_whole_seeds() -> None:
    specs = list(made(seeds=[5, 3, 9], grid={"params.a": [1, 2]}))
    assert [s.seed for s in specs] == [5, 5, 3, 3, 9, 9]


def test_a_million_seeds_are_planned_lazily() -> None:
    runs = made(seeds="0-999999")
    assert len(runs) == 1_000_000
    assert [s.seed for s in islice(runs, 3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"lr": 0.2}}, {"variant": "v"}, {"task": "t"}, {"seed": 43}, {"repeat": 1},
        {"deterministic": True}, {"device": "cuda"}, {"threads": 2}, {"data": "x"},
        {"streams": {**dict.fromkeys(STREAMS, 1), "init": 2}}, {"target": replace(TARGET, digest="e")},
        {"target": replace(TARGET, kind="recipe")}, {"target": replace(TARGET, argv=("a",))},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_part_of_a_spec_is_part_of_its_identity(change: dict[str, Any]) -> None:
    assert spec(**change).id != spec().id


def test_an_identity_knows_neither_order_nor_process() -> None:
    assert spec(params={"a": 1, "b": {"c": 2, "d": 3}}).id == spec(params={"b": {"d": 3, "c": 2}, "a": 1}).id
    code = "import json, sys; from sweep.plan import RunSpec; print(RunSpec.from_json(json.load(sys.stdin)).id)"
    text = json.dumps(spec().to_json())
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == spec().id


@given(params=st.dictionaries(keys, data, max_size=3), seed=st.integers(0, LARGEST), argv=st.lists(keys))
def test_a_spec_survives_json(params: dict[str, Any], seed: int, argv: list[str]) -> None:
    before = spec(params=params, seed=seed, target=replace(TARGET, argv=tuple(argv)))
    after = RunSpec.from_json(json.loads(json.dumps(before.to_json())))
    assert after.to_json() == before.to_json()  # secrets are hidden in both
    assert after.id == before.id


@given(data)
def test_canonical_json_is_json_and_ignores_the_order_of_keys(value: Any) -> None:
    assert json.loads(canonical(value)) == value
    assert canonical(json.loads(json.dumps(value, sort_keys=True))) == canonical(value)


def test_numbers_that_json_cannot_hold_have_no_identity() -> None:
    with pytest.raises(ValueError, match="JSON"):
        content_id(float("nan"))


def test_streams_are_known_numbers_of_32_bits_and_apart() -> None:
    # Changing these would give every seed of every finished sweep another model.
    assert {name: stream_seed(42, name) for name in STREAMS} == {
        "init": 4043430619,
        "order": 3136372441,
        "augment": 3203221553,
        "dropout": 4246879079,
    }
    drawn = {stream_seed(seed, name) for seed in range(500) for name in STREAMS}
    assert len(drawn) == 2000
    assert all(0 <= value <= LARGEST for value in drawn)
    assert max(drawn) > 2**31  # and not fewer bits than torch reads


def test_vary_holds_the_other_streams_at_the_base_seed() -> None:
    specs = list(made(seeds=[1, 2], seed=7, vary="order"))
    assert specs[0].streams["order"] == stream_seed(1, "order") != specs[1].streams["order"]
    for name in ("init", "augment", "dropout"):
        assert specs[0].streams[name] == specs[1].streams[name] == stream_seed(7, name)
    free = list(made(seeds=[1, 2], seed=7))
    assert all(free[0].streams[name] != free[1].streams[name] for name in STREAMS)


def test_the_experiment_is_all_but_the_seeds() -> None:
    base = made(seeds=[1]).experiment()
    assert made(seeds=[1, 2]).experiment() == made(seed=5).experiment() == base
    for other in ({"params": {"a": 1}}, {"threads": 2}, {"deterministic": True}, {"repeats": 2}, {"vary": "init"}):
        assert made(seeds=[1], **other).experiment() != base
    # What is held fixed is fixed at the base seed, which then counts.
    assert made(vary="init", seed=1).experiment() != made(vary="init", seed=2).experiment()
    assert json.loads(json.dumps(base)) == base


def test_more_seeds_leave_the_identity_of_the_others() -> None:
    few, many = made(seeds=[1, 2]), made(seeds=[2, 3, 1])
    assert {s.id for s in few} < {s.id for s in many}
    assert [s.id for s in made(seeds=[2])] == [s.id for s in many.of_seed(2)]


def test_a_key_names_task_variant_seed_and_repeat() -> None:
    assert spec().key == "seed42"
    assert spec(variant="v", repeat=1).key == "v/seed42-r1"
    assert spec(task="t", variant="v").key == "t/v/seed42"


def test_one_variant_needs_no_name_and_several_say_what_they_are() -> None:
    assert variant_name({}) == ""
    assert variant_name({"params.optimizer.lr": 0.01}).startswith("lr-0.01-")
    names = {variant_name(point) for point in grid_points({"params.a": [1, 1.0, "1", True, None, [1]]})}
    assert len(names) == 6


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_folder_names_are_safe_and_apart_on_any_file_system(one: str, other: str) -> None:
    names = [folder_name(text, text) for text in (one, other)]
    for name in names:
        assert name.isascii()
        assert len(name) < 100
        assert name[0] not in ".-"
        assert not set(name) & set('/\\:*?"<>| \0\n')
    # Case and Unicode normalisation differ between file systems; the hash does not.
    assert one == other or names[0].lower() != names[1].lower()


@pytest.mark.parametrize("name", ["../../etc", "a/b", ".", "", "CON", "é", "e\u0301", "-rf", "a\nb", "x" * 300])
def test_hostile_names_make_ordinary_folders(name: str) -> None:
    found = folder_name(name, name)
    assert found.replace("-", "").replace(".", "").replace("_", "").isalnum()
    assert len(found) < 100


def test_merge_and_assign_change_nothing_they_were_given() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": [1]}
    frozen = json.dumps(base)
    assert merge(base, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}
    assert assign(base, "a.b", 3) == {"a": {"b": 3, "c": 2}, "d": [1]}
    assert assign(base, "x.y.z", 1) == {**base, "x": {"y": {"z": 1}}}
    assert json.dumps(base) == frozen


def test_a_path_below_a_plain_value_replaces_it() -> None:
    assert assign({"data": "digits"}, "data.name", "idx") == {"data": {"name": "idx"}}
    config = load(params={"data": "digits"}, grid={"params.data.name": ["idx"]})
    assert [cell.params for cell in cells_of(config)] == [{"data": {"name": "idx"}}]


def test_a_task_changes_the_params_and_the_grid_comes_last() -> None:
    config = load(
        params={"data": {"name": "digits", "limit": 9}, "lr": 1}, grid={"params.lr": [2, 3]},
        tasks={"a": {"params.data.name": "idx"}},
    )  # fmt: skip
    cells = list(cells_of(config))
    assert [cell.params["lr"] for cell in cells] == [2, 3]
    assert all(cell.params["data"] == {"name": "idx", "limit": 9} for cell in cells)
    assert isinstance(cells[0], Cell)


def test_planning_loads_neither_torch_nor_ray() -> None:
    code = "import sys, sweep.plan; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "pandas", "numpy"} & set(done.stdout.split())
