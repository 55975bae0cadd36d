"""A prompt that completes `sweep.` offers what is public and nothing else."""

from __future__ import annotations

import inspect

import sweep
from sweep.analysis.compare import compare


def test_dir_shows_the_public_names_and_each_is_there() -> None:
    shown = dir(sweep)
    assert [name for name in shown if not name.startswith("__")] == sorted(sweep.__all__)
    assert all(hasattr(sweep, name) for name in shown)


def test_compare_shows_what_it_takes() -> None:
    function = inspect.signature(compare).parameters
    method = inspect.signature(sweep.Results.compare).parameters
    assert set(function) - {"stores", "seed"} == set(method) - {"self", "others"}
    assert all(function[name].default == method[name].default for name in set(function) & set(method))
