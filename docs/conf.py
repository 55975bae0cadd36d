"""Sphinx configuration: `sphinx-build -W docs build/docs`."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import click
from sphinx.application import Sphinx
from sphinx.util import logging

import sweep
from sweep.cli.app import app as sweep_command
from sweep.cli.options import Key
from sweep.cli.run import ml_train
from sweep.config.schema import describe

project = "sweep"
author = "the sweep authors"
release = version = sweep.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
html_theme = "pydata_sphinx_theme"
html_title = "sweep"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
exclude_patterns = ["reference/_keys.md"]
smartquotes = False  # they turn the -- of options into dashes
nb_execution_mode = "off"  # the notebooks are committed with their outputs, and a test executes them
myst_heading_anchors = 3
autodoc_class_signature = "separated"  # constructors of Run, Results and Config are ours to call
autodoc_default_options = {"exclude-members": "__init__, __new__"}
autodoc_typehints = "description"
autodoc_type_aliases = {"npt.ArrayLike": "ArrayLike"}  # not the ten types that it stands for
napoleon_use_ivar = True
default_role = "code"  # what docstrings have between single backticks
autodoc_member_order = "bysource"


def keys() -> str:
    """Return the reference of config keys as Markdown, from the schema that checks them."""
    rows = ["| Key | Default | Meaning |", "|---|---|---|"]
    for key, (default, text) in describe().items():
        shown = f"`{default}`" if default else ""
        meaning = text.replace("|", "\\|")
        rows.append(f"| `{key}` | {shown} | {meaning} |")
    return "\n".join(rows) + "\n"


(Path(__file__).parent / "reference" / "_keys.md").write_text(keys(), encoding="utf-8")


def examples(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Show the examples in the help of a command as code, not as lines of a poem."""
    text, within = [], False
    for line in lines:
        if line.startswith("| ") != within:
            within = not within
            text += ["", ".. code-block:: text", ""] if within else [""]
        text.append(f"   {line[2:]}" if within else line)
    lines[:] = text


def load_help(command: click.Command) -> None:
    """Load the help of options that set config keys, which click itself does when it prints them."""
    context = click.Context(command)
    for option in command.params:
        if isinstance(option, Key):
            option.get_help_record(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (inner := command.get_command(context, name)) is not None:
                load_help(inner)


def options(_app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Restore the bracket in metavars such as [METRIC=]X, and warn about options without a text."""
    lines[:] = [re.sub(r"<(\w+=]\w+)>", r"<[\1>", line) for line in lines]
    written = [*(line for line in lines if line.strip()), ".. option::"]
    for line, after in pairwise(written):
        if line.startswith(".. option::") and after.startswith(".. option::"):
            logging.getLogger(__name__).warning("%s has no help: %s", context.command_path, line)


def outside(_app: Sphinx, _page: str, text: list[str]) -> None:
    """Lead links to files outside docs, which work on GitHub, to pages of notebooks or to downloads."""
    text[0] = re.sub(r"\[([^]]+)]\(\.\./\.\./notebooks/(\w+)\.ipynb\)", r"{doc}`\1 </gallery/notebooks/\2>`", text[0])
    text[0] = re.sub(r"\[([^]]+)]\((\.\./\.\./[\w/]+\.md)\)", r"{download}`\1 <\2>`", text[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", outside)
    load_help(sweep_command)
    load_help(ml_train)
    app.connect("sphinx-click-process-description", examples)
    app.connect("sphinx-click-process-options", options)
    # The usage shows the arguments, and the description explains them.
    app.connect("sphinx-click-process-arguments", lambda _app, _context, lines: lines.clear())
