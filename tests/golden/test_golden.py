"""Numbers of finished directories, frozen: no change of the code may change them without a word.

The directories are files of an earlier version (`directories.py` tells what is in them). Keys may be added; a value
that was there stays. `UPDATE_GOLDEN=1 pytest tests/golden` writes them again: review the diff, and name what changed
in the changelog.
"""

from __future__ import annotations

import json
import math
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sweep.cli.app import main

HERE = Path(__file__).parent
PAIRS = ("grid", "failures", "extremes", "repeats", "tasks", "splits", "extended", "trained")
CASES = {
    **{f"report-{name}": ["report", name, "--json"] for name in (
        "every-kind", "classes", "grid", "values", "failures", "extremes", "repeats", "tasks", "many", "one", "splits",
        "extended", "trained", "command",
    )},
    **{f"status-{name}": ["status", name, "--json"] for name in ("every-kind", "failures", "trained", "command")},
    **{f"compare-{name}": ["compare", name, "--json"] for name in PAIRS},
    "compare-two": ["compare", "classes", "every-kind", "--json"],
    "compare-gate": ["compare", "grid", "--baseline", "lr-0.01", "--require", "test/accuracy >= base - 0.05", "--json"],
    "compare-unpaired": ["compare", "grid", "--unpaired", "--level", "0.9", "--json"],
    "ensemble-classes": ["ensemble", "classes", "--json"],
    "ensemble-values": ["ensemble", "values", "--json"],
    "ensemble-few": ["ensemble", "classes", "--members", "0-4", "--calibrate", "--select", "greedy", "--json"],
    "ensemble-grid": ["ensemble", "grid", "--variant", "lr-0.05", "--margin", "0.02", "--json"],
    "ensemble-trained": ["ensemble", "trained", "--variant", "lr-0.05", "--json"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(HERE / "directories.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Places of `old` that `new` lacks or holds another value at."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line for key, value in old.items()
            for line in (differences(value, new[key], f"{at}.{key}") if key in new else [f"{at}.{key} is gone"])
        ]  # fmt: skip
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [line for i, (a, b) in enumerate(zip(old, new, strict=True)) for line in differences(a, b, f"{at}[{i}]")]
    if isinstance(old, float) and isinstance(new, float | int):
        return [] if math.isclose(old, new, rel_tol=1e-7, abs_tol=1e-12) else [f"{at}: {old!r} is {new!r}"]
    return [] if old == new else [f"{at}: {old!r} is {new!r}"]


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_stay(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(CASES[name]) in (0, 1, 4), capsys.readouterr().err
    new = json.loads(capsys.readouterr().out)
    kept = HERE / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        kept.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n")
    old = json.loads(kept.read_text())
    assert not differences(old, new)


def test_a_changed_number_would_be_seen() -> None:
    old = {"a": [{"b": 0.9, "c": "text"}]}
    assert not differences(old, {"a": [{"b": 0.9, "c": "text", "new": 1}]})
    assert differences(old, {"a": [{"b": 0.91, "c": "text"}]})
    assert differences(old, {"a": [{"b": 0.9}]})
    assert differences(old, {"a": []})
