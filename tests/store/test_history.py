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
    assert history.parse(data) == [{"step": step, **metrics} for step, metrics in logged]


def test_every_cut_leaves_the_whole_lines_before_it() -> None:
    lines = [history.line(step, {"loss": 1 / step}) for step in range(1, 5)]
    data = "".join(lines).encode()
    ends = [sum(len(line) for line in lines[: i + 1]) for i in range(4)]
    for cut in range(len(data) + 1):
        assert len(history.parse(data[:cut])) == sum(end <= cut for end in ends)


@pytest.mark.parametrize(
    "bad",
    [
        b"{", b"[]", b"3", b"null", b"{}", b'{"loss": 1.0}', b'{"step": "two", "loss": 1.0}',
        b'{"step": 2, "loss": "high"}', b'{"step": 2, "loss": null}', b'{"step": 2, "loss": [1]}',
        b'{"step": true}', b"\xff\xfe", b'{"step": 2, "loss": 1' + b"0" * 400 + b"}", b"[" * 100_000,
    ],
    ids=lambda bad: repr(bad[:24]),
)  # fmt: skip
def test_a_line_that_is_no_row_is_left_out(bad: bytes) -> None:
    whole = history.line(1, {"loss": 0.5}).encode()
    assert history.parse(whole + bad + b"\n" + whole) == [{"step": 1, "loss": 0.5}] * 2


lines = st.one_of(
    st.builds(lambda step, loss: history.line(step, {"loss": loss, "lr": 1.0}), st.integers(0, 9), st.floats()),
    st.sampled_from([
        '{"step": 1, "loss": 2, "lr": 0.5}\n', '{"loss": 0.5, "step": 1, "lr": 2}\n', '{"step": 1, "lr": 0.5}\n',
        '{"step": 1, "loss": true, "lr": 0.5}\n', '{"step": 1.0, "loss": 0.5, "lr": 0.5}\n', "3\n", "[1\n", "2]\n",
        '{"step": 1, "loss": "0.5", "lr": 0.5}\n', '{"step": 1, "step": 2, "loss": 0.5, "lr": 0.5}\n', "1, 2\n",
        '{"step": -9223372036854775808, "loss": 1, "lr": 1}\n', '{"step": 1, "loss": 1e999, "lr": 1}\n', "{}\n",
        '{"step": 1, "loss": 1%s, "lr": 1}\n' % ("0" * 400), '{"step": 1, "lo',
    ]),
)  # fmt: skip


@given(st.lists(lines, max_size=4))
def test_a_table_holds_what_the_rows_hold_or_there_is_none(texts: list[str]) -> None:
    data = "".join(texts).encode()
    rows, table = history.parse(data), history.tabulate(data)
    if table is not None:
        assert len(rows) == data.count(b"\n")
        assert table.steps.tolist() == [row["step"] for row in rows]
        by_row = [{name: row[name] for name in row if name != "step"} for row in rows]
        found = zip(*table.metrics.values(), strict=True)
        assert [dict(zip(table.metrics, values, strict=True)) for values in found] == by_row


def test_a_history_as_it_is_logged_is_a_table() -> None:
    data = "".join(history.line(step, {"loss": 1 / step, "é": 2.0}) for step in range(1, 4)).encode()
    table = history.tabulate(data)
    assert table is not None
    assert table.steps.tolist() == [1, 2, 3]
    assert {name: found.tolist() for name, found in table.metrics.items()} == {
        "loss": [1, 1 / 2, 1 / 3],
        "é": [2, 2, 2],
    }


def test_what_is_not_finite_is_a_number_again() -> None:
    (row,) = history.parse(history.line(1, {"loss": math.inf, "val/loss": math.nan}).encode())
    assert row["loss"] == math.inf
    assert math.isnan(row["val/loss"])


def test_the_last_row_of_a_long_file_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(history.line(step, {"loss": 0.5}) for step in range(2000)) + '{"step": 2000, "lo')
    assert history.last(path) == {"step": 1999, "loss": 0.5}
    assert history.last(tmp_path / "absent") is None
    assert history.read(tmp_path / "absent") == []
