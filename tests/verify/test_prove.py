"""A run that repeats its bits is proven; one that does not is caught, and what is to blame is named."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from asking import here, spec_of

from sweep.determinism.environment import Answer, verdict
from sweep.verify.locate import TRACE, locate
from sweep.verify.process import Process, Request
from sweep.verify.prove import prove
from sweep.verify.rehearse import rehearse


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_recipe_is_proven_with_and_without_the_fill_of_memory() -> None:
    proof = prove(spec_of(), here(), steps=7)
    assert proof.status == "proven"
    assert list(proof.trained[0].chain) == [
        "initial", "first_batch", "step/1", "step/2", "step/3", "step/4", "step/5", "epoch/1", "step/6", "step/7",
    ]  # fmt: skip
    filled = [made.environment["fill_uninitialized_memory"] for made in proof.trained]
    assert filled == [False, True, False]
    assert str(proof).startswith("bit-exact: proven (2 processes and this one, 7 steps, torch ")


MARKING = """
from pathlib import Path
from sweep.verify.process import Trained
Path("loaded").touch()
def mark(request, folder, *, where):
    Path("begun").touch()
    return Trained(where, {}, {}, {})
"""


def test_a_held_process_loads_its_code_and_trains_when_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marking.py").write_text(MARKING)
    monkeypatch.syspath_prepend(tmp_path)
    with Process(Request(spec_of(), here()), where="this", function="marking:mark", held=True) as process:
        while not Path("loaded").exists():
            time.sleep(0.01)
        time.sleep(0.2)
        assert not Path("begun").exists()
        process.begin()
        assert process.wait().where == "this"
    assert Path("begun").exists()
    with Process(Request(spec_of(), here()), where="this", function="marking:mark", held=True):
        pass  # it is ended and does not complain


@pytest.mark.walk
def test_a_layer_that_reads_the_clock_is_named() -> None:
    proof = prove(spec_of("planted:train", {"layer": "clock"}), here())
    assert proof.status == "differs"
    assert proof.difference is not None
    assert proof.difference.link == "final"
    assert proof.culprit is not None
    assert (proof.culprit.step, proof.culprit.what, proof.culprit.module) == (1, "output", "1.1")
    assert "step 1: the output of 1.1 (Clock)" in str(proof)


@pytest.mark.walk
def test_a_gradient_that_changes_late_is_named_with_its_step() -> None:
    request = Request(spec_of("planted:train", {"layer": "late"}), here())
    culprit = locate(request)
    assert culprit is not None
    # The layer changes what comes back, by a hook on its input: seen first below, after what was still equal.
    assert (culprit.step, culprit.what, culprit.module) == (3, "gradient of the output", "0")
    assert culprit.before == "gradient of the output of 1.0"


@pytest.mark.slow
def test_an_order_of_the_data_that_no_seed_decides_is_named() -> None:
    request = Request(spec_of("planted:train", {"order": "entropy"}), here())
    culprit = locate(request)
    assert culprit is not None
    assert (culprit.step, culprit.what) == (1, "input")


@pytest.mark.walk
def test_a_run_that_fails_each_time_in_other_words_is_not_proven() -> None:
    proof = prove(spec_of("late:fails_in_other_words"), here(), find=False)
    assert (proof.status, proof.difference) == ("failed", None)
    assert "cannot" in str(proof)


@pytest.mark.slow
def test_nothing_is_named_where_nothing_differs() -> None:
    request = Request(spec_of("planted:train", {"layer": "drop"}), here())
    assert locate(request) is None


@pytest.mark.walk
def test_fast_mode_says_how_far_apart(tmp_path: Path) -> None:
    proof = prove(spec_of("planted:train", {"layer": "clock"}, deterministic=False), here())
    assert proof.status == "fast"
    assert proof.distance is not None
    assert proof.distance.metrics["test/loss"] > 0
    assert "test/loss differs by " in str(proof)


def test_another_number_of_threads_promises_nothing(tmp_path: Path) -> None:
    made = []
    for threads in (1, 2):
        spec = spec_of("planted:train", threads=threads)
        made.append((spec, rehearse(Request(spec, here()), tmp_path / str(threads))))
    (one, a), (two, b) = made
    found = verdict(a.origin(one), b.origin(two))
    assert found.answer is Answer.NOT_EXPECTED
    assert found.fields == (("threads", 1, 2),)
    assert verdict(a.origin(one), a.origin(one)).answer in (Answer.MUST_MATCH, Answer.MAY_MATCH)


def test_watching_changes_no_bit(tmp_path: Path) -> None:
    spec = spec_of("five_models:train", {"model": "lstm"})
    plain = rehearse(Request(spec, here()), tmp_path / "a")
    watched = rehearse(Request(spec, here(), traced=True), tmp_path / "b")
    assert watched.chain == plain.chain
    lines = [line.split("\t") for line in (tmp_path / "b" / TRACE).read_text().splitlines()]
    assert {"lstm", "head"} <= {where for _, what, where, _, _ in lines if what == "output"}
    assert {"lstm.weight_ih_l0", "head.bias"} <= {where for _, what, where, _, _ in lines if what == "gradient"}


@pytest.mark.slow
def test_the_shipped_deterministic_config_is_proven(capsys: pytest.CaptureFixture[str]) -> None:
    from sweep.cli.app import main
    from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM

    config = Path(__file__).parents[2] / "configs" / "digits_deterministic.yaml"
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ENVIRONMENT_FOR_DETERMINISM.items():
            patched.setenv(name, value)
        assert main(["verify", str(config)]) == 0
    assert "seed42: bit-exact: proven (2 processes and this one, 40 epochs, torch " in capsys.readouterr().out
