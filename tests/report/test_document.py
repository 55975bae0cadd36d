"""A document says the same in every format: no number is cut, no two names look alike, no text acts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from markupsafe import Markup
from pages import HOSTILE
from rich.cells import cell_len

from sweep.report.document import (
    Document,
    Note,
    Section,
    Table,
    distinct,
    html,
    latex,
    markdown,
    notebook,
    safe,
    text,
)  # fmt: skip
from sweep.words import shown

NAMES = [f"optimizer.lr=0.{i}, model.hidden=[128, 128], schedule=cosine, seed group {i}" for i in range(12)]
NUMBERS = [f"{i}.12345678 ± 0.00000{i}" for i in range(12)]


def made(names: list[str] = NAMES) -> Document:
    rows = [[name, *[NUMBERS[i % 12]] * 5] for i, name in enumerate(names)]
    table = Table(["variant", *"abcde"], ["a heading", *rows], frozenset({(1, 1)}), ["a note"], "a caption", "tab:x")
    notes = (
        Note("the first", "lead"),
        Note("careful", "warning"),
        Note("sweep report x --format latex " * 8, "command", "next"),
    )
    return Document("title", (Section("one", (*notes, table)), Section("", (Markup("<svg/>"),))))


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_number_is_cut_and_no_two_names_look_alike(width: int) -> None:
    lines = text(made(), width=width).splitlines()
    rows = [line for line in lines if "±" in line]
    assert sum(line.count("±") for line in rows) == 60
    assert all(sum(number in line for line in rows) for number in NUMBERS)
    first = [re.split(r"\s+\d+\.\d{8} ±", line)[0] for line in rows]
    assert len(set(first)) == 12
    if width >= 80:
        assert all(cell_len(line) <= width for line in lines if "sweep report" not in line)


def test_a_command_stays_on_its_line() -> None:
    assert "sweep report x --format latex " * 8 in text(made(), width=40)


def test_long_text_loses_its_middle() -> None:
    assert shown("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb"
    assert shown("short", 11) == "short"
    assert cell_len(shown("漢字" * 40, 12)) <= 12
    assert distinct(["x" * 40 + "1" + "y" * 40, "x" * 40 + "2" + "y" * 40], 20)[0] != distinct(["x"], 20)[0]
    assert len(set(distinct(NAMES, 10))) == 12
    grid = [f"name={name} lr={lr}" for name in ("transformer-large", "transformer-small") for lr in (0.001, 0.01)]
    assert all(made.endswith(name.split()[1]) for made, name in zip(distinct(grid, 24), grid, strict=True))


def test_text_of_characters_without_width_is_shortened_to_an_end() -> None:
    made = shown("a" + "\u0301" * 1000, 11)
    assert cell_len(made) <= 11
    assert len(made) < 100


@pytest.mark.parametrize("name", HOSTILE)
def test_text_of_users_acts_in_no_format(name: str) -> None:
    foreign = made([name])
    assert "\x1b" not in text(foreign)
    assert "\n<b>" not in text(foreign)
    assert "\u202e" not in text(foreign)
    for page in (str(html(foreign)), notebook(foreign)):
        seen = Tags()
        seen.feed(page)
        assert seen.tags <= {
            "section", "h2", "h3", "h4", "h5", "p", "strong", "code", "div", "table", "caption", "thead", "tbody", "tr",
            "th", "td", "figure", "svg", "figcaption",
        }  # fmt: skip
    assert not re.search(r"<(?!/?(svg|c\.pdf))", markdown(foreign))
    for special in "%#&_":
        assert not re.search(rf"(?<!\\){special}", safe(name, "latex"))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


def test_every_format_has_the_whole_table() -> None:
    found = made()
    for written in (markdown(found), latex(found), str(html(found)), notebook(found)):
        assert all(number.split()[0] in written for number in NUMBERS)
    assert markdown(found).count("**") // 2 == 4  # the lead, the warning, the label, the bold cell
    assert "\\toprule" in latex(found)
    assert "\\caption{a caption}" in latex(found)
    assert "\\label{tab:x}" in latex(found)
    assert "\\textbf{" in latex(found)
    assert "<style" not in notebook(found)
    assert "style=" not in str(html(found))
