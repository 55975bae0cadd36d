"""Every command and example of README and docs is run.

A page is one walk: a reader who types it from top to bottom, in one folder that has the project's `configs`, meets no
surprise. Blocks of `bash` and `console` are typed, blocks of `python` are run by Python. A comment before a block says
what else becomes of it:

    <!-- file: forest.py -->           the block is that file
    <!-- exits: 0 1 4 -->              exit codes that count as right; 0 unless given
    <!-- not run: a cluster; tests/faults/test_clusters.py -->     why not, and the test or benchmark that runs it

`<!-- needs: lightning -->` anywhere on a page skips it where an extra is not installed. The quick walk gives
`sweep run` the words `--engine inline`, which trains the same bits, one epoch to the shipped configs and three seeds of
each range, and runs plain commands in processes that have loaded what they import; README is typed into a shell. The
slow walk types what is printed, letter by letter.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import preloaded
import pytest

from sweep.train import params, recipes

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (file|exits|not run): (.+?) -->\n+)?^```([\w{}-]*)(?: .*)?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
NEEDS = re.compile(r"<!-- needs: (\w+) -->")
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
REMARK = re.compile(r"  +#.*")  # what stands behind a command to say what it does
SLOW = ("sweep verify", "sweep reproduce", "ATEN_CPU_CAPABILITY=", "sweep run configs/digits_deterministic.yaml")
ELSEWHERE = ("pip ", "pytest", "python benchmarks/")  # test_what_is_installed_or_measured_is_there
SHELL = re.compile(r"[|&;<>$`~*?#\n]|\{[^}]*(,|\.\.)[^}]*\}")  # means something else to a shell
QUOTED = re.compile(r"'[^']*'|\"[^\"$`\\]*\"")
RANGE = re.compile(r"(\d+)-\d+")
INLINE = re.compile(r"(sweep\.run\([^)]*?)(?=seeds=)")
THEIRS = ("train=", "recipe=", ".yaml", "name=")  # with one of these, a command is not about a shipped config


@dataclass(frozen=True)
class Step:
    """One thing to type or to write: `kind` is bash, python or file."""

    kind: str
    text: str
    line: int
    file: str = ""
    exits: tuple[int, ...] = (0,)


def steps(page: str) -> Iterator[Step]:
    """Yield what a reader of the page does, in its order."""
    for found in BLOCK.finditer(page):
        word, value, language, text = found.groups()
        line = page[: found.start(4)].count("\n") + 1
        if word == "not run":
            continue
        if word == "file":
            yield Step("file", text, line, value)
        elif language == "python":
            yield Step("python", text, line)
        elif language in ("bash", "console"):
            codes = tuple(map(int, value.split())) if word == "exits" else (0,)
            for number, command in typed(text, language):
                yield Step("bash", command, line + number, exits=codes)


def typed(block: str, language: str) -> Iterator[tuple[int, str]]:
    """Yield the commands of a block: every line of `bash`, those after `$` of `console`; a final backslash goes on."""
    going = ""
    for number, line in enumerate(block.splitlines()):
        if language == "console" and not going:
            if not line.startswith("$ "):
                continue
            line = line[2:]
        going += REMARK.sub("", line).rstrip()
        if going.endswith("\\"):
            going = going[:-1]
            continue
        if going:
            yield number, going
        going = ""


def quick(command: str) -> str:
    """Return the same command without Ray, for three seeds of a range, and one epoch where a shipped config is trained.

    What a shipped config names no seeds for on the command line, has ten of its own.
    """
    words = shlex.split(command)
    if words[0] not in ("sweep", "ml-train") or (words[0] == "sweep" and words[1] not in ("run", "resume")):
        return command
    before = words[: words.index("--")] if "--" in words else words
    after = words[len(before) :]
    theirs = after or any(mark in word for word in before for mark in THEIRS if not word.startswith("configs/"))
    if words[0] == "sweep" and "--engine" not in before and "--dry-run" not in before:
        before += ["--engine", "inline"]
    if not theirs and words[:2] != ["sweep", "resume"]:
        before = [*(word for word in before if not word.startswith("params.epochs=")), "params.epochs=1"]
        if words[0] == "sweep" and "--seeds" not in before:
            before += ["--seeds", "0-2"]
    if "--seeds" in before:
        at = before.index("--seeds") + 1
        before[at] = RANGE.sub(lambda found: f"{found[1]}-{int(found[1]) + 2}", before[at])
    return shlex.join(before + after)


def variables(folder: Path | None = None) -> dict[str, str]:
    """Return this environment, with the programs of a virtual environment (this one's by default) first on the path."""
    first = str(folder / "bin") if folder else os.path.dirname(sys.executable)
    return {**os.environ, "PATH": os.pathsep.join([first, os.environ["PATH"]]), "NO_COLOR": "1"}


def walk(page: Path, folder: Path, as_printed: bool = False, **more: str) -> dict[int, str]:
    """Do what the page says in `folder`, and return the output of each step by its line.

    The first step with another exit code than the page's fails the test. more: variables of the commands.
    """
    said = {}
    shutil.copytree(ROOT / "configs", folder / "configs", dirs_exist_ok=True)
    for step in steps(page.read_text(encoding="utf-8")):
        if step.kind == "file":
            (folder / step.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / step.file).write_text(step.text, encoding="utf-8")
            continue
        if step.kind == "python":
            words = [sys.executable, "-c", step.text if as_printed else INLINE.sub(r'\1engine="inline", ', step.text)]
        elif step.text.startswith(ELSEWHERE) or (not as_printed and step.text.startswith(SLOW)):
            continue
        else:
            words = ["bash", "-e", "-c", step.text if as_printed else quick(step.text)]
        plain = step.kind == "bash" and not SHELL.search(QUOTED.sub("", words[-1]))
        command = shlex.split(words[-1]) if plain else [""]
        if command[0] in ("sweep", "ml-train") and not as_printed and page != PAGES[0]:
            made = preloaded.run(command, folder, variables() | more)
        else:
            made = subprocess.run(words, cwd=folder, env=variables() | more, capture_output=True, text=True)
        assert made.returncode in step.exits, (
            f"{named(page)}:{step.line}: {words[-1]}\n{made.stdout[-2000:]}{made.stderr[-3000:]}"
        )
        said[step.line] = made.stdout
    return said


def missing(page: Path) -> str | None:
    return next((need for need in NEEDS.findall(page.read_text("utf-8")) if not find_spec(need)), None)


def named(page: Path) -> str:
    return os.path.relpath(page, ROOT)


@pytest.mark.walk
@pytest.mark.parametrize("page", [page for page in PAGES if list(steps(page.read_text("utf-8")))], ids=named)
def test_a_page_is_walked_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    if need := missing(page):
        pytest.skip(f"needs the extra [{need}]")
    walk(page, tmp_path)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("page", [page for page in PAGES if list(steps(page.read_text("utf-8")))], ids=named)
def test_a_page_is_typed_as_printed(page: Path, tmp_path: Path) -> None:
    walk(page, tmp_path, as_printed=True)


def test_a_broken_page_is_noticed(tmp_path: Path) -> None:
    text = "<!-- file: a.py -->\n```python\nraise SystemExit(3)\n```\n\n```console\n$ python a.py\nfine\n```\n"
    kinds = [(step.kind, step.text, step.exits) for step in steps(text)]
    assert kinds == [("file", "raise SystemExit(3)\n", (0,)), ("bash", "python a.py", (0,))]
    broken = tmp_path / "page.md"
    broken.write_text(text)
    (tmp_path / "walked").mkdir()
    with pytest.raises(AssertionError, match=r"python a\.py"):
        walk(broken, tmp_path / "walked")


def test_every_block_is_run_or_says_why_not() -> None:
    """A block of shell or Python is a step, or names the test or benchmark that runs it; `text` is output."""
    for page in PAGES:
        for found in BLOCK.finditer(page.read_text("utf-8")):
            word, value, language, _ = found.groups()
            where = f"{named(page)}: {value}"
            known = ("bash", "console", "python", "yaml", "text", "bibtex")
            assert word == "file" or language in known or language.startswith("{"), where
            if word == "not run":
                reason, _, place = value.rpartition("; ")
                path, _, name = place.partition("::")
                assert reason, where
                assert (ROOT / path).is_file(), where
                assert f"def {name}(" in (ROOT / path).read_text("utf-8") if name else True, where


def test_a_reader_is_told_the_name_of_every_file() -> None:
    """A rendered page does not show the comment that names a file, so the words before the block do."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in BLOCK.finditer(text):
            if found[1] == "file":
                before = text[: found.start()].rpartition("\n## ")[2]
                assert f"`{found[2]}`" in before, f"{named(page)}: {found[2]}"


def test_what_is_installed_or_measured_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for page in PAGES:
        text = page.read_text("utf-8")
        for need in NEEDS.findall(text):  # or CI, which installs the extra `test`, would skip the page
            assert re.search(rf"seed-sweep\[[\w,]*\b{need}\b", " ".join(extras["test"])), f"{named(page)}: {need}"
        for command in [*re.findall(r"`([^`\n]+)`", text), *(step.text for step in steps(text) if step.kind == "bash")]:
            if command.startswith(("python benchmarks/", "pytest tests/")):
                assert (ROOT / shlex.split(command)[1].partition("::")[0]).is_file(), f"{named(page)}: {command}"
            for names in re.findall(r"pip install .*\[([\w,]+)\]", command):
                assert set(names.split(",")) <= set(extras), f"{named(page)}: {command}"


def test_every_parameter_of_the_built_in_recipes_is_on_its_page() -> None:
    words = set(re.findall(r"\w+", (ROOT / "docs" / "reference" / "params.md").read_text("utf-8")))
    for recipe in (recipes.classifier, recipes.regressor):
        assert set(signature(recipe).parameters) <= words
    for part in (params.Model, params.Data, params.Optimizer, params.Schedule, params.Augment, params.StopEarly):
        assert set(part.model_fields) <= words, part


def test_every_message_that_is_explained_is_one_of_ours() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "sweep").rglob("*.py"))
    page = (ROOT / "docs" / "more" / "trouble.md").read_text("utf-8")
    said = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert "diverged" in said
    for message in said:
        for part in re.split(r" ?… ?|: ", message):
            assert part in source, message


def test_every_file_that_contributing_names_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    names = set(re.findall(r"(?<![\w/.])((?:\w+/)+|(?:\w+/)*\w+\.py)(?![\w/])", text))
    assert {"cli/", "goals.py", "report/overview.py"} <= names
    lost = [name for name in names if not any((ROOT / above / name).exists() for above in ("", "sweep"))]
    assert not lost


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        for target, anchor in LINK.findall(text):
            place = (page.parent / target).resolve() if target else page
            assert place.exists(), f"{named(page)}: {target}"
            if anchor and place.suffix == ".md":
                heads = re.findall(r"^#+ (.+)$", place.read_text("utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
                assert anchor[1:] in slugs, f"{named(page)}: {target}{anchor}"


@pytest.mark.slow
@pytest.mark.ray
def test_the_first_command_in_a_new_environment(tmp_path: Path) -> None:
    """Installs from the package index: minutes."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    venv.create(tmp_path / "venv", with_pip=True)
    first = next(s.text for s in steps(PAGES[0].read_text("utf-8")) if s.text.startswith("pip install "))
    env = {key: value for key, value in variables(tmp_path / "venv").items() if key != "PYTHONPATH"}
    for command in (first, "sweep run --seeds 42,123,456"):
        made = subprocess.run(
            ["bash", "-c", command], cwd=checkout, env=env, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
    assert re.search("0 failed", made.stdout)
