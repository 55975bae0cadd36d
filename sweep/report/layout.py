"""Lines of a terminal: wrapped sentences, colour that can be taken off again."""

from __future__ import annotations

import re

from rich.cells import cell_len

INDENT = "  "
GAP = "  "
BOLD, DIM, RED, YELLOW = "1", "2", "31", "33"
# No line breaks inside "n = 9", "95 %", "1 of 10 failed".
GLUE = re.compile(r" [=±<] | %| of \d+| (?:ok|failed|lost|pending)\b")
STYLE = re.compile("\x1b\\[[0-9]+m")


def paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style else text


def wrapped(text: str, width: int, style: str = "") -> list[str]:
    """Sentences within the width, continuation lines indented; styles do not count as width."""
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
