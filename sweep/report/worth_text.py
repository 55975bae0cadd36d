"""An ensemble's report on a terminal and in Markdown."""

from __future__ import annotations

from sweep.report.layout import BOLD, DIM, INDENT, STYLE, YELLOW, Line, aligned, paint, wrapped
from sweep.report.paper import Table, as_markdown, escaped
from sweep.report.words import path_argument, shown
from sweep.report.worth_model import Worth
from sweep.report.worth_tables import Block, blocks, headline, title


def text(found: Worth, *, width: int = 80, color: bool = False) -> str:
    """For a terminal of `width` columns, ending in a newline."""
    parts = [
        [paint(title(found), BOLD), *wrapped(headline(found), width)],
        [line for note in found.notes for line in wrapped(f"{paint('note', YELLOW)}: {shown(note, 500)}", width)],
        *(_set(block, width) for block in blocks(found)),
    ]
    told = "\n\n".join("\n".join(part) for part in parts if part) + "\n"
    return told if color else STYLE.sub("", told)


def _set(block: Block, width: int) -> list[str]:
    if not block.rows:
        return [INDENT + paint(" ".join(block.header), DIM), *(line for n in block.notes for line in wrapped(n, width))]
    table: list[Line | str] = [block.header, *block.rows]
    return aligned(table, width) + [line for note in block.notes for line in wrapped(note, width, DIM)]


def markdown(found: Worth) -> str:
    """The same as Markdown: a title, the evidence in a sentence, notes, and a table for each block."""
    parts = [f"## {escaped(title(found))}", escaped(headline(found))]
    parts += [f"> {escaped(shown(note, 500))}" for note in found.notes]
    for block in blocks(found):
        if block.rows:
            parts.append(as_markdown(Table(block.header, block.rows, frozenset(), block.notes)).rstrip("\n"))
        else:
            sentences = "  \n".join(escaped(note) for note in block.notes)
            parts.append(f"**{escaped(' '.join(block.header))}**  \n{sentences}")
    return "\n\n".join(parts) + "\n"


def next_commands(found: Worth, exported: str | None = None) -> tuple[str, ...]:
    """What to type next."""
    where = path_argument(found.directory)
    fitted = found.assessment.calibration
    wanted = fitted is not None and fitted.recommended and not found.assessment.calibrated
    first = "--calibrate --export ensemble.pt2" if wanted else "--export ensemble.pt2"
    serve = f"sweep predict {where} inputs.npz --out predictions.npz"
    return (serve,) if exported else (f"sweep ensemble {where} {first}", serve)
