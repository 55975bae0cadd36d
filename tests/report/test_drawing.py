"""The palette is told apart by every kind of eye on every background, and inline SVG is inert and complete."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from sweep.report import drawing

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
EYES = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}  # fmt: skip
LIGHT_CARD, DARK_CARD = "#ffffff", "#181c21"


def linear(colors):
    found = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors])
    return np.where(found <= 0.04045, found / 12.92, ((found + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Return CIE L*a*b* of linear sRGB, D65: distances of 20 are told apart in small marks."""
    xyz = rgb @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 0.008856))
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def nearest(colors, eye):
    seen = lab(np.clip(linear(colors) @ np.array(EYES[eye]).T, 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    return apart[np.triu_indices(len(colors), 1)].min()


def contrast(color, background):
    a, b = sorted((linear([color, background]) @ [0.2126, 0.7152, 0.0722]).tolist())
    return (b + 0.05) / (a + 0.05)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("colors", [drawing.COLORS, drawing.DARK], ids=["light", "dark"])
def test_any_two_colors_are_told_apart(colors, eye):
    assert nearest(colors, eye) > 25


def test_the_measure_finds_colors_that_a_protanope_cannot_tell_apart():
    before = ("#0072b2", "#c85200", "#00805c", "#a8508a", "#7a6a00", "#4b4fa3")
    assert nearest(before, "normal") > 25
    assert nearest(before, "protanopia") < 1


@pytest.mark.parametrize(("colors", "card"), [(drawing.COLORS, LIGHT_CARD), (drawing.DARK, DARK_CARD)])
def test_every_color_has_contrast_with_its_card(colors, card):
    assert min(contrast(color, card) for color in colors) > 3


def test_the_page_has_these_colors_in_both_themes():
    from sweep.report.html import _asset

    sheet = _asset("report.css")
    for colors in (drawing.COLORS, drawing.DARK):
        assert " ".join(f"--c{i}: {color};" for i, color in enumerate(colors)) in sheet


def figure(text="<b>&'\" $x^2"):
    with drawing.style("card"):
        frame = drawing.Frame("card", 10, "title", scaled=True)
        frame.panels[0].plot([1, 2], [3, 4], "o", gid="seed 1: 3;|seed 2: 4;")
        frame.panels[0].set_xlabel(text)
    return frame.figure


def test_inline_svg_has_no_style_no_script_and_no_reference_outside_itself():
    made = drawing.inline(figure(), "a", "a <label>")
    assert not re.search(r"style=|<style|<script|url\(|https?:|clip-path|<image| on\w+=", made)
    assert 'aria-label="a &lt;label&gt;"' in made
    assert "&lt;b&gt;&amp;" in made
    assert "$x^2" in made
    ids = re.findall(r'id="([^"]+)"', made)
    assert ids
    assert all(one.startswith("a-") for one in ids)
    assert set(re.findall(r'href="#([^"]+)"', made)) <= set(ids)


def test_inline_svg_follows_the_theme_and_names_each_dot():
    made = drawing.inline(figure(), "a", "label")
    assert re.search(r'class="f0[" ]', made)
    assert "currentColor" in made
    assert "<title>seed 1: 3</title>" in made


def test_equal_figures_are_equal_markup_and_ids_of_two_pictures_differ():
    first, second = (drawing.inline(figure(), "a", "x") for _ in range(2))
    assert first == second
    other = drawing.inline(figure(), "b", "x")
    assert not set(re.findall(r'id="([^"]+)"', first)) & set(re.findall(r'id="([^"]+)"', other))


@pytest.mark.parametrize("size", ["column", "page"])
def test_a_figure_for_a_paper_is_as_wide_as_its_column(size):
    made = drawing.Frame(size, 20, "title")
    assert made.figure.get_figwidth() == drawing.SIZES[size][0]


def test_nothing_of_pyplot_is_loaded_or_left():
    import subprocess
    import sys

    code = "import sys; from sweep.report import figures, ensemble_figures; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_notebook_shows_two_pixels_for_one_of_the_screen_and_a_margin():
    """Else the title would lie at the edge of the picture."""
    frame = drawing.Frame("screen", 5, "a title")
    data, shown = frame.numbered()._repr_png_()
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert (2 * shown["height"], 2 * shown["width"]) == pytest.approx(pixels.shape, abs=1)
    assert shown["width"] == pytest.approx(110 * (6 + 2 * drawing.MARGIN), abs=1)
    edge = int(220 * drawing.MARGIN) - 1
    for side in (pixels[:edge], pixels[-edge:], pixels[:, :edge], pixels[:, -edge:]):
        assert side.min() == 255
