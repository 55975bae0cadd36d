"""The HTML report as text: whole, inert, honest about what it leaves out. What a browser makes of it is beside this."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pandas as pd
import pytest
from finished import accuracies, failure, normal, sweep_of
from pages import HOSTILE, MESSAGE, hostile, ordinary

from sweep.analysis import frames, histories
from sweep.cli.app import main
from sweep.number import limits, places
from sweep.report import comparison, figures
from sweep.report.html import digest, page
from sweep.store import Store


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of each kind of tag."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    @property
    def words(self) -> str:
        shown = (text for tag, texts in self.texts.items() if tag not in ("style", "script") for text in texts)
        return re.sub(r"\s+", " ", " ".join(shown))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return ordinary(tmp_path_factory.mktemp("a") / "run")


@pytest.fixture(scope="module")
def told(plain):
    text = page(plain, comparison=comparison.compare(plain))
    return text, Parsed(text)


def test_every_section_is_there_and_says_what_was_asked(told):
    words = told[1].words
    for wanted in (
        "12 planned = 11 ok + 1 failed + 0 lost + 0 pending", "Learning curves", "pointwise 95 % t band",
        "Comparison of variants", "P(A > B)", "by number of members", "Reliability",
        "wrong: ", "Risk by coverage", "Disagreement of members", "% of examples with other top classes",
        "median, failed ranked worst, 95 % CI", "; training alone would give no detectable spread",
        "1 × diverged (B; seed 3)", "train/loss is nan at step 4", "bit-exact", "not checked", "torch 2.13.0",
        "How to cite", "@software{", "sweep reproduce ", "over seeds, this split and test set", "of finished runs",
    ):  # fmt: skip
        assert wanted in words, wanted


def test_it_says_how_to_run_the_whole_sweep_again(told):
    assert "Run the whole sweep again" in told[1].words
    assert "sweep run sweep.yaml" in told[1].words


def test_the_seed_to_train_once_more_has_a_record(tmp_path):
    fates = [None, {"failure": failure()}, {"lost": True}, {"metrics": {"test/accuracy": 0.9}}]
    assert "--seed 3" in Parsed(page(sweep_of(tmp_path / "one", lambda s: fates[s.seed], seeds=range(4)))).words
    none = Parsed(page(sweep_of(tmp_path / "none", lambda s: fates[s.seed], seeds=range(3))))
    assert "sweep reproduce" not in none.words


def test_a_comparison_of_several_variants_sets_bonferroni_beside_holm_and_losses_the_right_way_round(tmp_path):
    def outcome(spec):
        shift = {"a-00000a": 0.1, "b-00000b": 0.2}.get(spec.variant, 0)
        return {"metrics": {"test/loss": 1 + shift + normal(spec.seed + ord(spec.variant[0]))}}

    variants = ("a-00000a", "b-00000b", "c-00000c")
    store = sweep_of(tmp_path / "d", outcome, seeds=range(6), variants=variants, config={"primary": "test/loss"})
    made = comparison.compare(store)
    text = page(store, comparison=made)
    words = Parsed(text).words
    assert "P(A < B)" in words
    assert "Bonferroni" in words
    sure = made.pairs[0].simultaneous
    half = made.pairs[0].interval.half_width
    assert limits(sure.low, sure.high, places(half), sign=True) in words


def test_nothing_is_loaded_from_anywhere(told):
    for _tag, attributes in told[1].tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), (name, attributes)
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "http://" not in told[0]
    assert "https://" not in told[0]
    assert "@import" not in told[0]
    assert "url(" not in told[0]
    assert "<image" not in told[0]


def test_the_policy_allows_the_style_and_the_script_that_are_there_and_nothing_else(told):
    text, parsed = told
    policy = next(a["content"] for t, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    style, script = (re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1] for tag in ("style", "script"))
    assert text.count("<style>") == text.count("<script>") == 1
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src {digest(style)};" in policy
    assert f"script-src {digest(script)};" in policy
    assert "unsafe" not in policy
    assert digest(style + " ") not in policy


def test_hostile_names_and_messages_are_text(tmp_path):
    text = page(hostile(tmp_path / "<img src=x onerror=alert(1)>"))
    parsed = Parsed(text)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in parsed.tags]
    assert not [a for _, a in parsed.tags if any(name.startswith("on") for name in a)]
    assert "\u202e" not in text
    assert "49" not in re.findall(r"\b49\b", text.partition("<main>")[0])
    words = parsed.words
    for name in (*HOSTILE[:4], *HOSTILE[7:8]):
        assert name in words, name
    assert MESSAGE[:30] in words
    assert "loss\\n<b>x" in words


def test_a_directory_without_any_result_has_a_page(tmp_path):
    words = Parsed(page(sweep_of(tmp_path / "run", lambda spec: None))).words
    assert "no run has finished (0 of 3)" in words
    assert "No run has reported a metric yet" in words


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    words = Parsed(page(sweep_of(tmp_path / "run", accuracies({0: 0.5}), seeds=[0]))).words
    assert "no interval: one seed has no spread" in words


def test_the_command_writes_a_page_of_one_directory_with_the_same_bytes(plain, told, tmp_path, capsys):
    target = tmp_path / "report.html"
    assert main(["report", str(plain.path), "--html", str(target)]) == 0
    assert target.read_text(encoding="utf-8") == told[0]
    assert capsys.readouterr().out == ""
    assert main(["report", str(plain.path), str(plain.path), "--html", str(target)]) == 2
    assert "one page for each" in capsys.readouterr().err


# Long histories.


def long(path, steps, **options):
    def outcome(spec):
        rows = ({"step": s, "loss": 1 / s + spec.seed, **({"rare": float(s)} if s % 50 == 0 else {})}
                for s in range(1, steps + 1))  # fmt: skip
        return {"metrics": {"test/accuracy": 0.5}, "history": rows}

    return sweep_of(path, outcome, **options)


@pytest.fixture(scope="module")
def thinned(tmp_path_factory):
    return long(tmp_path_factory.mktemp("long") / "run", 9000)


def test_a_long_history_is_thinned_in_sight_and_keeps_its_ends(thinned):
    found = histories.read(thinned, thinned.scan()).frame("loss")
    assert found.attrs["stride"] > 1
    assert found.groupby("seed").size().max() <= 4001
    assert set(found.groupby("seed")["step"].min()) == {1}
    assert set(found.groupby("seed")["step"].max()) == {9000}
    every = int(re.search(r"every (\d+)th drawn", Parsed(page(thinned)).words)[1])
    assert every >= 9000 / figures.MOST_POINTS
    assert every % found.attrs["stride"] == 0


def test_a_metric_that_is_logged_rarely_is_not_lost_between_the_strides(thinned):
    rare = histories.read(thinned, thinned.scan()).frame("rare")
    assert rare[rare["seed"] == 0]["step"].tolist() == list(range(50, 9001, 50))


def test_the_band_of_a_thinned_history_is_that_of_the_whole_one_where_it_is_drawn(thinned):
    found = frames.band(histories.read(thinned, thinned.scan()).frame("loss"), "loss")
    whole = frames.band(frames.history(thinned), "loss")
    expected = whole[whole["step"].isin(found["step"])].reset_index(drop=True)
    assert len(found) > 100
    pd.testing.assert_frame_equal(found, expected)


def test_each_history_is_read_once(tmp_path, monkeypatch):
    store = ordinary(tmp_path / "run", variants=tuple(f"v-{i:06x}" for i in range(4)))
    read: Counter[str] = Counter()
    real = Store.table

    def counting(self, member):
        read[member.key] += 1
        return real(self, member)

    monkeypatch.setattr(Store, "table", counting)
    page(store, comparison=comparison.compare(store))
    assert len(read) == 24
    assert set(read.values()) == {1}


def test_there_is_no_card_for_the_learning_rate(tmp_path):
    def outcome(spec):
        rows = [{"step": s, "lr": 0.1 / s, "val/loss": 1 / s} for s in range(1, 9)]
        return {"metrics": {"test/accuracy": normal(spec.seed), "lr": 0.01}, "history": rows}

    titles = Parsed(page(sweep_of(tmp_path / "run", outcome))).texts["h3"]
    assert "val/loss" in titles
    assert "lr" not in titles


def test_the_conclusion_of_a_grid_comes_first_and_the_comparison_before_the_curves(told):
    text = told[0]
    assert "has the best mean" in text.partition("<main>")[0]
    assert text.index('id="variants"') < text.index("difference from") < text.index('id="curves"')


def test_a_page_of_two_variants_is_no_larger_than_its_pictures_need(told):
    pictures = re.findall("<svg.*?</svg>", told[0], re.DOTALL)
    assert max(map(len, pictures)) < 32_000
    assert len(told[0]) < 400_000


def test_each_task_has_its_verdict_at_the_top(tmp_path):
    def outcome(spec):
        better = spec.variant == "b-00000b"
        return {"metrics": {"test/accuracy": normal(spec.seed + 50 * better) + 0.1 * better}}

    variants = ["a-00000a", "b-00000b"]
    store = sweep_of(tmp_path / "d", outcome, seeds=range(8), variants=variants, tasks=["one", "two"])
    top = page(store).partition("<header>")[2].partition("<nav")[0]
    for task in ("one", "two"):
        assert f"{task}: B (b) is best: test/accuracy" in top
    assert top.count("95 % CI over seeds") == 1


def test_curves_are_drawn_where_every_run_failed(tmp_path):
    rows = [{"step": step, "train/loss": 1.0 / step} for step in (1, 2)]
    store = sweep_of(
        tmp_path / "d", lambda s: {"failure": failure(), "history": rows}, variants=["a-00000a", "b-00000b"]
    )
    text = page(store)
    assert "could not be made" not in text
    assert "failed run" in text
