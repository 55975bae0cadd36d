"""Every command of the README is run: typed here in the order of the page, or by the test that is named for it.

The page is one walk: a reader who types it from top to bottom, in one folder with the project's `configs`, meets no
refusal. The quick test walks it in this process with `--engine inline` and one epoch; the slow one types what is
printed, letter by letter. The numbered examples, each in a folder of its own, are typed by test_examples.py.

A command that is added to the page is walked without anything being done here. One that cannot be (a cluster, a
GPU) needs an entry in ELSEWHERE with a test that is there.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_examples import BLOCK, ROOT

from sweep.cli.app import main

PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = ("sweep", "ml-train", "pip", "python", "pytest", "ray", "git", "torchrun")
FENCE = re.compile(r"```(\w*)$")
REMARK = re.compile(r"  +[#(].*")  # what stands behind a command to say what it does, or where it was measured
NAME = re.compile(r"(sweep( [a-z]+)?|ml-train|python|pytest)")  # a program that is spoken of, not typed

# What stands for the reader's own in the running text.
STANDS_FOR = {
    "CONFIG": "configs/digits_deterministic.yaml", "DIR": "runs/digits-mlp", "A": "runs/digits-mlp", "B": "runs/lr",
    "[--steps N]": "--steps 3",
}  # fmt: skip

# Cannot be typed here, and is run there.
ELSEWHERE = {
    'pip install -c constraints.txt -e ".[test]" && pytest': ".ci/run",
    "pip install -c constraints.txt . && sweep run --seeds 42,123,456": (
        "tests/test_readme.py::test_the_first_command_in_a_new_environment"
    ),
    "sweep run configs/digits.yaml --seeds 0-39 --address auto": (
        "tests/faults/test_clusters.py::test_cases_16_17_a_node_lost_in_mid_seed"
    ),
    "sweep verify CONFIG --lanes 16": "tests/gpu/test_lanes.py",
}

# Two processes prove it, or a figure is measured: as printed only. What they do has quick tests in tests/verify.
SLOW = ("sweep verify", "sweep reproduce", "sweep run configs/digits_deterministic.yaml")

ANSWERS = {"--require": (0, 1, 4)}  # a gate's exit code is its answer; all else ends with 0


@dataclass(frozen=True)
class Command:
    """A command as it is printed, and the line of the page it stands on; spoken: in the running text."""

    text: str
    line: int
    spoken: bool = False

    @property
    def filled(self) -> str:
        """With the placeholders of the running text filled in."""
        text = self.text
        for word, value in STANDS_FOR.items() if self.spoken else ():
            text = re.sub(rf"(?<=\s){re.escape(word)}(?=\s|$)", value, text)
        return text

    @property
    def program(self) -> str:
        return self.text.split(" ")[0]

    @property
    def walked(self) -> bool:
        return self.program in ("sweep", "ml-train") or self.text.startswith("python -c ")

    @property
    def slow(self) -> bool:
        return self.text.startswith(SLOW)


def commands(page: str) -> list[Command]:
    """What can be typed: lines of fenced and of indented blocks, and code in the running text that has arguments.

    The numbered examples are left out.
    """
    rest = BLOCK.sub(lambda found: "\n" * found[0].count("\n"), page)
    found, fence = [], ""
    for number, line in enumerate(rest.splitlines(), 1):
        mark = FENCE.match(line)
        if mark or line == "```":
            fence = "" if fence else (mark[1] if mark else "") or "text"
        elif fence or line.startswith("    "):
            code = line if fence else line[4:]
            words = REMARK.sub("", code.removeprefix("$ ")).rstrip()
            if fence not in ("python", "yaml") and words.split(" ")[0] in PROGRAMS:
                found.append(Command(words, number))
        else:
            spans = re.findall(r"`([^`]+)`", line)
            found += [
                Command(span, number, spoken=True)
                for span in spans
                if span.split(" ")[0] in PROGRAMS and not NAME.fullmatch(span)
            ]  # fmt: skip
    return found


def snippets(page: str) -> Iterator[tuple[int, str]]:
    """The blocks of Python outside the examples, with their lines."""
    rest = BLOCK.sub(lambda found: "\n" * found[0].count("\n"), page)
    for block in re.finditer(r"^```python\n(.*?)^```$", rest, re.MULTILINE | re.DOTALL):
        yield rest[: block.start()].count("\n") + 2, block[1]


def quick(command: Command) -> list[str]:
    """The words of a command for this process: no Ray, and one epoch where the page has more."""
    words = shlex.split(command.filled)
    if words[:2] != ["sweep", "run"] and words[0] != "ml-train":
        return words
    kept = [*(word for word in words if not word.startswith("params.epochs=")), "params.epochs=1"]
    return kept if words[0] == "ml-train" or "--engine" in kept else [*kept, "--engine", "inline"]


def expected(command: Command) -> tuple[int, ...]:
    return next((codes for word, codes in ANSWERS.items() if word in command.text), (0,))


COMMANDS = commands(PAGE)


def test_every_command_has_its_test() -> None:
    """Walked, or run by a test that is there; benchmarks and their figures are measured by hand, but are there."""
    for command in COMMANDS:
        where = f"README.md:{command.line}: {command.text}"
        if command.text in ELSEWHERE:
            path, _, name = ELSEWHERE[command.text].partition("::")
            assert f"def {name}(" in (ROOT / path).read_text() if name else (ROOT / path).exists(), where
        elif command.program == "pytest" or command.text.startswith("python benchmarks/"):
            assert (ROOT / shlex.split(command.text)[1]).is_file(), where
        elif command.text.startswith("pip install "):
            extra = re.fullmatch(r'pip install "seed-sweep\[(\w+)\]"', command.text)
            assert extra, where
            assert f"\n{extra[1]} = [" in (ROOT / "pyproject.toml").read_text(), where
        else:
            assert command.walked, f"{where}: no test runs it"
    assert set(ELSEWHERE) <= {command.text for command in COMMANDS}


def test_a_command_is_found_wherever_it_stands() -> None:
    page = (
        "`sweep run` trains; `sweep compare A B` asks.\n\n```bash\nsweep status A   # how far?\n```\n\n"
        "    $ sweep verify --cost     (one H100)\n      next       sweep report runs/x\n\n"
        "```python\nsweep.run()\n```\n\n<!-- example 1 run -->\n```bash\nsweep run x.yaml\n```\n"
    )
    assert [(c.text, c.line) for c in commands(page)] == [
        ("sweep compare A B", 1), ("sweep status A", 4), ("sweep verify --cost", 7),
    ]  # fmt: skip
    assert [c.filled for c in commands(page)][:2] == ["sweep compare runs/digits-mlp runs/lr", "sweep status A"]
    assert list(snippets(page)) == [(11, "sweep.run()\n")]


def test_the_page_is_walked_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", "configs")
    steps = [(c.line, c) for c in COMMANDS if c.walked and not c.slow and c.text not in ELSEWHERE]
    for line, step in sorted([*steps, *snippets(PAGE)], key=lambda pair: pair[0]):
        if isinstance(step, str):
            code = step.replace('sweep.run("configs/digits.yaml", ', 'sweep.run("configs/digits.yaml", '
                                '"params.epochs=1", engine="inline", ')  # fmt: skip
            exec(compile(code, f"README.md:{line}", "exec"), {})
            continue
        words = quick(step)
        if words[0] == "python":
            exec(compile(words[2], f"README.md:{line}", "exec"), {})
            continue
        code = main(words if words[0] == "ml-train" else words[1:], program=words[0])
        said = capfd.readouterr()
        assert code in expected(step), f"README.md:{line}: {shlex.join(words)}\n{said.out}{said.err}"


@pytest.mark.slow
@pytest.mark.ray
def test_the_page_is_typed_as_printed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    typed = [(c.line, c) for c in COMMANDS if c.walked and c.text not in ELSEWHERE]
    for line, step in sorted([*typed, *snippets(PAGE)], key=lambda pair: pair[0]):
        text, codes = (step, (0,)) if isinstance(step, str) else (step.filled, expected(step))
        words = [sys.executable, "-c", text] if isinstance(step, str) else ["bash", "-c", text]
        made = subprocess.run(words, cwd=tmp_path, env=with_sweep(), capture_output=True, text=True, check=False)
        assert made.returncode in codes, f"README.md:{line}: {text}\n{made.stdout[-3000:]}{made.stderr[-3000:]}"


def with_sweep(folder: Path | None = None) -> dict[str, str]:
    """This environment, with the programs of a virtual environment (this one's by default) first on the path."""
    first = str(folder / "bin") if folder else os.path.dirname(sys.executable)
    return {**os.environ, "PATH": os.pathsep.join([first, os.environ["PATH"]]), "NO_COLOR": "1"}


@pytest.mark.slow
@pytest.mark.ray
def test_the_first_command_in_a_new_environment(tmp_path: Path) -> None:
    """Installs from the package index: minutes."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    venv.create(tmp_path / "venv", with_pip=True)
    first = next(c.text for c in COMMANDS if c.text.startswith("pip install "))
    env = {key: value for key, value in with_sweep(tmp_path / "venv").items() if key != "PYTHONPATH"}
    made = subprocess.run(["bash", "-c", first], cwd=checkout, env=env, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    assert "3 planned = 3 ok + 0 failed + 0 lost + 0 pending" in made.stdout
