"""sweep.json: what was asked for, and a diff in words when something else is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finished import planned
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import StoreError
from sweep.plan import content_id
from sweep.store import Manifest, SeedEntry, atomic
from sweep.store.manifest import differences, read
from sweep.store.shape import seal

PLAN = planned([1, 2], ["", "lr-0.1-abc123"], [""], 1, deterministic=False)


def made(**changes: Any) -> Manifest:
    given: dict[str, Any] = {
        "name": "some", "config": {"primary": "test/accuracy", "note": "né"}, "experiment": PLAN.experiment(),
        "seeds": (1, 2), "seed_log": (SeedEntry("2026-01-01T00:00:00Z", (1, 2), False),),
        "versions": {"torch": "2.13.0"},
    }  # fmt: skip
    return Manifest(**{**given, **changes})


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@given(st.lists(st.integers(0, 2**32 - 1), unique=True, min_size=1).map(tuple), st.text(), st.booleans())
def test_a_manifest_comes_back(tmp_path_factory: Any, seeds: tuple[int, ...], note: str, seen: bool) -> None:
    manifest = made(seeds=(), seed_log=()).adding(seeds, results_existed=seen, note=note)
    path = put(tmp_path_factory.mktemp("m") / "sweep.json", seal(manifest))
    assert read(path) == manifest


def test_seeds_are_only_added_and_every_addition_is_logged() -> None:
    one = made()
    two = one.adding([2, 3, 4], results_existed=True)
    assert two.seeds == (1, 2, 3, 4)
    assert two.seed_log[-1].added == (3, 4)
    assert (one.extensions, two.extensions) == (0, 1)
    assert two.adding([4, 1], results_existed=True) is two


def test_no_prefix_and_no_flipped_bit_is_a_manifest(tmp_path: Path) -> None:
    data = seal(made())
    for cut in range(0, len(data) - 1, 3):
        with pytest.raises(StoreError):
            read(put(tmp_path / "sweep.json", data[:cut]))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        try:
            assert read(put(tmp_path / "sweep.json", bytes(changed))) == made()  # a blank for another blank
        except StoreError:
            continue


def test_an_edited_manifest_says_so(tmp_path: Path) -> None:
    text = seal(made()).decode().replace("test/accuracy", "test/nll")
    with pytest.raises(StoreError, match="checksum does not match"):
        read(put(tmp_path / "sweep.json", text.encode()))


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    body = {**json.loads(seal(made())), "format": 2}
    del body["checksum"]
    data = json.dumps({**body, "checksum": content_id(body)}).encode()
    with pytest.raises(StoreError, match="newer version"):
        read(put(tmp_path / "sweep.json", data))


def test_an_absent_one_names_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no sweep here.*\n.*sweep run"):
        read(tmp_path / "sweep.json")


def test_differences_name_each_leaf_once() -> None:
    old = {"params": {"lr": 0.1, "layers": [1, 2]}, "threads": 1, "gone": True}
    new = {"params": {"lr": 0.2, "layers": [1, 3]}, "threads": 1, "added": None, "more": {"a": 1}}
    assert list(differences(old, new)) == [
        ("params.lr", "0.1", "0.2"), ("params.layers[1]", "2", "3"), ("gone", "true", "null"),
        ("more", "null", '{"a": 1}'),
    ]  # fmt: skip
    assert list(differences(old, old)) == []


def test_a_json_type_counts_as_a_difference() -> None:
    # 1 == 1.0 == True in Python; as parameters of a run they are three things.
    assert list(differences({"a": 1}, {"a": True})) == [("a", "1", "true")]
    assert list(differences({"a": 1}, {"a": 1.0})) == [("a", "1", "1.0")]
    assert atomic.dumps({"a": 1}) != atomic.dumps({"a": 1.0})
