"""One colour has one meaning in every picture and in the page: measured, wrong, calibrated, or a further variant."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from finished import failure, normal, sweep_of
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from predicted import classes

import sweep
from sweep.analysis import frames
from sweep.report import comparison, drawing, ensemble_figures, figures
from sweep.report.drawing import CALIBRATED, COLORS, MEASURED, VARIANTS, WRONG
from sweep.report.html import page
from sweep.store import Predictions, Store

VARIANT_OF = ("a", "b", "c", "d")


def used(figure: Figure) -> dict[str, set[str]]:
    """Return which colours of the palette a figure has, each with the labels of what is drawn in it."""
    found: dict[str, set[str]] = {}
    for artist in figure.findobj(lambda one: isinstance(one, Line2D | Patch | Collection)):
        if isinstance(artist, Line2D):
            shades = [artist.get_color(), artist.get_markeredgecolor(), artist.get_markerfacecolor()]
        else:
            shades = [*np.atleast_2d(artist.get_facecolor()), *np.atleast_2d(artist.get_edgecolor())]
        for shade in shades:
            if not isinstance(shade, str) or shade != "none":
                found.setdefault(to_hex(shade), set()).add(str(artist.get_label()))
    return {color: labels for color, labels in found.items() if color in COLORS}


def store_of(path: Path, variants: int, failed: bool = False) -> Store:
    probs, targets = classes(6, 60, 3)

    def outcome(spec):
        at = VARIANT_OF.index(spec.variant)
        rows = [{"step": s, "val/loss": (1 + at) / s + spec.seed / 50} for s in range(1, 5)]
        made = {"history": rows, "metrics": {"test/accuracy": normal(spec.seed + 7 * at, 0.9 - at / 10)}}
        if failed and spec.seed == 1:
            return {**made, "failure": failure("raised", "no luck")}
        splits = {
            name: Predictions(ids=np.arange(60), targets=targets, probs=probs[spec.seed]) for name in ("test", "val")
        }
        return {**made, "predictions": splits}

    return sweep_of(path, outcome, seeds=range(6), variants=VARIANT_OF[:variants])


def test_the_meanings_are_different_colors() -> None:
    assert len({MEASURED, WRONG, CALIBRATED, *VARIANTS[1:]}) == len(COLORS)
    assert VARIANTS[0] == MEASURED


@pytest.mark.parametrize("variants", [1, 2, 3, 4])
@pytest.mark.parametrize("failed", [False, True])
def test_variants_have_colors_that_mean_nothing_else(tmp_path: Path, variants: int, failed: bool) -> None:
    store = store_of(tmp_path / "d", variants, failed)
    runs = frames.frame(store)
    made = used(figures.curves(frames.history(store), "val/loss", runs=runs))
    wrong = made.pop(WRONG, set())
    assert list(made) == list(VARIANTS[: variants if variants < 4 else 1])
    assert wrong == ({"_x", "failed run"} if failed else set())
    assert set(used(figures.members(runs, "test/accuracy"))) == {MEASURED}
    if variants > 1:
        assert set(used(figures.forest(comparison.compare(store)))) <= {MEASURED}


def test_pictures_of_an_ensemble_use_the_same_meanings(tmp_path: Path) -> None:
    found = sweep.open(store_of(tmp_path / "d", 1).path).ensemble().assessment
    for draw in (ensemble_figures.size_curve, ensemble_figures.risk_coverage, ensemble_figures.disagreement):
        assert set(used(draw(found))) == {MEASURED}
    diagram = ensemble_figures.reliability(found)
    assert set(used(diagram)) == {MEASURED, CALIBRATED}
    points = {str(one.get_label()).partition(":")[0]: one[0].get_color() for one in diagram.axes[0].containers}
    assert points == {"raw": MEASURED, "calibrated": CALIBRATED}
    made = used(ensemble_figures.uncertainty(found))
    assert set(made) == {MEASURED, WRONG}
    assert any(label.startswith("wrong") for label in made[WRONG])


@pytest.mark.parametrize("failed", [False, True])
def test_the_page_uses_them_as_the_pictures_do(tmp_path: Path, failed: bool) -> None:
    text = page(store_of(tmp_path / "d", 3, failed))
    pictures = re.findall(r'<svg class="picture".*?</svg>', text, re.DOTALL)
    classes_of = [
        set(re.findall(r"\b[fs]([0-4])\b", " ".join(re.findall(r'class="([^"]*)"', one)))) for one in pictures
    ]
    meaning = {WRONG: "failed run|wrong:", CALIBRATED: "calibrated"}
    assert {"0", "3", "4"} <= set().union(*classes_of)  # three variants share the axes of their curves
    for color, words in meaning.items():
        mine = drawing.CLASSES[color]
        assert any(mine in found for found in classes_of) or not failed
        for picture, found in zip(pictures, classes_of, strict=True):
            assert (mine in found) <= bool(re.search(words, picture))
