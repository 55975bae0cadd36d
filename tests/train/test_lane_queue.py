"""The queue of a GPU's packs, with a stand-in for the GPU: halving, order, and every run exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweep.train.lanes import packed


class Device:
    """Holds `room` lanes; runs in `early` end before the memory of a pack that is too large runs out."""

    def __init__(self, room: int, early: frozenset[int] = frozenset()) -> None:
        self.room, self.early = room, early
        self.packs: list[tuple[int, ...]] = []

    def __call__(self, indices: Sequence[int]) -> Iterator[tuple[int, str]]:
        self.packs.append(tuple(indices))
        full = len(indices) > self.room
        for index in indices:
            if not full or index in self.early:
                yield index, f"result {index}"
        if full:
            raise torch.OutOfMemoryError("no more")


@given(
    count=st.integers(1, 80), most=st.integers(1, 90), room=st.integers(1, 90),
    early=st.frozensets(st.integers(0, 80)),
)  # fmt: skip
def test_every_run_has_one_result_however_often_a_pack_is_halved(
    count: int, most: int, room: int, early: frozenset[int]
) -> None:
    device = Device(room, early)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweep.train.lanes.release", lambda: None)  # looks through all that the tests before have left
        found = list(packed(range(count), most, device))  # type: ignore[arg-type]
    assert sorted(found) == [(i, f"result {i}") for i in range(count)]
    assert all(len(pack) <= most for pack in device.packs)


def test_a_halved_pack_goes_on_with_what_had_not_ended_before_anything_new() -> None:
    device = Device(room=4, early=frozenset({1}))
    list(packed(range(10), 5, device))  # type: ignore[arg-type]
    assert device.packs[0] == (0, 1, 2, 3, 4)
    assert device.packs[1][0] == 0
    assert 1 not in [i for pack in device.packs[1:] for i in pack]
    assert max(map(len, device.packs[1:])) <= 2


def test_one_run_that_does_not_fit_is_an_error_not_a_loop() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        list(packed(range(3), 3, Device(room=0)))  # type: ignore[arg-type]
    device = Device(room=0)
    with pytest.raises(torch.OutOfMemoryError):  # rows of one width need the same memory however few have a lane
        list(packed(range(12), 12, device, least=4))  # type: ignore[arg-type]
    assert [len(pack) for pack in device.packs] == [12, 6, 3]


def test_packs_of_one_task_are_even() -> None:
    device = Device(room=99)
    list(packed(range(100), 64, device))  # type: ignore[arg-type]
    assert [len(pack) for pack in device.packs] == [50, 50]


def test_another_error_ends_the_packs() -> None:
    def broken(indices: Sequence[int]) -> Iterator[tuple[int, str]]:
        yield indices[0], "result"
        raise RuntimeError("device-side assert")

    results = packed(range(4), 4, broken)  # type: ignore[arg-type]
    assert next(results) == (0, "result")
    with pytest.raises(RuntimeError, match="assert"):
        next(results)
