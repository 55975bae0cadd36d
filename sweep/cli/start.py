"""`sweep init` and `sweep completion`: what a first hour begins with."""

from __future__ import annotations

import os
import shlex
from importlib.resources import files
from pathlib import Path

import click

from sweep.cli.output import say, show
from sweep.errors import SweepError

FILES = ("experiment.yaml", "my_training.py")
RECIPE = ("my_recipe.py",)

# What a person types, once, for each shell; click's own scripts do the work.
INSTALL = {
    "bash": "echo 'eval \"$(sweep completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(sweep completion zsh)\"' >> ~/.zshrc",
    "fish": "sweep completion fish > ~/.config/fish/completions/sweep.fish",
}


@click.command(short_help="Write a config and a training function to start from.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--recipe", is_flag=True, help="Write my_recipe.py: a model, data and a loss for the built-in loop.")
def init(directory: Path, recipe: bool) -> int:
    """Write experiment.yaml and my_training.py into DIRECTORY (this one by default): a commented config and a
    training function that runs on a CPU in seconds. Nothing that exists is overwritten.
    """
    names = RECIPE if recipe else FILES
    there = [name for name in names if (directory / name).exists()]
    if there:
        raise SweepError(
            f"{there[0]} is there already", where=str(directory), hint="name another folder: sweep init my-experiment"
        )
    templates = files("sweep.cli") / "first"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in names:
            (directory / name).write_text((templates / name).read_text(encoding="utf-8"), encoding="utf-8")
            say(f"wrote {directory / name}")
    except OSError as error:
        raise SweepError(f"cannot be written: {error.strerror}", where=str(directory)) from error
    inside = directory.resolve() == Path.cwd()
    go = "" if inside else f"cd {shlex.quote(os.fspath(directory))} && "
    say(f"next: {go}sweep run {'recipe=my_recipe:recipe --seeds 0-9' if recipe else 'experiment.yaml'}")
    return 0


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(list(INSTALL)))
def completion(shell: str) -> int:
    """Print what makes the shell complete commands, options and file names.

    \b
    To have it in every new shell:
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
    say(f"to have it in every new shell: {INSTALL[shell]}", err=True)
    return 0
