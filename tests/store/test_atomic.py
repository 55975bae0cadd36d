"""A write is whole or absent, whatever call fails in the middle of it."""

from __future__ import annotations

import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.store import atomic

CALLS = ("_open", "_write", "_fsync", "_replace")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(atomic.TEMPORARY)]


@pytest.mark.parametrize("call", CALLS)
def test_a_failing_call_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "value.json"
    atomic.write(path, atomic.encoded({"old": 1}))

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(atomic, call, fail)
        with pytest.raises(OSError, match="No space left"):
            atomic.write(path, atomic.encoded({"new": 2}))
    assert json.loads(path.read_text()) == {"old": 1}
    assert left_behind(tmp_path) == []


def test_a_writer_that_dies_half_way_through_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "value"
    atomic.write(path, b"old")
    real = os.write

    def half(fd: int, data: Any) -> None:
        real(fd, data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "_write", half)
    with pytest.raises(KeyboardInterrupt):
        atomic.write(path, b"a longer text")
    assert path.read_bytes() == b"old"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    atomic.write(tmp_path / "value", b"0123456789")
    assert (tmp_path / "value").read_bytes() == b"0123456789"


def test_create_once_lets_the_first_one_win(tmp_path: Path) -> None:
    assert atomic.create_once(tmp_path / "record.json", b"first")
    assert not atomic.create_once(tmp_path / "record.json", b"second")
    assert (tmp_path / "record.json").read_bytes() == b"first"
    assert left_behind(tmp_path) == []


def test_create_once_does_not_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    (tmp_path / "record.json").symlink_to(tmp_path / "elsewhere")
    assert not atomic.create_once(tmp_path / "record.json", b"mine")
    assert (tmp_path / "elsewhere").read_text() == "untouched"


def test_a_stream_can_be_sought_as_zip_files_do(tmp_path: Path) -> None:
    def fill(stream: Any) -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.txt", "hello" * 1000)

    atomic.write(tmp_path / "some.zip", fill)
    with zipfile.ZipFile(tmp_path / "some.zip") as archive:
        assert archive.read("a.txt") == b"hello" * 1000


@given(values)
def test_json_comes_back_as_it_went(value: Any) -> None:
    assert atomic.loads(atomic.dumps(value)) == value


def test_what_is_not_finite_survives_as_text_that_float_reads() -> None:
    text = atomic.dumps({"a": math.nan, "b": [math.inf, -math.inf]})
    assert atomic.loads(text) == {"a": "nan", "b": ["inf", "-inf"]}
    assert math.isnan(float(atomic.loads(text)["a"]))


def test_a_lone_surrogate_can_be_written() -> None:
    assert atomic.dumps({"name \udcff": "file \udcff"}).encode()


def test_bytes_become_text() -> None:
    assert atomic.loads(atomic.dumps({"ids": [b"a1", b"\xff"]})) == {"ids": ["a1", "\\xff"]}


def test_what_is_nested_as_deeply_as_a_hundred_levels_is_read() -> None:
    atomic.loads("[" * atomic.DEEPEST + "]" * atomic.DEEPEST)
    atomic.loads(json.dumps([{}] * 1000))


@pytest.mark.parametrize(
    "text",
    [
        "NaN", "Infinity", "[-Infinity]", '{"a": 1, "a": 2}', "{", "", "[" * 101 + "]" * 101,
        '{"a": ' * 300 + "1" + "}" * 300, "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_strict_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        atomic.loads(text)


def test_file_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert atomic.file_digest(tmp_path / "abc") == atomic.bytes_digest(b"abc") == known
