"""The table of commands, and how errors are shown and become exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module

import click

from sweep.errors import SweepError, printable

# In the order in which a new user needs them; each command is imported when it is called.
COMMANDS = {
    "init": "sweep.cli.init",
    "config": "sweep.cli.init",
    "run": "sweep.cli.run",
    "resume": "sweep.cli.run",
    "status": "sweep.cli.read",
    "watch": "sweep.cli.watch",
    "report": "sweep.cli.read",
    "collect": "sweep.cli.run",
    "adopt": "sweep.cli.adopt",
    "compare": "sweep.cli.compare",
    "ensemble": "sweep.cli.ensemble",
    "predict": "sweep.cli.ensemble",
    "items": "sweep.cli.evaluate",
    "examples": "sweep.cli.evaluate",
    "verify": "sweep.cli.verify",
    "reproduce": "sweep.cli.verify",
    "export": "sweep.cli.export",
    "pack": "sweep.cli.export",
    "completion": "sweep.cli.init",
}


class Commands(click.Group):
    """A group that imports a command only to run it, so that `sweep --help` loads nothing heavy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        home = "sweep.cli.run" if name == "ml-train" else COMMANDS.get(name)
        return getattr(import_module(home), name.replace("-", "_")) if home else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and args[0] != "ml-train" and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], list(COMMANDS), 1)
            raise SweepError(
                f"there is no command {args[0]!r}",
                hint=f"did you mean `sweep {close[0]}`?" if close else f"commands: {', '.join(COMMANDS)}",
            )
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="seed-sweep", prog_name="sweep")
def app() -> None:
    """Train a model over many seeds and report honestly what the spread means.

    \b
    Commands to start with:
      sweep run --seeds 42,123,456        three models of the built-in example, and the report
      sweep report runs/digits-mlp        the same report again, here or on another machine
      sweep init my-experiment            write a config and a training function to start from
      sweep run my.yaml --seeds 0-9       your own config; finished runs are not trained again
      sweep run --seeds 0-9 -- python train.py --seed {seed}    any program that takes a seed
      sweep adopt 'old/{lr}/seed{seed}/metrics.csv'     import existing results, from files or tables
      ml-train --seed 42                  one model, with the same bits as in the sweep
    """


def main(arguments: list[str], program: str = "sweep") -> int:
    """Run one command and return its exit code; every expected error is one message on stderr."""
    rest: list[str] | None = None
    if "--" in arguments:
        # Split before click parses it: the rest belongs to another program, including its --debug.
        cut = arguments.index("--")
        arguments, rest = arguments[:cut], arguments[cut + 1 :]
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        if rest == []:
            raise SweepError(
                "there is no program after --", hint="add one, for example: -- python train.py --seed {seed}"
            )
        if rest and arguments[:1] not in (["run"], ["ml-train"]):
            raise SweepError("only `sweep run` and `ml-train` take a command after --")
        with _logged() if debug else nullcontext():
            name = "" if program == "ml-train" else program  # which is also the first argument
            answer = app.main(arguments, prog_name=name, standalone_mode=False, obj={"command": rest})
        return answer if isinstance(answer, int) else 0
    except click.ClickException as error:
        error.show(sys.stderr)
        return 2
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except (SweepError, OSError, MemoryError) as error:
        said = f"{program}: {error}"
        if not isinstance(error, SweepError):
            said = f"{program}: {type(error).__name__}: {error}\n  add --debug to see where; finished runs are kept"
        sys.stdout.flush()
        print(printable(traceback.format_exc() if debug else said), file=sys.stderr)
        return error.exit_code if isinstance(error, SweepError) else 1


@contextmanager
def _logged() -> Iterator[None]:
    """Show on stderr what commands skip, such as why a part of a report could not be made."""
    import logging  # here, because most commands do not need it

    logger, handler = logging.getLogger("sweep"), logging.StreamHandler()
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
