"""The code that identifies a run is the user's own, and it is the code that Python imports."""

from __future__ import annotations

import importlib
import queue
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import sweep
from sweep.errors import TargetError
from sweep.target.function import find, resolve
from sweep.target.source import source_digest

TRAIN = "def train(run):\n    return {'test/accuracy': 0.5}\n"


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages on the path: `mylab` imports `otherlab`."""
    there = folder / "installed"
    for name, text in (("mylab_i", f"import otherlab_i\nfrom mylab_i import part\n{TRAIN}"), ("otherlab_i", "x = 1\n")):
        (there / name).mkdir(parents=True)
        (there / name / "__init__.py").write_text(text if name == "otherlab_i" else "")
        if name == "mylab_i":
            (there / name / "train.py").write_text(text)
            (there / name / "part.py").write_text("y = 1\n")
        release(there, name, "1.0")
    monkeypatch.syspath_prepend(str(there))
    return there


def release(there: Path, name: str, version: str) -> None:
    info = there / f"{name}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(f"{name}\n")
    (info / "RECORD").write_text("")


def digest() -> str:
    importlib.invalidate_caches()
    for module in [m for m in sys.modules if m.split(".")[0] in ("mylab_i", "otherlab_i")]:
        del sys.modules[module]
    return source_digest(find("mylab_i.train:train"))


def test_of_other_installed_packages_the_version_counts_and_no_file(site: Path) -> None:
    first = digest()
    (site / "otherlab_i" / "__init__.py").write_text("x = 2\n")
    assert digest() == first
    release(site, "otherlab_i", "1.1")
    assert digest() != first


def test_every_file_of_the_users_own_installed_package_counts(site: Path) -> None:
    first = digest()
    (site / "mylab_i" / "part.py").write_text("y = 2\n")
    assert digest() != first


@pytest.mark.parametrize("taken", [random, queue, torch, sweep], ids=lambda module: module.__name__)
def test_a_module_named_like_one_of_pythons_or_ours_is_refused_with_both_files(folder: Path, taken: ModuleType) -> None:
    name = taken.__name__
    (folder / f"{name}.py").write_text(TRAIN)
    with pytest.raises(TargetError) as refused:
        resolve("function", f"{name}:train")
    assert str(folder / f"{name}.py") in str(refused.value)
    assert str(taken.__file__) in str(refused.value)
    assert "rename" in str(refused.value.hint)


def test_a_helper_named_like_a_module_of_python_is_refused_where_it_is_imported(folder: Path) -> None:
    (folder / "queue.py").write_text("SIZE = 3\n")
    (folder / "mine_q.py").write_text(f"import queue\n{TRAIN}")
    (folder / "mine_r.py").write_text(TRAIN)
    with pytest.raises(TargetError) as refused:
        resolve("function", "mine_q:train")
    assert str(folder / "queue.py") in str(refused.value)
    assert resolve("function", "mine_r:train")[0].digest  # it does not import that file
