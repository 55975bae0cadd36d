"""The grammar of seeds: what it takes, and that everything else is a ConfigError naming the culprit."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import ConfigError
from sweep.seeds import LARGEST, MOST, format_seeds, parse_seed, parse_seeds, seeds_file

seed_lists = st.lists(st.integers(0, LARGEST), min_size=1, max_size=30, unique=True)


@pytest.mark.parametrize(
    ("raw", "seeds"),
    [
        ("42,123,456", (42, 123, 456)),
        ("0-9", tuple(range(10))),
        ("42, 0-2 ,7", (42, 0, 1, 2, 7)),
        (" 7 ", (7,)),
        ("5-5", (5,)),
        ("0", (0,)),
        (42, (42,)),
        ([3, 1, 2], (3, 1, 2)),
        ([1, "5-7", "9"], (1, 5, 6, 7, 9)),
        (range(3), (0, 1, 2)),
        (np.int64(7), (7,)),
        (np.arange(3), (0, 1, 2)),
        ([np.uint32(1), np.int8(2)], (1, 2)),
        (str(LARGEST), (LARGEST,)),
    ],
)
def test_accepts(raw: object, seeds: tuple[int, ...]) -> None:
    found = parse_seeds(raw)
    assert found == seeds
    assert all(type(seed) is int for seed in found)


@pytest.mark.parametrize(
    "raw",
    [
        "", "  \n", [], "-1", -1, str(2**32), 2**32, 2**64, -(2**64), pytest.param(10**6000, id="6000 digits"),
        pytest.param("9" * 6000, id="6000 nines"), "1.0", "1.5", "1e3", 1.0, float("nan"), np.float64(1), True,
        np.True_, None, {"a": 1}, b"1", [[1]], "010", "00", "1_000", "+1", "١", "１", "²", "1 2", "1,,2", "1,", "9-0",
        "1-2-3", "a", "\0", "1\u00a0", "1,1", [1, "1"], "0-9,5", "0-9,0-9", f"0-{MOST}", f"0-{MOST - 1},{MOST}",
        range(2 * MOST),
        range(2**50),
    ],
)  # fmt: skip
def test_refuses(raw: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_seeds(raw, "here")
    assert (caught.value.where or "").startswith("here") or "problems" in caught.value.what
    assert caught.value.hint or "problems" in caught.value.what


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("010", "drop the leading 0"),
        ("9-0", "write 0-9"),
        ("0-9,5", "duplicate seeds: 5"),
        ("0-9,0-9", "0, 1, 2, 3, 4 and 5 more"),
        (f"0-{MOST}", f"limit is {MOST}"),
        (2**32, "4294967296 is outside 0"),
    ],
)
def test_says_what_is_wrong(raw: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_seeds(raw)
    assert message in str(caught.value)


def test_names_every_bad_entry_at_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_seeds([1, "x", -2, "3-1"], "seeds")
    text = str(caught.value)
    assert "3 problems" in text
    assert all(place in text for place in ("seeds[1]", "seeds[2]", "seeds[3]"))


def test_takes_a_million_seeds() -> None:
    assert len(parse_seeds(f"0-{MOST - 1}")) == MOST


@given(seed_lists)
def test_round_trips(seeds: list[int]) -> None:
    assert parse_seeds(format_seeds(seeds)) == tuple(seeds)
    assert parse_seeds(seeds) == parse_seeds(",".join(map(str, seeds))) == tuple(seeds)


@given(st.text(alphabet="0123456789,- \t+_.ex١/@\0") | st.text())
def test_any_text_gives_distinct_seeds_or_a_config_error(text: str) -> None:
    try:
        seeds = parse_seeds(text)
    except ConfigError:
        return
    assert len(set(seeds)) == len(seeds) > 0
    assert all(0 <= seed <= LARGEST for seed in seeds)
    assert text.isascii()


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_any_value_gives_seeds_or_a_config_error(raw: object) -> None:
    for parse in (parse_seeds, parse_seed):
        with contextlib.suppress(ConfigError):
            parse(raw)


def test_one_seed() -> None:
    assert parse_seed(" 42 ") == parse_seed(np.int32(42)) == 42
    for raw in ("1-2", "1,2", "", True, 1.0):
        with pytest.raises(ConfigError):
            parse_seed(raw)


def test_reads_a_file(tmp_path: Path) -> None:
    file = tmp_path / "seeds.txt"
    file.write_bytes("\ufeff# chosen by dice\r\n42\r\n0-2  # three\r\n\r\n7,8\r\n  \r\n".encode())
    assert parse_seeds(f"@{file}") == (42, 0, 1, 2, 7, 8)
    assert seeds_file(" @seeds.txt", tmp_path) == file
    assert seeds_file("42", tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("42\n".encode("utf-16"), "UTF-16"),
        ("42\n".encode("utf-16-le"), "UTF-16"),
        (b"1\n\xff\n", "seeds.txt: line 2"),
        (b"", "no seeds"),
        (b"# nothing\n\n", "no seeds"),
        (b"1\n2\nx\n", "seeds.txt:3: 'x' is not a seed"),
        (b"1\n2\n1\n", "seeds.txt:3: duplicate seeds: 1"),
        (b"@seeds.txt\n", "is not a seed"),
    ],
)
def test_refuses_a_file_naming_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "seeds.txt"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        parse_seeds(f"@{file}")
    assert message in str(caught.value)


def test_a_missing_file_or_a_directory_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            parse_seeds(f"@{path}")
        assert caught.value.where == str(path)
