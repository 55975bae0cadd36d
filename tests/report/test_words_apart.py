"""Numbers and words live apart: no result of an analysis, of the statistics or of an ensemble holds a sentence."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweep.ensemble.serve import About

PACKAGES = ("sweep.analysis", "sweep.stats", "sweep.ensemble")

# Names of things and words of users: what no report has to word.
NAMES = frozenset((
    "name", "names", "key", "task", "variant", "variants", "label", "labels", "metric", "primary", "split",
    "directory", "origin", "device", "mode", "id", "letter", "a", "b", "base", "candidate", "first", "second", "seed",
    "arms", "text", "requirement", "rule", "code", "best_member", "members", "lacking", "missing", "kind", "phase",
    "message", "exception", "where", "log", "status", "fitted_on", "classes", "vary", "group_by", "identical",
    "changed", "called", "options", "refused",
))  # fmt: skip


# A gate as it is typed, the names of readings, and what errors, notes of a served file and torch show of members.
WORDED = frozenset((
    "gate.__str__", "ranks.reading", "gather._one", "members._legal", "load._temperature", "serve.extra_repr",
    "serve.unstackable",
))  # fmt: skip


def results() -> Iterator[type[Any]]:
    for package in PACKAGES:
        for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
            module = importlib.import_module(f"{package}.{found.name}")
            for made in vars(module).values():
                if isinstance(made, type) and dataclasses.is_dataclass(made) and made.__module__ == module.__name__:
                    yield made


def sentences(made: type[Any]) -> list[str]:
    """Return the fields of a dataclass that are text of no known kind."""
    texts = {"str", "str | None", "tuple[str, ...]", "list[str]", "Sequence[str]"}
    if made is About:  # what a file says
        return []
    return [f.name for f in dataclasses.fields(made) if str(f.type) in texts and f.name not in NAMES]


@pytest.mark.parametrize("made", [*results()], ids=lambda made: f"{made.__module__}.{made.__name__}")
def test_no_result_holds_a_sentence(made: type[Any]) -> None:
    assert sentences(made) == []


def wording(text: str) -> list[str]:
    """Return the functions of a module that hold a sentence, or put words around values to return; errors aside."""
    found = []
    for made in ast.walk(ast.parse(text)):
        if not isinstance(made, ast.FunctionDef):
            continue
        raised = [part for part in ast.walk(made) if isinstance(part, ast.Raise)]
        docs = [part for part in ast.walk(made) if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)]
        aside = {id(part) for each in (*raised, *docs) for part in ast.walk(each)}
        parts = [part for part in ast.walk(made) if id(part) not in aside]
        texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        filled = {id(piece) for part in parts if isinstance(part, ast.JoinedStr) for piece in part.values}
        around = [part.value for part in parts if isinstance(part, ast.Constant) and id(part) in filled]
        returns = made.returns is not None and "str" in ast.unparse(made.returns)
        words = returns and any(re.search(r"[a-z]{2,} |[ (][a-z]{2,}", str(one)) for one in around)
        if words or (not raised and any(len(text.split()) > 5 for text in texts)):
            found.append(made.name)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_beside_the_reports_makes_sentences_of_numbers(package: str) -> None:
    folder = Path(str(importlib.import_module(package).__file__)).parent
    found = {f"{path.stem}.{name}" for path in sorted(folder.glob("*.py")) for name in wording(path.read_text())}
    assert found <= WORDED


def test_a_sentence_would_be_seen() -> None:
    @dataclass
    class Told:
        name: str
        headline: str
        notes: tuple[str, ...]

    assert sentences(Told) == ["headline", "notes"]
    assert wording('class Counts:\n    def __str__(self) -> str:\n        return f"{self.planned} planned"\n') == [
        "__str__"
    ]
    assert wording('def of_pending(running: int) -> str:\n    return f" ({running} running)"\n') == ["of_pending"]
    lost = "its process ended without a record; the next run tries it again"
    assert wording(f'def cause(m: Member) -> Cause:\n    return Cause(m.note or "{lost}")\n') == ["cause"]
    assert wording('def name_of(task: str, seed: int) -> str:\n    return f"{task}/seed{seed}"\n') == []
    assert wording('def checked(n: int) -> str:\n    raise ValueError(f"{n} is no seed")\n') == []
