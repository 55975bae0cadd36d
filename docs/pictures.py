"""Draw the pictures of the documentation from real runs: `python docs/pictures.py`.

picture.png is the first picture of README; start/report.png is a report with notes beside its lines.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import matplotlib.pyplot as plt

import sweep
from sweep.report import figures

HERE = Path(__file__).parent
COMMAND = ["sweep", "run", "--seeds", "42,123,456"]
NOTES = {  # by how the line begins
    "test/accuracy 0": "mean ± half the width of its interval",
    "(95 % CI": "what the interval covers; seeds; failures",
    "3 planned": "what became of every seed",
    "test/accuracy ↑": "↑: higher is better; sd: standard deviation",
    "directory": "the folder with all results",
    "next": "a command to try next",
    "more": "the command for all other tables and figures",
    "test/accuracy 0.": "the first line again, after a long report",
}
COLOUR = "#0b62a4"
SIZE, LINE, COLUMN = 9.0, 0.19, 0.079  # points of the text; inches of a line and of a column of it


def printed() -> list[str]:
    with TemporaryDirectory() as room:
        done = subprocess.run(COMMAND, cwd=room, check=True, capture_output=True, text=True)
    return [f"$ {' '.join(COMMAND)}", *done.stdout.rstrip().splitlines()]


def draw(lines: list[str]) -> None:
    mpl.rcParams["font.family"] = "DejaVu Sans Mono"
    room, wide = max(map(len, lines)) + 3, max(map(len, NOTES.values()))
    size = (room + wide + 2) * COLUMN, (len(lines) + 1) * LINE
    figure = plt.figure(figsize=size, dpi=220, facecolor="white")
    waiting = dict(NOTES)
    for number, line in enumerate(lines):
        y = 1 - (number + 1) * LINE / size[1]
        figure.text(COLUMN / size[0], y, line, fontsize=SIZE, va="center")
        begin = next((each for each in waiting if line.strip().startswith(each)), None)
        if begin is not None:
            from_, to = (len(line) + 2) * COLUMN / size[0], room * COLUMN / size[0]
            figure.add_artist(plt.Line2D([from_, to], [y, y], color=COLOUR, linewidth=0.6))
            figure.text(to + COLUMN / size[0], y, waiting.pop(begin), fontsize=SIZE, va="center", color=COLOUR)
    assert not waiting, f"no line begins with {list(waiting)}"
    figure.savefig(HERE / "start" / "report.png")


def two_learning_rates() -> None:
    with TemporaryDirectory() as room:
        results = sweep.run(
            seeds=range(10), params={"epochs": 12}, grid={"params.optimizer.lr": [0.003, 0.001]}, out=f"{room}/runs"
        )
        figures.save(results.plot(), HERE / "picture.png")


if __name__ == "__main__":
    two_learning_rates()
    draw(printed())
