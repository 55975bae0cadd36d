"""The report as a terminal shows it: aligned, within the width, harmless whatever the names are."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from finished import accuracies, failure, normal, sweep_of
from rich.cells import cell_len

from sweep import report
from sweep.errors import listed
from sweep.number import number, places
from sweep.store import Predictions
from sweep.words import shown

HOSTILE = [
    "<script>alert(1)</script>",
    "\x1b[2J\x1b[31mred",
    "loss\nnext",
    "\u202eright to left",
    "🙂 smile",
    "x" * 10_000,
]


def usual(spec):
    rng = np.random.default_rng(spec.seed)
    predictions = Predictions(ids=np.arange(90), targets=np.arange(90) % 3, probs=rng.dirichlet([1.0] * 3, size=90))
    metrics = {"test/accuracy": normal(spec.seed), "test/nll": normal(spec.seed, 0.3, 0.02), "val/loss": 0.3}
    return {"metrics": metrics, "predictions": {"test": predictions}}


def troubled(spec):
    if spec.seed == 2:
        return {"failure": failure("raised", "bad " * 60, exception="ValueError", where="train.py:31")}
    return {3: {"lost": True}, 4: None}.get(spec.seed, usual(spec))


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("variants", [("",), ("lr-0.01-3f9a1c", "lr-0.1-aa01bc")])
def test_it_fits_the_terminal(tmp_path, monkeypatch, width, variants):
    monkeypatch.chdir(tmp_path)
    found = report.build(sweep_of("runs/d", troubled, seeds=range(8), variants=variants))
    lines = report.text(found, width=width).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    assert not any(line != line.rstrip() for line in lines)
    assert any(line.startswith(f"  {8 * len(variants)} planned = {5 * len(variants)} ok") for line in lines)


def test_numbers_stand_below_one_another(tmp_path):
    lines = report.text(report.build(sweep_of(tmp_path / "d", usual))).splitlines()
    table = [line for line in lines if re.match(r" {2}(test|val)/(accuracy|nll|loss) [↑↓] ", line)]
    assert len(table) == 3
    assert len({len(line) for line in table}) == 1


def test_what_is_what_is_labelled(tmp_path):
    text = report.text(report.build(sweep_of(tmp_path / "d", usual)))
    for label in ("sd", "95 % CI (Student t)", "exploratory", "members' mean", "by construction", "not checked"):
        assert label in text


@pytest.mark.parametrize("color", [True, False])
def test_hostile_names_cannot_touch_the_terminal(tmp_path, color):
    def outcome(spec):
        if spec.seed == 1:
            return {"failure": failure("raised", HOSTILE[1], exception=HOSTILE[2], where=HOSTILE[3])}
        return {"metrics": dict.fromkeys(HOSTILE, 0.5 + spec.seed), "notes": (HOSTILE[1], HOSTILE[3])}

    store = sweep_of(tmp_path / "d", outcome, seeds=range(3), config={"primary": HOSTILE[3]})
    text = report.text(report.build(store), color=color)
    assert all(c.isprintable() or c == "\n" for c in re.sub("\x1b\\[[0-9]+m", "", text))
    assert "\x1b[2J" not in text
    assert ("\x1b" in text) == color
    assert max(cell_len(line) for line in text.splitlines()) < 500


def test_a_thousand_variants_do_not_flood_the_screen(tmp_path):
    variants = [f"v{i:03d}" for i in range(100)]
    outcome = accuracies({0: 0.9, 1: 0.8})
    found = report.build(sweep_of(tmp_path / "d", outcome, seeds=(0, 1), variants=variants))
    text = report.text(found)
    assert len(text.splitlines()) < 100
    assert "more rows: --format json has every one" in text
    assert len(found.rows) == 100


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colour_only_where_somebody_can_see_it(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert report.wants_color(Terminal())
    assert not report.wants_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not report.wants_color(Terminal())


def test_colour_changes_no_word(tmp_path):
    found = report.build(sweep_of(tmp_path / "d", troubled, seeds=range(8)))
    assert re.sub("\x1b\\[[0-9]+m", "", report.text(found, color=True)) == report.text(found)


def test_words():
    assert shown("a\x07b") == "a\\x07b"
    assert shown("a" * 50 + "b" * 50, 10) == "aaaaa…bbbb"
    assert number(float("nan"), 2) == "—"
    assert number(-0.001, 2) == "0.00"
    assert number(float("inf"), 2) == "inf"
    assert places(0.0996) == 2
    assert places(0.0) is None
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"


def test_a_mistake_that_fails_every_seed_is_told_once(tmp_path):
    def outcome(spec):
        odd = "another" if spec.seed == 4 else "wrote no metrics"
        return {"failure": failure("returned", odd, where="command")} if spec.seed else usual(spec)

    store = sweep_of(tmp_path / "d", outcome, seeds=range(6))
    text = report.text(report.build(store), width=100)
    assert "4 × no usable metrics at command (seeds 1-3, 5): wrote no metrics" in text
    assert "1 × no usable metrics at command (seed 4): another" in text
    assert text.count("wrote no metrics") == 1


def test_seeds_are_listed_as_they_are_typed(tmp_path):
    store = sweep_of(tmp_path / "d", usual, seeds=[*range(10), 42, 123, 456])
    assert "seeds      0-9, 42, 123, 456\n" in report.text(report.build(store))
