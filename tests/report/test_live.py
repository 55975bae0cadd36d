"""What is seen of a running sweep: never taller than the screen, honest about what is interim."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace

import pytest
from finished import accuracies, failure, planned, sweep_of
from pages import HOSTILE, hostile
from rich.console import Console

from sweep.report import build
from sweep.report.html import fragment
from sweep.report.live import Cell, Running, Tracker, cells, duration, html, row_of, spark, steps_of, terminal
from sweep.results import Results
from sweep.stats import summarise


def tracker(total: int, clock=lambda: 100.0, **options) -> Tracker:
    made = Tracker("digits", "test/accuracy", clock=clock, **options)
    made.plan(f"seed{seed}" for seed in range(total))
    return made


def drawn(view, width=80, height=24, notice="") -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, force_terminal=True, color_system=None)
    console.print(terminal(view, width, height, notice))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def at(seed: int, step: int = 3, of: int | None = 10) -> Running:
    return Running(f"seed{seed}", step, of, (("val/loss", 0.25), ("train/loss", 0.5)))


def test_three_seeds_have_a_line_each():
    lines = drawn(tracker(3).view([at(0), at(1), at(2)]))
    assert [line.split()[0] for line in lines[:3]] == ["seed0", "seed1", "seed2"]
    assert "epoch 3/10" in lines[0]
    assert lines[-1].startswith("0/3 runs")


ARMS = [f"optimizer-adamw-weight-decay-0.05-lr-{lr}-width-512-{i:06x}" for i, lr in enumerate((0.1, 0.01, 0.001))]


def test_at_80_columns_seed_and_variant_are_whole_or_told_apart():
    found = Tracker("digits", None)
    found.plan(f"{arm}/seed{seed}" for arm in ARMS for seed in (7, 123456789))
    running = [Running(f"{arm}/seed123456789", 3, 1000, (("val/accuracy", 0.25), ("val/loss", 0.5))) for arm in ARMS]
    lines = [line for line in drawn(found.view(running)) if "seed" in line]
    assert all("seed123456789" in line and "epoch 3/1000" in line for line in lines)
    assert all("val/accuracy 0.25" in line for line in lines)
    assert len({line.split()[1] for line in lines}) == 3


def test_the_time_since_the_launch_began_is_shown():
    now = [0.0]
    found = tracker(4, clock=lambda: now[0])
    now[0] = 45.0
    assert "45 s elapsed" in drawn(found.view())[-1]
    assert "45 s elapsed" in html(found.view())


def test_the_bar_has_no_color_of_failure_and_failures_have():
    found = tracker(4)
    found.take("seed0", "ok", {})
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system="standard")
    console.print(terminal(found.view(), 80, 24))
    assert "\x1b[31m" not in stream.getvalue()
    assert "\x1b[32m━" in stream.getvalue()
    found.take("seed1", "failed", {})
    console.print(terminal(found.view(), 80, 24))
    assert "\x1b[31m1 failed" in stream.getvalue()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (200, 60)])
@pytest.mark.parametrize("total", [3, 300, 5000])
def test_it_fits_the_screen_whatever_runs(total, width, height):
    found = tracker(total)
    for seed in range(total // 2):
        found.take(f"seed{seed}", "ok", {"test/accuracy": 0.9 + seed * 1e-5})
    running = [at(seed) for seed in range(total // 2, min(total, total // 2 + 64))]
    lines = drawn(found.view(running), width, height, "stopping")
    assert len(lines) < height
    assert all(len(line) <= width for line in lines)
    assert any(f"{total // 2}/{total} runs" in line for line in lines)


def test_of_three_hundred_each_run_is_a_mark():
    found = tracker(300)
    found.take("seed0", "ok", {"test/accuracy": 0.9})
    found.take("seed1", "failed", {})
    marks = "".join(line for line in drawn(found.view([at(2)], 298)) if set(line) <= set("■×▸·"))
    assert marks == "■×▸" + "·" * 297


def test_the_interval_is_that_of_the_report_and_narrows():
    found, values = tracker(6), [0.91, 0.93, 0.92, 0.95, 0.90, 0.92]
    for seed, value in enumerate(values):
        found.take(f"seed{seed}", "ok", {"test/accuracy": value, "train/loss": 9.0})
    one = found.view().interim[0]
    expected = summarise(values)
    assert (one.n, one.mean) == (6, pytest.approx(expected.mean))
    assert one.half == pytest.approx((expected.high - expected.low) / 2)
    assert len(one.widths) == 5
    assert one.widths[0] > one.widths[-1]
    text = "\n".join(drawn(found.view()))
    assert "interim; not a reason to stop" in text
    assert spark(one.widths) in text


def test_of_thousands_the_interval_is_made_anew_once_in_a_hundredth_of_them():
    """It takes as long as there are runs: at each of them it was a quadratic step of ten thousand short seeds."""
    found = Tracker("many", "test/accuracy")
    for seed in range(5000):
        found.take(f"seed{seed}", "ok", {"test/accuracy": seed / 5000}, 0.1)
    (interim,) = found.view().interim
    assert 4950 <= interim.n <= 5000
    assert len(interim.widths) < 1000


def test_of_many_half_widths_the_first_and_the_last_are_drawn():
    widths = [1 / n**0.5 for n in range(1, 400)]
    drawn_ = spark(widths)
    assert len(drawn_) <= 16
    assert drawn_[0] == "█"
    assert drawn_[-1] == "▁"
    assert sorted(drawn_, reverse=True) == list(drawn_)
    assert spark([0.5]) == spark([]) == spark([0.0, 0.0]) == ""


def test_repeats_are_averaged_and_variants_kept_apart():
    found = Tracker("digits", "test/accuracy")
    found.plan(["a/seed1", "a/seed1-r1", "a/seed2", "b/seed1"])
    for key, value in (("a/seed1", 0.0), ("a/seed1-r1", 1.0), ("a/seed2", 1.5), ("b/seed1", 7.0)):
        found.take(key, "ok", {"test/accuracy": value})
    a, b = found.view().interim
    assert (a.label, a.n, a.mean) == ("a", 2, 1.0)
    assert (b.label, b.n, b.half) == ("b", 1, None)


def test_variants_are_called_as_in_the_report():
    found = Tracker("digits", "test/accuracy")
    found.plan(["lr-0.1-f41960/seed1", "lr-0.3-fc5251/seed1"])
    found.take("lr-0.3-fc5251/seed1", "ok", {"test/accuracy": 0.5})
    assert [one.label for one in found.view().interim] == ["lr-0.3"]
    found.plan(["lr-0.3-aaaaaa/seed1"])
    assert [one.label for one in found.view().interim] == ["lr-0.3-fc5251"]


def test_failures_are_counted_and_enter_no_mean():
    found = tracker(3)
    found.take("seed0", "ok", {"test/accuracy": 0.5})
    found.take("seed1", "failed", {"test/accuracy": 0.0})
    found.take("seed2", "ok", {"test/accuracy": math.nan})
    view = found.view()
    assert (view.ok, view.failed, view.interim[0].n, view.left) == (2, 1, 1, None)
    assert "1 failed" in drawn(view)[-1]


def test_time_left_counts_what_running_seeds_have_done():
    now = [0.0]
    found = tracker(4, clock=lambda: now[0])
    now[0] = 10.0
    assert found.view([at(0, step=0)]).left is None
    # Two seeds half done after ten seconds: four seeds take forty.
    assert found.view([at(0, step=5), at(1, step=5)]).left == pytest.approx(30.0)
    found.take("seed0", "ok", {})
    assert found.view([at(1, step=5)]).left == pytest.approx(10 / 1.5 * 2.5)
    assert found.view().rate == pytest.approx(6.0)


def test_runs_that_were_there_before_do_not_make_it_look_fast(tmp_path):
    now = [0.0]
    store = sweep_of(tmp_path / "run", accuracies(dict.fromkeys(range(8), 0.5)), seeds=range(10))
    found = Tracker("x", None, clock=lambda: now[0])
    assert len(found.seen(store.scan())) == 8
    now[0] = 60.0
    view = found.view()
    assert (view.done, view.total, view.rate, view.left) == (8, 10, None, None)
    assert found.seen(store.scan()) == []


def test_what_a_run_is_doing_names_held_out_numbers_first(tmp_path):
    store = sweep_of(tmp_path / "run", lambda spec: None)
    attempt = store.begin(next(spec for spec in planned([1], ("",), ("",), 1, deterministic=False)))
    attempt.log_row(4, {"lr": 0.1, "train/loss": 1.0, "val/loss": 2.0})
    attempt.close()
    row = row_of(store, store.member("seed1"), 9)
    assert row == Running("seed1", 4, 9, (("val/loss", 2.0), ("train/loss", 1.0)))
    assert row_of(store, store.member("seed2"), None).step is None
    assert (cells(row)[2], cells(at(1, 4, None))[2]) == ("epoch 4/9", "step 4")
    assert (steps_of({"epochs": 5}), steps_of({"epochs": True}), steps_of({})) == (5, None, None)


@pytest.mark.parametrize(("seconds", "words"), [(3.4, "3 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_are_short(seconds, words):
    assert duration(seconds) == words


# A notebook.


def test_a_cell_is_updated_in_place_and_escaped(monkeypatch):
    import IPython.display

    shown: list[str] = []
    handle = SimpleNamespace(update=lambda made: shown.append(made.data))
    monkeypatch.setattr(IPython.display, "display", lambda made, display_id: shown.append(made.data) or handle)
    cell = Cell(HOSTILE[0], None, "starting")
    cell.begin([])
    cell.tracker.plan([HOSTILE[1]])
    cell.ended(HOSTILE[1], "ok", {HOSTILE[0]: 1.0}, 2.0)
    cell.close()
    assert len(shown) >= 3
    assert not any("<script" in text or "<img" in text for text in shown)
    assert "1/1 runs" in shown[-1]
    assert "&lt;script&gt;" in shown[-1]


def test_results_have_a_display_for_notebooks_that_is_escaped(tmp_path):
    made = Results(hostile(tmp_path / "run"))._repr_html_()
    assert "<svg" in made
    assert "<table>" in made
    assert "<script" not in made
    assert "<img" not in made
    assert "5 planned = 4 ok + 1 failed + 0 lost + 0 pending" in made
    assert "onerror=alert(1)&gt;" in made


def test_results_without_any_run_have_one_too(tmp_path):
    store = sweep_of(tmp_path / "run", lambda spec: {"failure": failure()} if spec.seed == 0 else None)
    assert "no mean yet: 1 of 3 runs failed, and none is ok" in fragment(build(store), list(store.scan()))
    assert "0/1" in html(tracker(1).view())


def test_the_start_of_ray_is_no_measure_of_how_long_seeds_take():
    now = [0.0]
    found = Tracker("d", "test/accuracy", clock=lambda: now[0])
    found.plan(f"seed{seed}" for seed in range(11))
    now[0] = 22.0  # twenty seconds until the first began, and two that it took
    found.take("seed0", "ok", {"test/accuracy": 0.9}, 2.0)
    assert found.view().left == pytest.approx(20.0)


def test_a_program_at_work_is_seen_by_what_it_printed_last(tmp_path):
    store = sweep_of(tmp_path / "run", lambda spec: None)
    attempt = store.begin(next(spec for spec in planned([1], ("",), ("",), 1, deterministic=False)))
    attempt.log_text("$ python train.py\n# the program: /usr/bin/python\n")
    assert cells(row_of(store, store.member("seed1"), None)) == ["seed1", "", "starting"]
    attempt.log_text("epoch 1  loss 0.5\nepoch 2  loss 0.4\r\x1b[2J 40 %\n\n")
    assert cells(row_of(store, store.member("seed1"), None)) == ["seed1", "", "\\x1b[2J 40 %"]
