"""The words of a command: its placeholders, its source files, and checks before the start."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from sweep.config import Config
from sweep.config.rules import safe_name
from sweep.errors import ConfigError, TargetError
from sweep.nested import flatten
from sweep.plan import Json, RunSpec, Target, as_text
from sweep.target import imports

VARIABLE = "SWEEP_SEED"  # where a program that takes no argument for its seed finds it

_SEED = re.compile(r"(?i)seed(_everything|_all)?$|random_state$|default_rng$|PRNGKey$")
_HOLE = re.compile(r"\{([\w.]+)\}")
_COMMAND = re.compile(r"-\w*c")  # the option of a shell before the text of a script
_SHELLS = ("sh", "bash", "dash", "zsh", "ksh")
_SOURCES = (".py", ".sh", ".r", ".jl", ".lua", ".js", ".pl", ".rb")


def fill(word: str, values: Mapping[str, str]) -> str:
    """Return `word` with each `{name}` of `values` replaced, once and literally; other braces stay as they are."""
    return _HOLE.sub(lambda found: values.get(found[1], found[0]), word)


def placeholders(spec: RunSpec, folder: Path, attempt: Path) -> dict[str, str]:
    """Return the values of `{seed}`, `{dir}`, `{attempt_dir}`, `{device}`, `{run_id}` and `{params.…}` in a run, and
    with folds also `{fold}`, from 0, and `{folds}`."""
    own = {
        "seed": str(spec.seed), "dir": os.fspath(folder), "attempt_dir": os.fspath(attempt), "device": spec.device,
        "run_id": spec.id[:16],
    }  # fmt: skip
    folds = {"fold": str(spec.fold), "folds": str(spec.folds)} if spec.folds else {}
    return {**own, **folds, **params_by_name(spec.params)}


def params_by_name(params: Mapping[str, Json]) -> dict[str, str]:
    """Return {"params.lr": "0.1"}, the values of parameter placeholders: text as it is, the rest as JSON."""
    return {f"params.{path}": as_text(value) for path, value in flatten(params)}


def search_path() -> str:
    """Return PATH with our interpreter's folder before it, or after it if an environment was activated.

    A call of `.venv/bin/sweep` without an activated environment uses the packages next to it.
    """
    ours, theirs = os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)
    activated = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    return os.pathsep.join([theirs, ours] if activated else [ours, theirs])


def resolve(config: Config) -> Target:
    """Return the target of a config's command, checked as far as possible before anything starts.

    Raises: ConfigError, TargetError.
    """
    words = config.command or ()
    _check_program(words)
    _check_params(config, words)
    found = script(words)
    if not any("{seed}" in word for word in words) and not (found and VARIABLE.encode() in found[0].read_bytes()):
        _refuse_without_seed(words, found[0] if found else None)
    return Target("command", argv=tuple(words), digest=digest(words))


def digest(words: Sequence[str]) -> str:
    """Return the sha256 of the command's source, or "" if no word names a script: the bytes of a script, or for Python
    its syntax trees and those of the modules that it imports from its folder."""
    found = script(words)
    if found is None:
        return ""
    path, root = found
    return imports.digest(path, root) if path.suffix == ".py" else hashlib.sha256(path.read_bytes()).hexdigest()


def files(words: Sequence[str]) -> list[Path]:
    """Return the files of the command's source."""
    found = script(words) if words else None
    if found is None:
        return []
    return imports.files(*found) if found[0].suffix == ".py" else [found[0]]


def named(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a config without a file, named after the script of its command."""
    words: Any = settings.get("command")
    sound = isinstance(words, list | tuple) and words and all(isinstance(word, str) and word for word in words)
    if not sound or any(text.partition("=")[0].strip() == "name" for text in overrides):
        return dict(settings)
    found = script(words)
    path = found[0] if found else Path(words[0])
    return {"name": safe_name(path.parent.name if path.name == "__main__.py" else path.stem), **settings}


def script(words: Sequence[str]) -> tuple[Path, Path] | None:
    """Return (the file that is run, the folder its imports start from), both absolute, or None if no word names one."""
    for before, word in pairwise(("", *words)):
        if before == "-m" and (module := _module(word)):
            return module, Path.cwd().resolve()
        if _is_source(path := Path(word)):
            return path.resolve(), path.resolve().parent
    first = Path(words[0])
    if first.is_file() and _first_line(first).startswith(b"#!"):
        return first.resolve(), first.resolve().parent
    return None


def files_in_shell(words: Sequence[str]) -> list[Path]:
    """Return the files that a shell command names: the scripts in a script that is not Python, with their imports, and
    every file in `sh -c TEXT` that it does not write to."""
    begun = zip(pairwise(words), words[2:], strict=False)
    texts = [text for (shell, option), text in begun if _runs(shell) and _COMMAND.fullmatch(option)]
    seen = {path: None for text in texts for word in _shell_words(text) if (path := Path(word)).is_file()}
    found = script(words)
    todo = [*filter(_is_source, seen), *([found[0]] if found and found[0].suffix != ".py" else [])]
    while todo:
        path = todo.pop()
        if path.suffix == ".py":
            seen |= dict.fromkeys(imports.files(path.resolve(), path.resolve().parent))
            continue
        for word in _shell_words(path.read_text(errors="replace")):
            one = next(filter(_is_source, (Path(word), path.parent / word)), None)
            if one is not None and one not in seen:
                seen[one] = None
                todo.append(one)
    return list(seen)


def _is_source(path: Path) -> bool:
    return path.suffix.lower() in _SOURCES and path.is_file()


def _runs(word: str) -> bool:
    """Return whether a word is a shell."""
    return Path(word).name in _SHELLS


def _shell_words(text: str) -> Iterator[str]:
    """Yield the words of a shell's text, except the files that it writes to."""
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = [] if line.lstrip().startswith("#") else list(lexer)
        except ValueError:  # an unclosed quotation
            words = line.split()
        yield from (word for before, word in pairwise(("", *words)) if before not in (">", ">>"))


def _module(dotted: str) -> Path | None:
    base = Path.cwd().joinpath(*dotted.split("."))
    return next((p.resolve() for p in (base.with_suffix(".py"), base / "__main__.py") if p.is_file()), None)


def _first_line(path: str | Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.readline(4096)


def _check_program(words: Sequence[str]) -> None:
    program = words[0]
    known = not _HOLE.search(program)
    found = shutil.which(program, path=search_path()) if known else None
    own = found if found and _first_line(found).startswith(b"#!") else None
    for file in filter(None, (own, _of_a_shell(words))):
        if _first_line(file).endswith(b"\r\n"):
            raise TargetError(
                f"{file} has Windows line endings (CR LF), which the shell reads as part of words", where="command",
                hint=f"convert it: sed -i 's/\\r$//' {shlex.quote(file)}",
            )  # fmt: skip
    if found is not None or not known:
        return
    if os.path.isfile(program):
        hint = (
            f"run it with python: python {program} …"
            if program.endswith(".py")
            else f"make it executable: chmod +x {program}"
        )
        raise TargetError(f"the file {program} is not executable", where="command", hint=hint)
    raise TargetError(
        f"the program {program!r} was not found",
        where="command",
        hint="check its name; programs are searched for in PATH, as in a shell",
    )


def _of_a_shell(words: Sequence[str]) -> str | None:
    """Return the script that a command passes to a shell: x.sh for `sh -e x.sh 3`."""
    shell = next((place for place, word in enumerate(words) if _runs(word)), len(words))
    word = next((word for word in words[shell + 1 :] if not word.startswith("-")), "")
    return word if os.path.isfile(word) else None


def _check_params(config: Config, words: Sequence[str]) -> None:
    """Check that every parameter is used by the command, and that every parameter it uses has a value."""
    holes = {found for word in words for found in _HOLE.findall(word)}
    wanted = {hole for hole in holes if hole.startswith("params.")}
    given = {f"params.{path}" for path, _ in flatten(config.params)} | set(config.grid)
    for task in config.tasks.values():
        given |= {f"params.{path}" for path, _ in flatten(task.get("params", {}))}
    if unused := sorted(given - wanted):
        raise ConfigError(
            f"the command does not use {unused[0]}", where="command",
            hint=f"put {{{unused[0]}}} where its value belongs",
        )  # fmt: skip
    if missing := sorted(wanted - given):
        raise ConfigError(
            f"the command uses {{{missing[0]}}}, which has no value", where="command",
            hint=f"add {missing[0]}=…",
        )  # fmt: skip


def _refuse_without_seed(words: Sequence[str], path: Path | None) -> None:
    near = [hole for word in words for hole in _HOLE.findall(word) if get_close_matches(hole.lower(), ["seed"])]
    if near:
        hint = f"did you mean {{seed}} for {{{near[0]}}}?"
    elif path is not None and (constant := _constant_seed(path)):
        line, text = constant
        hint = (
            f"line {line} of {path.name} sets the seed to a constant ({text}): write "
            f'int(os.environ["{VARIABLE}"]) instead of the number, and run the same command again'
        )
    else:
        hint = (
            f"add for example --seed {{seed}}, or for a program that reads a variable: --seed-env SEED -- {words[0]} …"
        )
    raise ConfigError("there is no {seed} in it, so every seed would be the same run", where="command", hint=hint)


def _constant_seed(path: Path) -> tuple[int, str] | None:
    """Return the line where a Python script sets its seed to a number, and its text. Variables come first."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return None
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=int())) if _SEED.search(name):
                found.append((0, node.lineno, ast.unparse(node)))
            case ast.Call(args=[ast.Constant(value=int()), *_]) if _SEED.search(ast.unparse(node.func)):
                found.append((1, node.lineno, ast.unparse(node)))
            case ast.keyword(arg=str(name), value=ast.Constant(value=int(number))) if _SEED.search(name):
                found.append((1, node.lineno, f"{name}={number}"))
    return min(found)[1:] if found else None
