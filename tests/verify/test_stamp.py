"""The stamp says no more than was seen, and a difference is not forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from finished import accuracies, sweep_of

import sweep
from sweep.cli.app import main
from sweep.determinism.environment import ENVIRONMENT_FOR_DETERMINISM
from sweep.report.remarks import reproducibility, reproducibility_in_short
from sweep.store import Store
from sweep.verify.stamp import after, outlasts

STEPS_PROVEN = {"status": "sampled", "extent": "steps", "how": "canary", "summary": "sampled (a)"}
WHOLE_PROVEN = {"status": "proven", "extent": "whole", "how": "verify", "summary": "proven (b)"}
STEPS_DIFFER = {"status": "differs", "extent": "steps", "how": "canary", "summary": "DIFFERS (c)"}
WHOLE_DIFFERS = {"status": "differs", "extent": "whole", "how": "verify", "summary": "DIFFERS (d)"}
UNCHECKED = {"status": "not checked", "how": "canary", "summary": "not checked (e)"}


def run(name: str, out: Path, **more: Any) -> dict[str, Any]:
    found = sweep.run(
        {"train": f"late:{name}", "deterministic": True}, seeds=[1, 2], out=out, engine="inline",
        on_event=lambda event: None, **more,
    )  # fmt: skip
    return dict(found.store.manifest.stamp)


@pytest.mark.walk
@pytest.mark.parametrize("name", ["unseeded_evaluation", "noise_from_step_seven"])
def test_what_differs_only_after_the_first_steps_is_not_stamped_proven(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    stamp = run(name, tmp_path / "d")
    assert stamp["status"] == "differs", stamp["summary"]
    assert stamp["extent"] == "whole"


@pytest.mark.walk
def test_an_honest_run_is_proven_by_a_whole_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    stamp = run("honest", tmp_path / "d")
    assert (stamp["status"], stamp["extent"], stamp["how"]) == ("proven", "whole", "repeat"), stamp["summary"]
    # A difference of a run that is not there to be trained again outlasts the next launch.
    store = sweep.open(tmp_path / "d").store
    store.stamp({**stamp, **WHOLE_DIFFERS, "key": "seed9"})
    found = sweep.run(
        {"train": "late:honest", "deterministic": True}, seeds=[3], out=tmp_path / "d", engine="inline",
        on_event=lambda event: None,
    )  # fmt: skip
    kept = found.store.manifest.stamp
    assert (kept["status"], kept["key"]) == ("differs", "seed9")
    assert kept["later"].startswith("proven (")


@pytest.mark.walk
def test_a_canary_that_does_not_end_leaves_the_sweep_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweep.verify.canary.LIMIT", {"function": 3.0})
    monkeypatch.setattr("sweep.verify.canary.STEPS", 100)  # more than there are: it comes to where it hangs
    stamp = run("one_rehearsal_hangs", tmp_path / "d")
    assert stamp["status"] == "not checked", stamp["summary"]
    assert "after 3 s" in stamp["summary"]


@pytest.mark.walk
@pytest.mark.parametrize(("name", "status"), [("resumed_whole", "proven"), ("resumed_forgetful", "differs")])
def test_a_run_that_was_resumed_is_part_of_the_proof(
    name: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    stamp = run(name, tmp_path / "d")
    record = sweep.open(tmp_path / "d").store.member("seed2").record
    assert record is not None
    assert record.context["resumed_at"] == 8
    assert (stamp["status"], stamp["key"], stamp["seed"]) == (status, "seed2", 2), stamp["summary"]


@pytest.mark.walk
def test_a_proof_of_before_does_not_hold_for_what_was_resumed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    config = {"train": "late:resumed_forgetful", "deterministic": True}
    sweep.run(config, seeds=[1], out=tmp_path / "d", engine="inline", on_event=lambda event: None)
    assert sweep.open(tmp_path / "d").store.manifest.stamp["status"] == "proven"
    sweep.run(config, seeds=[2], out=tmp_path / "d", engine="inline", on_event=lambda event: None)
    stamp = sweep.open(tmp_path / "d").store.manifest.stamp
    assert (stamp["status"], stamp["key"]) == ("differs", "seed2"), stamp["summary"]


@pytest.mark.walk
def test_a_resumed_run_that_is_too_long_to_repeat_leaves_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweep.verify.canary.seconds_of", lambda record: 60.0 * ("resumed_at" in record.context))
    stamp = run("resumed_whole", tmp_path / "d")
    assert stamp["status"] == "sampled", stamp["summary"]


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (WHOLE_DIFFERS, STEPS_PROVEN, "differs"),
        (WHOLE_DIFFERS, UNCHECKED, "differs"),
        (WHOLE_DIFFERS, STEPS_DIFFER, "differs"),
        (WHOLE_DIFFERS, WHOLE_PROVEN, "proven"),
        (STEPS_DIFFER, STEPS_PROVEN, "sampled"),
        (STEPS_DIFFER, WHOLE_PROVEN, "proven"),
        (STEPS_DIFFER, UNCHECKED, "differs"),
        (STEPS_PROVEN, WHOLE_DIFFERS, "differs"),
        (WHOLE_PROVEN, STEPS_DIFFER, "differs"),
        ({}, STEPS_PROVEN, "sampled"),
        ({**WHOLE_DIFFERS, "key": "seed7"}, {**WHOLE_PROVEN, "key": "seed2"}, "differs"),
        ({**WHOLE_DIFFERS, "key": "seed7"}, {**WHOLE_PROVEN, "key": "seed7"}, "proven"),
        # Stamps of before: those of `verify` were of whole runs.
        ({"status": "differs", "how": "verify", "summary": "DIFFERS"}, STEPS_PROVEN, "differs"),
        ({"status": "differs", "how": "canary", "summary": "DIFFERS"}, STEPS_PROVEN, "sampled"),
    ],
)
def test_a_difference_stays_until_as_much_was_checked(old: dict[str, Any], new: dict[str, Any], status: str) -> None:
    kept = after(old, new)
    assert kept["status"] == status
    if kept["status"] == old.get("status") == "differs" and new is not STEPS_DIFFER:
        assert kept["later"] == new["summary"]
        assert new["summary"] in reproducibility(kept)
        assert old["summary"] in reproducibility(kept)


@pytest.mark.walk
def test_a_check_of_some_steps_does_not_replace_a_proof_of_whole_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT_FOR_DETERMINISM.items():  # otherwise the commands would start this process again
        monkeypatch.setenv(name, value)
    out = str(tmp_path / "d")
    assert main(["ml-train", "params.epochs=1", "params.model.hidden=[4]", "--deterministic", "--out", out]) == 0
    Store.open(out).stamp(WHOLE_PROVEN)
    assert main(["verify", out, "--steps", "2"]) == 0
    assert Store.open(out).manifest.stamp["summary"] == WHOLE_PROVEN["summary"]
    assert "holds a proof of a whole run" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new"), [(WHOLE_PROVEN, STEPS_PROVEN), (WHOLE_DIFFERS, STEPS_PROVEN)])
def test_only_a_proof_outlasts_a_shorter_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert outlasts(old, new) == (old is WHOLE_PROVEN)
    assert not outlasts(new, old)
    assert not outlasts(old, STEPS_DIFFER)


def test_the_first_steps_of_one_run_are_called_a_sample_in_old_directories_too(tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "d", accuracies({0: 0.9, 1: 0.8}), seeds=[0, 1], deterministic=True)
    store.stamp({"status": "proven", "how": "canary", "summary": "proven (canary of seed0: 2 processes, 5 steps)"})
    assert sweep.open(tmp_path / "d").report.reproducibility.startswith("sampled (canary of seed0")


@pytest.mark.parametrize(
    ("stamp", "said"),
    [
        (
            {"status": "proven", "how": "repeat", "extent": "whole"},
            "proven (all of b-1/seed9 was trained again: equal bits",
        ),
        (
            {"status": "sampled", "how": "canary", "extent": "steps"},
            "sampled (the first steps of b-1/seed9 were trained again: equal bits",
        ),
        (
            {"status": "proven", "how": "canary"},
            "sampled (the first steps of b-1/seed9 were trained again: equal bits",
        ),  # of old versions
        ({"status": "differs", "how": "repeat", "extent": "whole"}, "DIFFERS (evidence"),
        ({"status": "proven", "how": "repeat", "extent": "whole", "later": "DIFFERS (x)"}, "since then: DIFFERS (x)"),
    ],
)
def test_the_brief_report_has_the_proof_on_a_line_and_a_difference_whole(stamp: dict[str, str], said: str) -> None:
    word = "DIFFERS" if stamp["status"] == "differs" else stamp["status"]
    found = reproducibility_in_short({"key": "b-1/seed9", "summary": f"{word} (evidence {'and more ' * 20})", **stamp})
    assert said in found
    assert "…" not in found
    assert found.count("(") == found.count(")")
