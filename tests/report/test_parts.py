"""A part of a report that cannot be made is named, and costs neither the rest nor the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finished import of_every_kind, sweep_of

from sweep import report
from sweep.cli.app import main
from sweep.report.html import page
from sweep.store import Store

PARTS = {
    "medians": "sweep.analysis.overview.medians",
    "spread": "sweep.analysis.overview.spreads",
    "tasks": "sweep.analysis.overview.across",
    "ensemble": "sweep.analysis.overview.together",
    "environments": "sweep.analysis.findings.environments",
    "shared files": "sweep.analysis.overview.shared_by",
    "failures": "sweep.analysis.overview._cause",
    "warnings": "sweep.analysis.findings.warnings",
    "next command": "sweep.report.worded.next_commands",
}


class Odd(Exception):
    """No exception that anybody foresaw."""


def broken(*_: Any, **__: Any) -> Any:
    raise Odd("no such luck")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return sweep_of(tmp_path / "d", of_every_kind, seeds=range(6), tasks=("a", "b"))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.usefixtures("quiet")
def test_a_part_that_fails_is_a_note_and_the_rest_stands(
    part: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = report.build(store)
    monkeypatch.setattr(PARTS[part], broken)
    found = report.build(store)
    assert part in found.notes[0]
    assert "Odd: no such luck" in found.notes[0]
    assert (found.headline, found.rows, found.counts) == (whole.headline, whole.rows, whole.counts)
    assert "no such luck" in report.text(found)


@pytest.mark.usefixtures("quiet")
def test_a_page_names_the_part_that_failed_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PARTS["medians"], broken)
    assert "no such luck" in page(store)


@pytest.mark.usefixtures("quiet")
def test_histories_that_cannot_be_read_cost_the_page_its_curves_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.analysis.histories.read", broken)
    told = page(store)
    assert "the histories" in told
    assert "no such luck" in told
    assert "of each seed" in told


@pytest.mark.usefixtures("quiet")
def test_one_metric_that_cannot_be_summarised_costs_no_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.analysis import overview as assemble

    whole = assemble._rows

    def rows(found: Any, names: Any, *rest: Any, **more: Any) -> Any:
        return broken() if "test/nll" in names else whole(found, names, *rest, **more)

    monkeypatch.setattr(assemble, "_rows", rows)
    found = report.build(store)
    assert found.metrics == ("test/accuracy", "odd/metric")
    assert "test/nll" in found.notes[0]


@pytest.mark.usefixtures("quiet")
def test_a_block_of_the_text_that_fails_is_a_note(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.report import overview

    monkeypatch.setattr(overview, "causes", broken)
    told = report.text(report.build(store))
    assert "no such luck" in told
    assert "test/accuracy" in told


@pytest.mark.usefixtures("quiet")
def test_the_answer_stays_and_debug_shows_where(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PARTS["medians"], broken)
    assert main(["report", str(store.path), "--json"]) == 0
    plain = capsys.readouterr()
    assert json.loads(plain.out)["medians"] == []
    assert "Traceback" not in plain.err
    assert main(["--debug", "report", str(store.path), "--json"]) == 0
    debugged = capsys.readouterr()
    assert "in broken" in debugged.err
    assert json.loads(debugged.out)["medians"] == []


def test_a_test_sees_what_a_report_would_catch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PARTS["medians"], broken)
    with pytest.raises(Odd):
        report.build(store)
