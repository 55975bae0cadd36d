"""What a notebook shows of a comparison and of an ensemble: what their text says, and nothing that could act."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import failure, normal, sweep_of
from pages import HOSTILE, MESSAGE, ordinary
from predicted import classes, saved

from sweep.report import comparison, document
from sweep.report.ensemble import view, worth
from sweep.results import Results


def words(made: str) -> str:
    """The words of a text or of a page, without tags, rules and line breaks."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", re.sub(r"</?(strong|code)>", "", made))).split())


def harmless(made: str) -> None:
    """Nothing but the tags that this project writes, and no attribute but a style or a shape."""
    assert set(re.findall(r"<\s*/?\s*([a-zA-Z0-9]+)", made)) <= {
        "div",
        "p",
        "strong",
        "code",
        "table",
        "tr",
        "th",
        "td",
        "thead",
        "tbody",
        "section",
        "h4",
        "h5",
    }
    assert not re.search(r"<[^>]*\s(?!style=|scope=)[a-z]+=", made)


def test_a_comparison_shows_what_its_text_says(tmp_path: Path) -> None:
    store = ordinary(tmp_path / "d")
    found = Results(store).compare(baseline="lr-0.1", margin=0.01, require=["test/accuracy >= base - 0.5"])
    made: Any = found
    shown = words(made._repr_html_())
    pair = comparison.to_json(found)["pairs"][0]
    assert shown.startswith("comparison of test/accuracy undecided: lr-0.01 (base lr-0.1): test/accuracy >= base - 0.5")
    assert pair["sentence"] in shown
    assert found.checks[0].decision.reason == "too few seeds"
    reason = "5 and 5 finished seeds are too few for an exact test"
    for part in (found.why, reason, found.checks[0].requirement, "P(A > B)"):
        assert " ".join(part.split()) in shown
    told = words(comparison.text(found, width=10_000))
    assert {word for word in told.split() if word.rstrip(":") not in shown} == set()
    harmless(made._repr_html_())


def test_many_pairs_are_a_table(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        return {"metrics": {"test/accuracy": normal(spec.seed + 10 * int(spec.variant[3]), 0.9)}}

    variants = ["lr-1-00000a", "lr-2-00000b", "lr-3-00000c", "lr-4-00000d"]
    found: Any = comparison.compare(sweep_of(tmp_path / "d", outcome, variants=variants, seeds=range(5)))
    made = found._repr_html_()
    assert len(found.pairs) == 6
    assert made.count("<tr>") == 5 + 5 + 7  # the arms, who beats whom, the pairs
    assert "Bonferroni" in made
    assert "Hedges" not in made


def test_a_hostile_comparison_is_escaped(tmp_path: Path) -> None:
    def outcome(spec: Any) -> dict[str, Any]:
        if spec.seed == 2:
            return {"failure": failure("raised", MESSAGE), "notes": (MESSAGE,)}
        return {"metrics": {name: float(i + spec.seed**1.5) for i, name in enumerate((*HOSTILE, "test/accuracy"))}}

    folders = [tmp_path / "<script>alert(1)<", tmp_path / "'\" onload=alert(1)"]
    stores = [sweep_of(folder, outcome, seeds=range(5), name=HOSTILE[0]) for folder in folders]
    for metric in ("test/accuracy", HOSTILE[0], HOSTILE[1]):
        made: Any = comparison.compare(*stores, metric=metric)
        harmless(made._repr_html_())
    assert "&lt;script&gt;alert(1)&lt;" in made._repr_html_()


@pytest.mark.parametrize("calibrate", [False, True])
def test_an_ensemble_shows_what_its_text_says(calibrate: bool, tmp_path: Path) -> None:
    store = ordinary(tmp_path / "d", variants=("",))
    found: Any = worth(store, members=[0, 1, 2, 4, 5], calibrate=calibrate, margin=0.01)
    made = found._repr_html_()
    shown = words(made)
    assert shown.startswith("made-up: an ensemble of 5 members on test, 80 examples")
    text = words(document.text(view(found), width=10_000))
    assert sorted(set(text.replace(":", "").split()) - set(shown.replace(":", "").split())) == []
    harmless(made)


def test_a_hostile_ensemble_is_escaped(tmp_path: Path) -> None:
    probs, targets = classes()
    ids = np.array([f"{HOSTILE[0]}{i}" for i in range(len(targets))])

    def outcome(spec: Any) -> dict[str, Any]:
        sets = {"test": saved(probs[spec.seed], targets, ids)}
        more = {"<img src=x>": saved(probs[spec.seed], targets, ids)} if spec.seed else {}
        return {"metrics": {"test/accuracy": 0.9}, "predictions": sets | more}

    made: Any = worth(sweep_of(tmp_path / "d", outcome, seeds=range(4), name=HOSTILE[1]))
    harmless(made._repr_html_())
    assert "&lt;script&gt;alert(1)" in made._repr_html_()
    assert "&lt;img src=x" in made._repr_html_()
