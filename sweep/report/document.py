"""Documents. A view is made once, from numbers, and rendered in every format.

    Document("digits", (Section("metrics", (Note(...), Table(...), Markup("<svg>…"))), ...))

`text`, `markdown`, `latex`, `html` and `notebook` take a Document and return a string. Strings in a document are raw:
names and messages of users are stored unchanged, and each format escapes them with `safe`. Numbers are stored as text
from `sweep.number`; no format rounds, parses or cuts them.

- `Note`: a sentence. Its kind decides how it is shown: "lead" first, "plain", "aside" (small print), "warning",
  "failure", "command" (to be copied, so never wrapped). `label` is a word before it ("next", "passed").
- `Table`: the first `names` columns hold text, aligned left; the others hold numbers, aligned right. A row that is a
  string is a heading within the table. On a narrow terminal names lose their middle but stay distinct; columns that
  do not fit follow below, after the same names.
- `Markup`: a trusted picture of our own, for the page and the notebook; other formats leave it out.
"""

from __future__ import annotations

import os
import re
from bisect import bisect, bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TextIO

from markupsafe import Markup
from rich.cells import cell_len

from sweep.errors import listed, one_line
from sweep.words import plural, shown

if TYPE_CHECKING:
    from jinja2 import Environment

Kind = Literal["lead", "plain", "aside", "warning", "failure", "command"]
Medium = Literal["text", "markdown", "latex"]
Row = Sequence[str] | str


@dataclass(frozen=True)
class Note:
    text: str
    kind: Kind = "plain"
    label: str = ""


@dataclass(frozen=True)
class Table:
    """bold: (row, column) of cells, headings counted as rows. key: the label that LaTeX refers to."""

    header: Sequence[str]
    rows: Sequence[Row]
    bold: frozenset[tuple[int, int]] = frozenset()
    notes: Sequence[str] = ()
    caption: str = ""
    key: str = ""
    names: int = 1

    @property
    def is_matrix(self) -> bool:
        """Return whether no cell has more than two characters, so that all columns fit a phone."""
        return all(len(cell) <= 2 for row in self.rows if not isinstance(row, str) for cell in row)


Item = Note | Table | Markup


@dataclass(frozen=True)
class Section:
    title: str = ""
    items: Sequence[Item] = ()


@dataclass(frozen=True)
class Document:
    title: str = ""
    sections: Sequence[Section] = ()


def of(*items: Item) -> Document:
    """Return a document without headings of its own."""
    return Document(sections=(Section(items=items),))


def rest(more: int, noun: str, where: str) -> list[Note]:
    """Return a note on how many more there are, and where to find them; empty if there are none."""
    return [Note(f"… and {plural(more, f'more {noun}')}: {where}")] if more > 0 else []


SHORTEST = 6  # characters of a word that loses its middle
KEPT = 3  # shared characters that stay on each side of a difference between names

LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "—": "---", "·": r"$\cdot$", "…": r"\dots{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", '"': "''",
}  # fmt: skip


def safe(text: str, medium: Medium) -> str:
    """Return `text` on one line, with the markup of the medium escaped."""
    line = one_line(text)
    if medium == "latex":
        return "".join(LATEX.get(character, character) for character in line)
    if medium == "markdown":
        line = re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", line)
        return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line


def distinct(names: Sequence[str], width: int) -> list[str]:
    """Return `names` shortened to `width`, or to the least width at which different ones look different.

    The longest words lose their middle first: in "name=transformer-large lr=0.01" the rate stays. If names
    differ only in the middle of words, long parts that they all share are left out first.
    """
    lines = [one_line(name) for name in names]
    different, longest = len(set(lines)), max((len(word) for line in lines for word in line.split(" ")), default=0)

    def by_word(cap: int) -> list[str]:
        return [" ".join(shown(word, cap) for word in line.split(" ")) for line in lines]

    def whole(wide: int) -> list[str]:
        return [shown(line, wide) for line in lines]

    # With more room, names get no shorter and no more alike, so both widths are found by bisection.
    caps = range(SHORTEST, min(longest, width) + 1)
    fitting = bisect(caps, width, key=lambda cap: max(map(cell_len, by_word(cap))))
    if fitting and len(set(made := by_word(caps[fitting - 1]))) == different:
        return made
    if len(set(whole(max(width, 3)))) < different:
        # The prefix is to be compared character by character.
        head, tail = (len(os.path.commonprefix(its)) for its in (lines, [line[::-1] for line in lines]))  # noqa: RUF071
        start, end = max(head - KEPT, 0), max(min(tail, min(map(len, lines)) - head) - KEPT, 0)
        lines = [("…" if start else "") + line[start : len(line) - end] + ("…" if end else "") for line in lines]
    widths = range(max(width, 3), max(map(cell_len, lines), default=0))
    least = bisect_left(widths, different, key=lambda wide: len(set(whole(wide))))
    return whole(widths[least]) if least < len(widths) else lines


def wants_color(stream: TextIO) -> bool:
    """Return whether to colour output to `stream`: it is a terminal, and NO_COLOR is not set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# ---- a terminal

INDENT = "  "
GAP = "  "
BOLD, DIM, RED, YELLOW = "1", "2", "31", "33"
# No line breaks inside "n = 9", "95 %", "1 of 10 failed".
GLUE = re.compile(r" [=±<] | %| of \d+| (?:ok|failed|lost|pending)\b")
STYLE = re.compile("\x1b\\[[0-9]+m")
LABEL = 11  # cells of the word before a note
STYLES: Mapping[Kind, str] = {"lead": BOLD, "aside": DIM, "warning": YELLOW, "failure": RED}


def paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style else text


def wrapped(text: str, width: int, style: str = "") -> list[str]:
    """Return sentences wrapped to the width, with continuation lines indented; styles do not count as width."""
    lines: list[str] = []
    for word in GLUE.sub(lambda found: found[0].replace(" ", "\u00a0"), text.rstrip()).split(" "):
        joined = f"{lines[-1]} {word}" if lines else INDENT + word
        if lines and cell_len(STYLE.sub("", joined)) > width:
            joined = INDENT * 2 + word
            lines.append(joined)
        elif lines:
            lines[-1] = joined
        else:
            lines.append(joined)
    return [paint(line.replace("\u00a0", " "), style) for line in lines]


def text(document: Document, *, width: int = 80, color: bool = False) -> str:
    """Return the document for a terminal of `width` columns, ending in a newline."""
    blocks = [[paint(safe(document.title, "text"), BOLD)]] if document.title else []
    for section in document.sections:
        lines = [INDENT + paint(safe(section.title, "text"), BOLD)] if section.title else []
        for item in section.items:
            lines += _item(item, width)
        blocks.append(lines)
    told = "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"
    return told if color else STYLE.sub("", told)


def _item(item: Item, width: int) -> list[str]:
    if isinstance(item, Table):
        return [
            *_columns(item, width),
            *(line for note in item.notes for line in wrapped(safe(note, "text"), width, DIM)),
        ]
    return _note(item, width) if isinstance(item, Note) else []


def _note(note: Note, width: int) -> list[str]:
    style, label = STYLES.get(note.kind, ""), safe(note.label or ("warning" if note.kind == "warning" else ""), "text")
    said = safe(note.text, "text")
    if note.kind == "command":
        return [INDENT + paint(f"{label:<{LABEL}}", DIM) + said]
    if not label:
        return wrapped(said, width, style)
    first, *rest = [line.strip() for line in wrapped(said, max(width - LABEL, 30))]
    wide = " " * max(LABEL - cell_len(label), 1)
    return [INDENT + paint(label, style or DIM) + wide + first, *(INDENT + " " * LABEL + line for line in rest)]


def _columns(table: Table, width: int) -> Iterator[str]:
    """Yield columns as wide as their widest cell; those that do not fit follow below, after the same names."""
    rows = [list(map(one_line, row)) for row in (table.header, *table.rows) if not isinstance(row, str)]
    wide = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    numbers = wide[table.names :]
    for at in range(table.names):  # names are shortened before columns move down
        over = len(INDENT) + sum(wide) + len(GAP) * (len(wide) - 1) - width
        if over > 0:
            fitted = distinct([row[at] for row in rows[1:]], max(wide[at] - over, min(wide[at], 16)))
            for row, name in zip(rows[1:], fitted, strict=True):
                row[at] = name
            wide[at] = max(map(cell_len, [rows[0][at], *fitted]))
    left = width - len(INDENT) - sum(wide[: table.names]) - len(GAP) * (table.names - 1)
    for start, end in _parts(numbers, left):
        chosen = [*range(table.names), *range(table.names + start, table.names + end)]
        body = iter(rows)
        for index, given in enumerate((table.header, *table.rows)):
            if isinstance(given, str):
                yield INDENT + paint(one_line(given), DIM)
                continue
            row = next(body)
            cells = [_cell(row[i], wide[i], i < table.names, (index - 1, i) in table.bold) for i in chosen]
            line = (INDENT + GAP.join(cells)).rstrip()
            yield paint(line, DIM) if index == 0 else line


def _parts(wide: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    start, used = 0, 0
    for at, cells in enumerate(wide):
        if at > start and used + len(GAP) + cells > room:
            yield start, at
            start, used = at, 0
        used += len(GAP) + cells
    yield start, len(wide)


def _cell(cell: str, wide: int, left: bool, bold: bool) -> str:
    room = " " * (wide - cell_len(cell))
    shown = paint(cell, BOLD) if bold else cell
    return shown + room if left else room + shown


# ---- Markdown


def markdown(document: Document) -> str:
    """Return the document in Markdown, ending in a newline."""
    parts = [f"## {safe(document.title, 'markdown')}"] if document.title else []
    for section in document.sections:
        parts += [f"### {safe(section.title, 'markdown')}"] if section.title else []
        parts += [_in_markdown(item) for item in section.items if not isinstance(item, Markup)]
    return "\n\n".join(parts) + "\n"


def _in_markdown(item: Note | Table) -> str:
    if isinstance(item, Table):
        return _markdown_table(item)
    label = f"**{safe(item.label, 'markdown')}:** " if item.label else ""
    if item.kind == "command":
        return f"{label}{_code(one_line(item.text))}"
    said = safe(item.text, "markdown")
    marked = {"lead": f"**{said}**", "warning": f"> **Warning:** {said}"}
    return label + marked.get(item.kind, said)


def _code(text: str) -> str:
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _markdown_table(table: Table) -> str:
    blank = [""] * (len(table.header) - 1)
    lines = [
        _line(table.header),
        _line([":---"] * table.names + ["---:"] * (len(table.header) - table.names), raw=True),
    ]
    for i, row in enumerate(table.rows):
        cells = [safe(row, "markdown"), *blank] if isinstance(row, str) else [safe(cell, "markdown") for cell in row]
        lines.append(_line([f"**{cell}**" if (i, j) in table.bold else cell for j, cell in enumerate(cells)], raw=True))
    title = [f"*{safe(table.caption, 'markdown')}*", ""] if table.caption else []
    notes = [f"{safe(note, 'markdown')}  " for note in table.notes]
    return "\n".join([*title, *lines, *([""] if notes else []), *notes])


def _line(cells: Sequence[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else [safe(cell, 'markdown') for cell in cells])} |"


# ---- LaTeX


def latex(document: Document) -> str:
    """Return the document in LaTeX, ending in a newline; its tables need only the booktabs package."""
    parts = ["% needs \\usepackage{booktabs}"]
    parts += [f"\\subsection*{{{safe(document.title, 'latex')}}}"] if document.title else []
    for section in document.sections:
        parts += [f"\\paragraph{{{safe(section.title, 'latex')}}}"] if section.title else []
        parts += [_in_latex(item) for item in section.items if not isinstance(item, Markup)]
    return "\n".join(parts) + "\n"


def _in_latex(item: Note | Table) -> str:
    if isinstance(item, Table):
        return _latex_table(item)
    said = safe(item.text, "latex")
    said = f"\\texttt{{{said}}}" if item.kind == "command" else said
    return f"{safe(item.label, 'latex')}: {said}\n" if item.label else f"{said}\n"


def _latex_table(table: Table) -> str:
    columns = "l" * table.names + "r" * (len(table.header) - table.names)
    body = []
    for i, row in enumerate(table.rows):
        if isinstance(row, str):
            body.append(f"    \\multicolumn{{{len(columns)}}}{{l}}{{\\emph{{{safe(row, 'latex')}}}}} \\\\")
            continue
        cells = [safe(cell, "latex") for cell in row]
        cells = [f"\\textbf{{{cell}}}" if (i, j) in table.bold else cell for j, cell in enumerate(cells)]
        body.append(f"    {' & '.join(cells)} \\\\")
    return "\n".join([
        "\\begin{table}",
        "  \\centering",
        *([f"  \\caption{{{safe(table.caption, 'latex')}}}"] if table.caption else []),
        *([f"  \\label{{{table.key}}}"] if table.key else []),
        f"  \\begin{{tabular}}{{{columns}}}",
        "    \\toprule",
        f"    {' & '.join(safe(cell, 'latex') for cell in table.header)} \\\\",
        "    \\midrule",
        *body,
        "    \\bottomrule",
        "  \\end{tabular}",
        *(f"  \\par\\smallskip{{\\footnotesize {safe(note, 'latex')}}}" for note in table.notes),
        "\\end{table}",
    ])  # fmt: skip


# ---- HTML


# A notebook does not have our style sheet.
_NOTEBOOK: Mapping[str, str] = {
    "lead": "font-size:1.15em", "aside": "opacity:.75", "names": "text-align:left", "heading": "text-align:left",
}  # fmt: skip


def html(document: Document, *, level: int = 2) -> Markup:
    """Return the document as a fragment of a page: classes for its style sheet, no script, headings from h`level`."""
    return Markup(templates().get_template("document.html").render(document=document, level=level, styles={}))


def notebook(document: Document) -> str:
    """Return the document for a notebook's cell, without script or style sheet."""
    made = templates().get_template("document.html").render(document=document, level=4, styles=_NOTEBOOK)
    return f"<div>{made}</div>"


@cache
def templates() -> Environment:
    """Return the templates of this folder; all values in them are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("sweep", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"line": one_line, "shown": shown, "listed": listed, "plural": plural}
    return made
