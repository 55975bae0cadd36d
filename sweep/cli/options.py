"""Options that several commands share, each with one name, one type and one help text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

directory = click.argument("directory", type=click.Path(path_type=Path))
variant = click.option("--variant", help="The variant to use. A part of its name is enough, for example width=32.")
task = click.option("--task", help="The task to use, if there are several.")
allow_missing = click.option(
    "--allow-missing",
    is_flag=True,
    help="Use the members that are there if some are missing or failed. Every output says so.",
)
trust = click.option(
    "--trust", is_flag=True, help="Allow code that the directory names and that is not part of sweep to run."
)
group_by = click.option(
    "--group-by", metavar="KEYS", help="Group the grid by these parameters only, for example lr or lr,depth."
)
format_json = click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
answer_json = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
report_json = click.option("--json", "as_json", is_flag=True, help="Print only the report, as JSON, on stdout.")


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
    """Return --format, one of these, text unless given."""
    return click.option(
        "--format",
        "format_",
        type=click.Choice(["text", *names, "json"]),
        default="text",
        show_default=True,
        help="The format to print.",
    )


def split(use: str) -> Option:
    """Return --split, the stored predictions to `use`."""
    return click.option(
        "--split",
        default="test",
        show_default=True,
        help=f"The stored predictions to {use}: test, val or a name of your own.",
    )
