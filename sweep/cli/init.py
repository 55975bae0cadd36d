"""`sweep init`, `sweep config` and `sweep completion`: the first steps."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path

import click

from sweep.cli.output import emit, say, show, width
from sweep.errors import ConfigError, SweepError
from sweep.words import path_argument

FILES = ("experiment.yaml", "my_training.py")
RECIPE = ("my_recipe.py",)

# To be typed once per shell; the scripts are those of click.
INSTALL = {
    "bash": "echo 'eval \"$(sweep completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(sweep completion zsh)\"' >> ~/.zshrc",
    "fish": "sweep completion fish > ~/.config/fish/completions/sweep.fish",
}


@click.command(short_help="Write a config and a training function to start from.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option(
    "--recipe",
    is_flag=True,
    help="Write my_recipe.py instead: a model, data and a loss for the built-in training loop.",
)
def init(directory: Path, recipe: bool) -> int:
    """Write experiment.yaml, a commented config, and my_training.py, a training function that runs on a CPU in seconds.

    They go to DIRECTORY, by default the current one. No existing file is overwritten.
    """
    names = RECIPE if recipe else FILES
    there = [name for name in names if (directory / name).exists()]
    if there:
        raise SweepError(
            f"{there[0]} already exists", where=str(directory), hint="name another folder: sweep init my-experiment"
        )
    templates = files("sweep.cli") / "first"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in names:
            (directory / name).write_text(explained((templates / name).read_text(encoding="utf-8")), encoding="utf-8")
            say(f"wrote {directory / name}")
    except OSError as error:
        raise SweepError(f"cannot be written: {error.strerror}", where=str(directory)) from error
    inside = directory.resolve() == Path.cwd()
    go = "" if inside else f"cd {path_argument(os.fspath(directory))} && "
    say(f"next: {go}sweep run {'recipe=my_recipe:recipe --seeds 0-9' if recipe else 'experiment.yaml'}")
    return 0


def explained(text: str) -> str:
    """Return the text of a config with the meaning of the key added to every `key: value  #`.

    The value is the example, so the examples in the meanings are left out.
    """
    from sweep.config import describe

    about = {key: re.sub(r", e\.g\. [^;]*", "", meaning) for key, (_, meaning) in describe().items()}
    return re.sub(r"^((?:# )?(\w+):.*#)$", lambda line: f"{line[1]} {about[line[2]]}", text, flags=re.MULTILINE)


@click.command(short_help="Print what the keys of a config mean.")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--json", "as_json", is_flag=True, help="Print the keys as JSON.")
def config(keys: tuple[str, ...], as_json: bool) -> int:
    """Print every config key with its default and its meaning, or only the keys that you name.

    \b
      sweep config
      sweep config lanes checkpoint
    """
    from sweep.config import describe
    from sweep.config.explain import nearest

    known = describe()
    for key in keys:
        if key not in known:
            raise ConfigError("unknown key", where=key, hint=nearest(key, known) or "sweep config prints all keys")
    chosen = {
        k: row for k, row in known.items() if not keys or any(k == key or k.startswith(f"{key}.") for key in keys)
    }
    if as_json:
        emit([{"key": key, "default": default, "meaning": meaning} for key, (default, meaning) in chosen.items()])
        return 0
    table = click.HelpFormatter(width=width())
    table.write_dl([(f"{key}: {default}", meaning) for key, (default, meaning) in chosen.items()], col_max=36)
    say(table.getvalue().rstrip())
    if not keys:
        say(
            "\nThe value after a key is its default. The keys of params are the arguments of the recipe or function.",
            err=True,
        )
    return 0


@click.command(short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(list(INSTALL)))
def completion(shell: str) -> int:
    """Print the script that lets a shell complete commands, options and file names.

    \b
    To load it in every new shell:
      bash   echo 'eval "$(sweep completion bash)"' >> ~/.bashrc
      zsh    echo 'eval "$(sweep completion zsh)"' >> ~/.zshrc
      fish   sweep completion fish > ~/.config/fish/completions/sweep.fish
    """
    from click.shell_completion import get_completion_class

    from sweep.cli.app import app

    found = get_completion_class(shell)
    assert found is not None
    # Not `source_command` of bash: it first starts a bash to see its version.
    made = found(app, {}, "sweep", "_SWEEP_COMPLETE")
    show(made.source_template % made.source_vars() + "\n")
    say(f"to load it in every new shell: {INSTALL[shell]}", err=True)
    return 0
