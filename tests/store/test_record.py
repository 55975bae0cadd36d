"""A record comes back as it was written, and nothing but a whole one comes back at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from finished import planned
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.plan import RunSpec, content_id
from sweep.store import Artifact, Damaged, Failure, Record
from sweep.store.record import decode
from sweep.store.shape import seal

SPEC: RunSpec = next(iter(planned([7], [""], [""], 1, deterministic=True)))

texts = st.text(max_size=20)
numbers = st.floats(allow_nan=True, allow_infinity=True)
failures = st.builds(Failure, kind=texts, message=texts, phase=texts, exception=texts, where=texts)
names = texts.filter(lambda text: Path(text).name == text and not text.startswith("."))
records = st.builds(
    Record,
    spec=st.just(SPEC.to_json()), spec_id=st.just(SPEC.id), attempt=st.integers(0, 2**32 - 1).map("{:08x}".format),
    attempts=st.integers(1, 9),
    status=st.just("ok"), metrics=st.dictionaries(texts, numbers, max_size=4),
    result=st.fixed_dictionaries({"rule": texts, "epoch": st.none() | st.integers(0, 1 << 62)}),
    digests=st.dictionaries(texts, texts, max_size=3), environment_id=texts,
    artifacts=st.dictionaries(names, st.builds(Artifact, texts, st.integers(0, 1 << 62)), max_size=3),
    seconds=st.floats(0, 1e9), notes=st.lists(texts, max_size=3).map(tuple),
)  # fmt: skip


def made(**fields: Any) -> Record:
    given: dict[str, Any] = {
        "spec": SPEC.to_json(), "spec_id": SPEC.id, "status": "ok", "attempt": "00c0ffee",
        "metrics": {"test/accuracy": 0.93, "test/nll": 0.25}, "digests": {"final": "ab" * 32},
        "artifacts": {"history.jsonl": Artifact("cd" * 32, 120)}, "notes": ("said",),
    }  # fmt: skip
    return Record(**{**given, **fields})


def same(a: Any, b: Any) -> bool:
    return repr(a) == repr(b)  # NaN is not equal to itself


@given(records)
def test_a_record_comes_back(record: Record) -> None:
    assert same(decode(seal(record)), record)


@given(failures)
def test_a_failure_comes_back(failure: Failure) -> None:
    record = made(status="failed", failure=failure, metrics={"val/loss": math.nan})
    assert same(decode(seal(record)), record)


def test_a_message_that_is_no_unicode_does_not_cost_the_record() -> None:
    record = made(status="failed", failure=Failure("raised", "no file 'a\udcff'"))
    found = decode(seal(record)).failure
    assert found is not None
    assert found.message == "no file 'a\\udcff'"


def test_no_prefix_of_a_record_is_complete() -> None:
    data = seal(made())
    for length in range(len(data) - 1):  # without its final newline it is whole
        with pytest.raises(Damaged):
            decode(data[:length])
    assert decode(data) == decode(data[:-1]) == made()


def test_no_flipped_bit_goes_unseen() -> None:
    data = seal(made())
    unseen = []
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            try:
                found = decode(bytes(changed))
            except Damaged:
                continue
            if found != made():  # a blank that became a tab changes nothing that was said
                unseen.append((place, bit))
    assert unseen == []


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_damaged_and_no_accident(data: bytes) -> None:
    with pytest.raises(Damaged):
        decode(data)


def resealed(**changes: Any) -> bytes:
    """A record with a checksum that holds, of somebody who knows how it is made."""
    body = {**json.loads(seal(made())), **changes}
    del body["checksum"]
    return json.dumps({**body, "checksum": content_id(body)}).encode()


def test_a_resealed_record_is_believed_when_it_is_one() -> None:
    assert decode(resealed()) == made()


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "fine"},
        {"status": "failed"},
        {"spec": {"seed": 7}, "spec_id": content_id({"seed": 7})},
        {"spec": [], "spec_id": content_id([])},
        {"spec_id": "0" * 64},
        {"metrics": {"a": 10**400}},
        {"metrics": {"a": "high"}},
        {"metrics": None},
        {"failure": {"because": "so"}},
        {"artifacts": {"a": {"sha256": "0"}}},
        {"format": "one"},
        {"notes": 3},
    ],
    ids=str,
)
def test_a_resealed_record_of_another_shape_is_damaged(changes: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        decode(resealed(**changes))


def test_a_record_of_a_newer_version_says_so() -> None:
    with pytest.raises(Damaged, match="newer version of sweep"):
        decode(resealed(format=2))


def test_fields_of_a_later_minor_version_are_passed_over() -> None:
    assert decode(resealed(colour="blue")) == made()


def test_deep_nesting_is_damaged_too() -> None:
    with pytest.raises(Damaged):
        decode(b"[" * 100_000)
