"""The README's examples, copied into an empty folder and typed, as a reader would.

A comment before a fenced block says what becomes of it:

    <!-- example 4 file=forest.py -->      the block is that file
    <!-- example 4 run -->                 every line is typed into bash, in the order of the page
    <!-- example 4 python -->              the block is run by Python

`needs=PACKAGE` skips an example where an extra is not installed. `sweep run` is given `--engine inline`, which
trains the same bits; starting Ray for each would cost minutes and is tested elsewhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"^<!-- example (\d+) (.+?) -->\n+```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: what to do with it ("run", "python" or "file"), the file's name, the package it needs."""

    does: str
    text: str
    file: str = ""
    needs: str = ""


def examples(page: str) -> dict[int, list[Block]]:
    """The blocks of each numbered example, in the order of the page."""
    found: dict[int, list[Block]] = defaultdict(list)
    for number, words, text in BLOCK.findall(page):
        options = dict(word.split("=", 1) for word in words.split() if "=" in word)
        does = "file" if "file" in options else words.split()[0]
        assert does in ("file", "run", "python"), f"example {number}: {words}"
        found[int(number)].append(Block(does, text, **options))
    return dict(found)


def follow(blocks: list[Block], folder: Path) -> str:
    """Do what an example says, in `folder`; returns all that was printed. A command that fails, fails the test."""
    here = os.path.dirname(sys.executable)
    variables = {**os.environ, "PATH": os.pathsep.join([here, os.environ["PATH"]]), "NO_COLOR": "1"}
    printed = []
    for block in blocks:
        if block.does == "file":
            (folder / block.file).write_text(block.text, encoding="utf-8")
            continue
        if block.does == "python":
            words = [sys.executable, "-c", block.text]
        else:
            words = ["bash", "-e", "-c", block.text.replace("sweep run ", "sweep run --engine inline ")]
        made = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
        printed.append(made.stdout)
    return "\n".join(printed)


ON_THE_PAGE = examples(README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("number", list(ON_THE_PAGE))
def test_an_example_does_what_the_page_says(number: int, tmp_path: Path) -> None:
    blocks = ON_THE_PAGE[number]
    if missing := [block.needs for block in blocks if block.needs and not find_spec(block.needs)]:
        pytest.skip(f"needs the extra [{missing[0]}]")
    printed = follow(blocks, tmp_path)
    assert re.search(r"[1-9]\d* planned = [1-9]\d* ok \+ 0 failed \+ 0 lost \+ 0 pending", printed)


def test_examples_are_numbered_in_order_and_every_file_is_used() -> None:
    assert list(ON_THE_PAGE) == list(range(1, len(ON_THE_PAGE) + 1))
    for number, blocks in ON_THE_PAGE.items():
        assert any(block.does in ("run", "python") for block in blocks), f"example {number} is never run"


def test_a_broken_example_is_noticed(tmp_path: Path) -> None:
    script = "<!-- example 1 file=a.py -->\n```python\nraise SystemExit(3)\n```\n"
    page = f"{script}<!-- example 1 run -->\n```bash\npython a.py\n```\n"
    with pytest.raises(AssertionError):
        follow(examples(page)[1], tmp_path)
