"""Numbers and words live apart: no result of an analysis, of the statistics or of an ensemble holds a sentence."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sweep.ensemble.serve import About

# Names of things, words of users, and commands to be typed: what no report has to word.
NAMES = frozenset((
    "name", "names", "key", "task", "variant", "variants", "label", "labels", "metric", "primary", "split",
    "directory", "origin", "device", "mode", "id", "letter", "a", "b", "base", "candidate", "first", "second", "seed",
    "arms", "text", "requirement", "rule", "code", "best_member", "members", "lacking", "missing", "kind", "phase",
    "message", "exception", "where", "log", "status", "fitted_on", "classes", "vary", "group_by", "identical",
    "command", "next", "summary", "differences", "changed", "called", "options", "refused",
))  # fmt: skip


def results() -> Iterator[type[Any]]:
    for package in ("sweep.analysis", "sweep.stats", "sweep.ensemble"):
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


def test_a_sentence_would_be_seen() -> None:
    @dataclass
    class Told:
        name: str
        headline: str
        notes: tuple[str, ...]

    assert sentences(Told) == ["headline", "notes"]
