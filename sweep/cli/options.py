"""Options that several commands share, each with one name, one type and one help text."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


class Key(click.Option):
    """An option that sets a config key. Its help is that of `sweep config`, loaded when it is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from sweep.config import describe

        text = describe()[self.name or ""][1].removeprefix("true: ")
        self.help = f"{text[:1].upper()}{text[1:]}."
        return super().get_help_record(ctx)


def key(*names: str, **attributes: Any) -> Option:
    """Return an option that sets the config key of its name."""
    return click.option(*names, cls=Key, **attributes)


directory = click.argument("directory", type=click.Path(path_type=Path))
directories = click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
seed = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="The seed to train, for example 123. Default: the first one."
)
variant = click.option("--variant", help="The variant to use. A part of its name is enough, for example width=32.")
task = click.option("--task", help="The task to use, if there are several.")
allow_missing = click.option(
    "--allow-missing",
    is_flag=True,
    help="Use the existing members even if others are missing or failed. Every output notes this.",
)
trust = click.option(
    "--trust", is_flag=True, help="Run the code that the directory names even if it is not part of sweep."
)
group_by = click.option(
    "--group-by", metavar="KEYS", help="Group the grid by these parameters only, for example lr or lr,depth."
)
answer_json = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
report_json = click.option("--json", "as_json", is_flag=True, help="Print only the report, as JSON, on stdout.")


def keys(text: str | None) -> tuple[str, ...]:
    """Return the words of a comma list."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def level(what: str = "interval") -> Option:
    """Return --level, the confidence level of every `what`."""
    return click.option(
        "--level",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.95,
        show_default=True,
        help=f"Confidence level of every {what}, for example 0.99.",
    )


def formats(*names: str) -> Option:
    """Return --format (text unless given, one of these, json) and --json, which is short for json, as `format_`."""

    def added(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "--format",
            "format_",
            type=click.Choice(["text", *names, "json"]),
            default="text",
            show_default=True,
            help="The format to print.",
        )
        @click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
        @wraps(command)
        def called(*, format_: str, as_json: bool, **given: Any) -> Any:
            return command(format_="json" if as_json else format_, **given)

        return called

    return added


def split(use: str) -> Option:
    """Return --split, the stored predictions to `use`."""
    return click.option(
        "--split",
        default="test",
        show_default=True,
        help=f"The stored predictions to {use}: test, val or a name of your own.",
    )
