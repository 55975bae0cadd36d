"""README.md is complete: every case has a row, and every row a test that exists or a reason."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
CASES = 110


def rows() -> dict[int, str]:
    """The last cell of each case's row."""
    found: dict[int, str] = {}
    for line in (HERE / "README.md").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| (\d+) \| .+ \| (.+) \|$", line):
            assert int(match[1]) not in found, f"case {match[1]} twice"
            found[int(match[1])] = match[2]
    return found


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def missing(cell: str) -> list[str]:
    """Tests that a cell names and that are nowhere."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", cell)
    return [f"{f}::{n}" for f, n in named if not (HERE.parent / f).exists() or n not in functions(HERE.parent / f)]


def test_every_case_has_a_row_with_a_test_that_exists_or_a_reason() -> None:
    found = rows()
    assert sorted(found) == list(range(1, CASES + 1))
    assert {case: gone for case, cell in found.items() if (gone := missing(cell))} == {}
    untested = [case for case, cell in found.items() if "::" not in cell]
    assert all(len(found[case]) > 20 for case in untested)
    assert len(untested) <= 3


def test_a_test_that_does_not_exist_is_noticed() -> None:
    assert missing("`faults/test_catalogue.py::test_of_nothing`, `faults/nowhere.py::test_x`") != []
    assert missing("`faults/test_catalogue.py::test_a_test_that_does_not_exist_is_noticed`") == []


def test_every_test_that_names_cases_stands_in_their_rows() -> None:
    found = rows()
    for path in HERE.glob("test_*.py"):
        for name in functions(path):
            if match := re.match(r"test_cases?_((?:\d+_)+)", name):
                cases = [int(number) for number in match[1].strip("_").split("_")]
                assert any(name in found[case] for case in cases), name
