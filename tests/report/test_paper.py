"""Tables for papers: rounded once, labelled, and inert whatever the metrics are called."""

from __future__ import annotations

import re

import pytest
from finished import accuracies, failure, normal, sweep_of

from sweep import report
from sweep.errors import StatisticsError
from sweep.number import around
from sweep.stats import summarise

SEEDS = range(10)


def two(spec):
    shift = {"good-000000": 0.05, "bad-000001": 0.0}[spec.variant]
    wobble = 0.001 * (-1) ** spec.seed * (1 if shift else 2)
    return {"metrics": {"test/accuracy": normal(spec.seed) + shift + wobble, "test/nll": normal(spec.seed, 0.3, 0.05)}}


@pytest.fixture
def compared(tmp_path):
    return report.build(sweep_of(tmp_path / "d", two, seeds=SEEDS, variants=["good-000000", "bad-000001"]))


def test_a_row_is_rounded_as_papers_do(compared):
    row = compared.primary_rows[0]
    line = next(line for line in report.markdown(compared).splitlines() if line.startswith("| bad"))
    assert around(row.mean, row.half_width) in line
    assert line.endswith("| 10 | 0 of 10 |")
    sd = next(line for line in report.markdown(compared, spread="sd").splitlines() if line.startswith("| bad"))
    assert around(row.mean, row.sd) in sd


def test_the_header_says_ci_or_sd(compared):
    assert "test/accuracy ± 95 % CI" in report.markdown(compared)
    assert "test/accuracy ± sd" in report.markdown(compared, spread="sd")
    assert "CI" not in report.markdown(compared, spread="sd").splitlines()[0]


def test_percent_is_for_shares_only(compared):
    text = report.markdown(compared, in_percent=True)
    row = next(r for r in compared.primary_rows if r.label == "good")
    assert "test/accuracy (%) ± 95 % CI" in text
    assert "test/nll ± 95 % CI" in text
    assert around(row.mean, row.half_width, percent=True) in text


def test_bold_is_what_holm_does_not_separate(compared):
    text = report.markdown(compared)
    assert re.search(r"\| good \| \*\*0\.\d+ ± 0\.\d+\*\* \|", text)
    assert "| bad | **" not in text
    assert "not separated from the best by Holm" in text
    assert r"good & \textbf{0." in report.latex(compared)


def test_several_directories_share_a_table(tmp_path):
    made = [
        report.build(sweep_of(tmp_path / name, accuracies({s: normal(s, m) for s in SEEDS}), seeds=SEEDS, name=name))
        for name, m in (("first", 0.9), ("second", 0.8))
    ]
    lines = report.markdown(*made).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| first", "| second"]
    assert "**" not in "\n".join(lines)


def test_failures_and_missing_values_have_their_place(tmp_path):
    def outcome(spec):
        if spec.seed == 0:
            return {"failure": failure()}
        return {
            "metrics": {"test/accuracy": normal(spec.seed), **({"test/f1": 0.5 + spec.seed} if spec.seed < 4 else {})}
        }

    text = report.markdown(report.build(sweep_of(tmp_path / "d", outcome, seeds=range(5))))
    assert "| 4 | 1 of 5 |" in text
    assert "(n = 3)" in text
    assert "Means are over finished seeds only" in text


def test_one_seed_has_no_half_width(tmp_path):
    text = report.markdown(report.build(sweep_of(tmp_path / "d", accuracies({0: 0.9}), seeds=[0])))
    assert "| 0.9000 | 1 | 0 of 1 |" in text


def test_the_footnote_names_method_rule_and_stamp(compared):
    text = report.markdown(compared)
    assert "Student t interval over seeds, this split and test set" in text
    assert "result: final epoch 3" in text
    assert "bit-exact: not checked" in text
    assert "exploratory: test/nll" in text


HOSTILE = [
    "test/a|b",
    "test/<script>",
    "test/{{7*7}}",
    "test/`x`",
    r"test/\input{/etc/passwd}",
    "test/50%_$x$^~#&",
    "test/a\nb",
]


def test_names_are_inert(tmp_path):
    store = sweep_of(tmp_path / "d", lambda s: {"metrics": {name: normal(s.seed) for name in HOSTILE}},
                     config={"primary": HOSTILE[0]})  # fmt: skip
    found = report.build(store)
    markdown, latex = report.markdown(found), report.latex(found)
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(HOSTILE) + 4}
    assert "<script>" not in markdown
    header = next(line for line in latex.splitlines() if "script" in line)
    assert r"\input" not in latex
    assert len(re.findall(r"(?<!\\)&", header)) == len(HOSTILE) + 2
    assert not re.search(r"(?<!\\)[%#_]", header)


def test_braces_balance_in_latex(compared):
    text = re.sub(r"\\[{}]", "", report.latex(compared, in_percent=True))
    assert text.count("{") == text.count("}")
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_an_unknown_metric_is_refused(compared):
    with pytest.raises(StatisticsError, match="no run reports 'test/acc'"):
        report.markdown(compared, metrics=["test/acc"])


def test_rows_agree_with_the_statistics(compared):
    values = [normal(s) + 0.05 + 0.001 * (-1) ** s for s in SEEDS]
    row = next(r for r in compared.primary_rows if r.label == "good")
    assert row.low == summarise(values).low


def test_tasks_are_columns_and_a_winner_is_bold_where_the_test_tells_it(tmp_path):
    """In the first task "good" wins, in the second nothing is told apart, and in the third a run failed."""

    def outcome(spec):
        if spec.task == "third" and spec.variant == "bad-000001" and spec.seed == 0:
            return {"failure": failure()}
        shift = 0.05 * (spec.variant == "good-000000") * (spec.task == "first")
        own = 1e-3 * normal(spec.seed + 100 * len(spec.variant) + 7 * len(spec.task), 0, 1)
        return {"metrics": {"test/accuracy": normal(spec.seed) + shift + own, "test/nll": 0.3 + own}}

    tasks = ["first", "second", "third"]
    store = sweep_of(tmp_path / "d", outcome, seeds=SEEDS, variants=["good-000000", "bad-000001"], tasks=tasks)
    found = report.build(store)
    header, _, bad, good, *_ = report.markdown(found, columns="tasks").splitlines()
    assert header == "| test/accuracy ± 95 % CI | first | second | third | n | failed |"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (good, bad)]
    assert [line[0] for line in cells] == ["good", "bad"]
    assert [cell.startswith("**") for cell in cells[0]] == [False, True, False, False, False, False]
    assert not any(cell.startswith("**") for cell in cells[1])
    assert [line[4:] for line in cells] == [["10", "0 of 30"], ["10", "1 of 30"]]
    assert cells[1][3].endswith("(n = 9)")
    assert sum("not separated" in line for line in report.markdown(found).splitlines()) == 1
    two = report.markdown(found, columns="tasks", metrics=["test/nll", "test/accuracy"]).splitlines()
    assert [line.split("|")[1].strip() for line in two[2:8]] == [
        "test/nll ± 95 % CI", "bad", "good", "test/accuracy ± 95 % CI", "bad", "good",
    ]  # fmt: skip


def test_a_table_for_latex_has_its_caption_and_its_label(compared):
    text = report.latex(compared)
    assert r"\caption{made-up: mean over seeds}" in text
    assert r"\label{tab:made-up}" in text
