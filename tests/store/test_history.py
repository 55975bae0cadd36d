"""Every whole line of a history is read, and what is left out is said."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.store import history

rows = st.lists(
    st.tuples(
        st.integers(0, 10**9),
        st.dictionaries(st.sampled_from(["train/loss", "val/loss", "lr"]), st.floats(allow_nan=False)),
    ),
    max_size=6,
)


@given(rows)
def test_rows_come_back(logged: list[tuple[int, dict[str, float]]]) -> None:
    data = "".join(history.line(step, metrics) for step, metrics in logged).encode()
    found, note = history.parse(data)
    assert found == [{"step": step, **metrics} for step, metrics in logged]
    assert note == ""


def test_every_cut_leaves_the_whole_lines_before_it() -> None:
    lines = [history.line(step, {"loss": 1 / step}) for step in range(1, 5)]
    data = "".join(lines).encode()
    ends = [sum(len(line) for line in lines[: i + 1]) for i in range(4)]
    for cut in range(len(data) + 1):
        found, note = history.parse(data[:cut])
        assert len(found) == sum(end <= cut for end in ends)
        assert ("torn" in note) == (cut not in (0, *ends))


@pytest.mark.parametrize(
    "bad",
    [
        b"{", b"[]", b"3", b"null", b"{}", b'{"loss": 1.0}', b'{"step": "two", "loss": 1.0}',
        b'{"step": 2, "loss": "high"}', b'{"step": 2, "loss": null}', b'{"step": 2, "loss": [1]}',
        b'{"step": true}', b"\xff\xfe", b'{"step": 2, "loss": 1' + b"0" * 400 + b"}", b"[" * 100_000,
    ],
    ids=lambda bad: repr(bad[:24]),
)  # fmt: skip
def test_a_line_that_is_no_row_is_left_out_and_counted(bad: bytes) -> None:
    whole = history.line(1, {"loss": 0.5}).encode()
    found, note = history.parse(whole + bad + b"\n" + whole)
    assert found == [{"step": 1, "loss": 0.5}] * 2
    assert note == "1 unreadable history line left out"


def test_what_is_not_finite_is_a_number_again() -> None:
    (row,), _ = history.parse(history.line(1, {"loss": math.inf, "val/loss": math.nan}).encode())
    assert row["loss"] == math.inf
    assert math.isnan(row["val/loss"])


def test_the_last_row_of_a_long_file_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(history.line(step, {"loss": 0.5}) for step in range(2000)) + '{"step": 2000, "lo')
    assert history.last(path) == {"step": 1999, "loss": 0.5}
    assert history.last(tmp_path / "absent") is None
    assert history.read(tmp_path / "absent") == ([], "")
