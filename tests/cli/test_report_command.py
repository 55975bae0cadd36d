"""`sweep report`: one directory or several, in every format, as the options ask."""

from __future__ import annotations

import json

import pytest
from finished import normal, sweep_of

from sweep.cli.app import main


@pytest.fixture
def two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name, mean in (("a", 0.9), ("b", 0.8)):
        sweep_of(f"runs/{name}", lambda s, m=mean: {"metrics": {"test/accuracy": normal(s.seed, m), "test/nll": 0.3}})
    return ["runs/a", "runs/b"]


def test_several_directories_share_a_table_and_are_told_apart(two, capsys):
    assert main(["report", *two, "--format", "md", "--metric", "test/accuracy", "--percent"]) == 0
    lines = capsys.readouterr().out.replace("**", "").splitlines()
    assert lines[0] == "|  | test/accuracy (%) ± 95 % CI | n | failed |"
    assert lines[2].startswith("| a | 9")
    assert lines[3].startswith("| b | 7") or lines[3].startswith("| b | 8")


def test_json_of_several_is_a_list(two, capsys):
    assert main(["report", *two, "--json"]) == 0
    assert [one["directory"] for one in json.loads(capsys.readouterr().out)] == two
    assert main(["report", two[0], "--json", "--level", "0.9"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["level"] == 0.9


def test_text_of_several_follows_one_another(two, capsys):
    assert main(["report", *two]) == 0
    out = capsys.readouterr().out
    assert out.count("made-up\n\n") == 2
    assert not out.endswith("\n\n")


def test_latex_can_show_the_sd(two, capsys):
    assert main(["report", *two, "--format", "latex", "--spread", "sd"]) == 0
    out = capsys.readouterr().out
    assert r"$\pm$ sd" in out
    assert r"\toprule" in out


def test_a_metric_nobody_reports_is_refused(two, capsys):
    assert main(["report", *two, "--format", "md", "--metric", "x"]) == 2
    assert "no run reports 'x'\n  name a reported metric: test/accuracy, test/nll" in capsys.readouterr().err
