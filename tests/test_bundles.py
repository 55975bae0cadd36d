"""Which runs share a GPU: whole cells, evenly, in order, each run once; and what becomes of a bundle that breaks."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.config import from_dict
from sweep.launch.bundles import AUTO, BESIDE, at_once, bundles, gpu_of, lanes_of
from sweep.plan import Cell, Plan, Target


def planned(
    seeds: int, variants: int = 1, device: str = "cuda", kind: str = "recipe", lanes: object = "auto", **more: object
) -> Plan:
    config = from_dict({"seeds": list(range(seeds)), "lanes": lanes, **more})
    cells = [Cell(variant=f"v{i}" if i else "", task="", params={"i": i}) for i in range(variants)]
    return Plan(config, Target(kind, "m:f"), tuple(cells), device)  # type: ignore[arg-type]


@given(
    seeds=st.integers(1, 200), variants=st.integers(1, 4), most=st.integers(1, 70), slots=st.integers(1, 8),
    packs=st.integers(1, 4),
)  # fmt: skip
def test_every_run_is_in_one_bundle_of_its_own_cell(
    seeds: int, variants: int, most: int, slots: int, packs: int
) -> None:
    specs = list(planned(seeds, variants))
    made = bundles(specs, most, slots, packs)
    assert Counter(spec.key for task in made for spec in task) == Counter(spec.key for spec in specs)
    for task in made:
        assert 1 <= len(task) <= (most * packs if most > 1 else 1)
        assert len({spec.variant for spec in task}) == 1
        assert [spec.seed for spec in task] == sorted(spec.seed for spec in task)


@pytest.mark.parametrize(
    ("seeds", "most", "gpus", "sizes"),
    [
        (100, 64, 1, [50, 50]),
        (64, 64, 1, [64]),
        (10, 64, 4, [2, 3, 3, 2]),
        (1000, 64, 1, [62, 63] * 8),
        (3, 64, 8, [1, 1, 1]),
        (5, 1, 2, [1] * 5),
    ],
)
def test_bundles_are_even_and_keep_every_gpu_busy(seeds: int, most: int, gpus: int, sizes: list[int]) -> None:
    found = [len(task) for task in bundles(list(planned(seeds)), most, gpus)]
    assert sorted(found) == sorted(sizes)
    assert max(found) - min(found) <= 1


@pytest.mark.parametrize(
    ("seeds", "slots", "sizes"),
    [
        (64, 1, [64]),
        (100, 1, [100]),  # two packs of 50
        (256, 1, [256]),
        (300, 1, [120, 180]),  # two packs of 60, three of 60
        (100, 4, [25] * 4),  # every slot is busy
        (1000, 2, [250] * 4),
    ],
)
def test_packs_of_one_worker_are_whole(seeds: int, slots: int, sizes: list[int]) -> None:
    found = [len(bundle) for bundle in bundles(list(planned(seeds)), 64, slots, BESIDE)]
    assert sorted(found) == sizes


@pytest.mark.parametrize(
    ("asked", "lanes", "vectorize", "part", "slots"),
    [
        (0.0, "auto", "off", 1.0, 1),
        (0.25, "auto", "off", 1.0, 1),  # lanes fill a GPU
        (0.0, "auto", 64, 1.0, 1),
        (0.25, "auto", 64, 0.25, 4),
        (0.5, "off", "off", 0.5, 1),  # a run each: the engine counts
    ],
)
def test_workers_with_vectorised_packs_may_share_a_gpu(
    asked: float, lanes: object, vectorize: object, part: float, slots: int
) -> None:
    plan = planned(2, lanes=lanes, vectorize=vectorize, resources={"gpus": asked})
    assert (gpu_of(plan), at_once(plan)) == (part, slots)


@pytest.mark.parametrize(
    ("device", "kind", "lanes", "most"),
    [
        ("cuda", "recipe", "auto", AUTO),
        ("cuda", "recipe", 16, 16),
        ("cuda", "recipe", "off", 1),
        ("cuda", "recipe", 1, 1),
        ("cpu", "recipe", 16, 1),
        ("cuda", "function", 16, 1),
    ],
)
def test_only_recipes_on_a_gpu_are_packed(device: str, kind: str, lanes: object, most: int) -> None:
    assert lanes_of(planned(2, device=device, kind=kind, lanes=lanes)) == most
