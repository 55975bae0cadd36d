"""The grammar of seeds: what it takes, and that everything else is a ConfigError naming the culprit."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import ConfigError
from sweep.seeds import LARGEST, MOST, format_seeds, parse_seed, parse_seeds

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
    ("raw", "message"),
    [
        ("", "no seeds"),
        ("  \n", "no seeds"),
        ([], "no seeds"),
        ("-1", "seeds run from 0"),
        (-1, "outside 0"),
        (str(2**32), "outside 0"),
        (2**32, "outside 0"),
        (2**64, "outside 0"),
        (-(2**64), "outside 0"),
        pytest.param(10**6000, "outside 0", id="6000 digits"),
        pytest.param("9" * 6000, "outside 0", id="6000 nines"),
        ("1.0", "whole numbers"),
        ("1.5", "whole numbers"),
        ("1e3", "whole numbers"),
        (1.0, "whole number"),
        (float("nan"), "whole number"),
        (np.float64(1), "whole number"),
        (True, "True is not a seed"),
        (np.True_, "is not a seed"),
        (None, "whole number"),
        ({"a": 1}, "whole number"),
        (b"1", "whole number"),
        ([[1]], "whole number"),
        ("010", "starts with 0"),
        ("00", "starts with 0"),
        ("1_000", "only the digits"),
        ("+1", "only the digits"),
        ("١", "only the digits"),
        ("１", "only the digits"),
        ("²", "is not a seed"),
        ("1 2", "commas"),
        ("1,,2", "empty entry"),
        ("1,", "empty entry"),
        ("9-0", "backwards"),
        ("1-2-3", "is not a seed"),
        ("a", "is not a seed"),
        ("\0", "is not a seed"),
        ("1\u00a0", "is not a seed"),
        ("1,1", "duplicate seeds: 1"),
        ([1, "1"], "duplicate seeds: 1"),
        ("0-9,5", "duplicate seeds: 5"),
        ("0-9,0-9", "0, 1, 2, 3, 4 and 5 more"),
        (f"0-{MOST}", f"limit is {MOST}"),
        (f"0-{MOST - 1},{MOST}", f"limit is {MOST}"),
        (range(2 * MOST), f"limit is {MOST}"),
    ],
)
def test_refuses(raw: object, message: str) -> None:
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
    assert parse_seeds(f"@{file}") == parse_seeds(str(file)) == (42, 0, 1, 2, 7, 8)
    assert parse_seeds("@seeds.txt", base=tmp_path) == (42, 0, 1, 2, 7, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("42\n".encode("utf-16"), "UTF-16"),
        ("42\n".encode("utf-16-le"), "UTF-16"),
        (b"1\n\xff\n", "seeds.txt:2"),
        (b"", "no seeds in the file"),
        (b"# nothing\n\n", "no seeds in the file"),
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
    with pytest.raises(ConfigError, match="no such seeds file"):
        parse_seeds("@nowhere.txt", base=tmp_path)
    with pytest.raises(ConfigError, match="cannot read"):
        parse_seeds(f"@{tmp_path}")


@pytest.mark.parametrize("text", ["1.5", "1e3", "2.e1"])
def test_a_file_of_that_name_makes_no_number_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / text).write_text("1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        parse_seeds(text)
