"""Paste into README and docs what their commands print: `python docs/outputs.py [PAGE ...]`.

Every page is typed from top to bottom in an empty folder, as a reader would; the output of each `console` block is put
where it stands. Where the page has a line "…", as many lines are kept before and after it as the page has there; other
output is cut after `MOST` lines.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import test_pages as pages  # noqa: E402

MOST = 40
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pasted(page: Path) -> str:
    """Return the text of a page with the outputs of its commands as they are now."""
    text = page.read_text(encoding="utf-8")
    with TemporaryDirectory() as room:
        walked = pages.walk(page, Path(room), as_printed=True, COLUMNS="100")
        said = {line: output.replace(room, ".") for line, output in walked.items()}
    return CONSOLE.sub(lambda found: block(found, text, said), text)


def block(found: re.Match[str], text: str, said: dict[int, str]) -> str:
    """Return a block with the outputs of its commands. said: outputs by the lines of commands in the text."""
    line = text[: found.start(1)].count("\n") + 1
    lines, before = [], found[1].split("\n$ ")
    for at, (number, command) in enumerate(pages.typed(found[1], "console")):
        shown = [each.rstrip() for each in said.get(line + number, "").splitlines()]
        old = before[at].splitlines()
        first = old.index("…") - 1 if "…" in old else MOST
        last = len(old) - 2 - first if "…" in old else 0
        cut = ["…", *shown[len(shown) - last :]] if len(shown) > first + last else shown[first:]
        lines += [f"$ {command}", *shown[:first], *cut]
    return "```console\n" + "\n".join(lines) + "\n```"


if __name__ == "__main__":
    for name in sys.argv[1:] or list(map(str, pages.PAGES)):
        if pages.missing(Path(name)) is None:
            Path(name).write_text(pasted(Path(name)), encoding="utf-8")
            print(f"pasted {name}")
