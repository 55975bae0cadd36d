"""A program never trains twice to be read: what it left is read again, for all runs alike or for none."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from sweep.cli.app import main
from sweep.metrics import raw_output
from sweep.store import Member, Store

TRAIN = """
import sys, pathlib
seed, folder = int(sys.argv[1]), sys.argv[2]
with open("trained", "a") as out: out.write(f"{seed} ")
for e in (1, 2, 3):
    print(f"epoch {e} train_loss={1 / e:.3f} val_acc={0.5 + seed / 100 + e / 10:.3f}")
pathlib.Path(folder, "r.csv").write_text(f"epoch,test_acc\\n1,0.5\\n2,{0.7 + seed / 100}\\n")
pathlib.Path(folder, "other.csv").write_text("epoch,mae\\n1,2.5\\n")
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.py").write_text(TRAIN)


def sweep(*options: str, seeds: str = "1,2", words: tuple[str, ...] = ("t.py", "{seed}", "{dir}")) -> int:
    return main(["run", "--engine", "inline", "--seeds", seeds, "--out", "o", *options, "--", sys.executable, *words])


def trained() -> list[str]:
    return Path("trained").read_text().split()


def members() -> list[Member]:
    return list(Store.open("o").scan(verify=True))


def metrics(name: str) -> list[float | None]:
    return [m.record.metrics.get(name) if m.record else None for m in members()]


def test_the_first_run_without_metrics_stops_the_sweep_and_its_words_work_when_pasted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep(seeds="1-3") == 1
    assert trained() == ["1"]
    said = capsys.readouterr().err
    assert "stdout has" in said
    assert "train_loss=" in said
    pasted = [
        line.strip() for line in said.splitlines() if line.strip().startswith("sweep resume") and "val_acc" in line
    ]
    words = shlex.split(pasted[0])[1:]
    assert main([*words[:1], "--engine", "inline", *words[1:]]) == 0
    assert trained() == ["1", "2", "3"], "the first seed was read, not trained again"
    assert metrics("val_acc") == [0.81, 0.82, 0.83]
    assert [row["step"] for row in Store.open("o").history(members()[0])] == [1, 2, 3]


def test_other_metrics_are_read_for_all_runs_or_for_none() -> None:
    assert sweep("--metrics", "r.csv") == 0
    assert sweep("--metrics", "val_acc={number}", seeds="1-3") == 0
    assert trained() == ["1", "2", "3"]
    assert metrics("val_acc") == [0.81, 0.82, 0.83]
    assert metrics("test_acc") == [None, None, None]
    assert all(m.status == "ok" and not m.note for m in members())
    assert main(["collect", "o", "--metrics", "r.csv"]) == 0
    assert metrics("test_acc") == [0.71, 0.72, 0.73]
    assert trained() == ["1", "2", "3"]


def test_a_directory_goes_on_as_it_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("--metrics", "r.csv") == 0
    assert sweep(seeds="1-3") == 0
    assert metrics("test_acc") == [0.71, 0.72, 0.73]
    assert "read as before in this directory" in capsys.readouterr().err


def test_the_old_record_is_kept_and_the_event_is_logged() -> None:
    assert sweep("--metrics", "r.csv") == 0
    assert main(["collect", "o", "--metrics", "other.csv"]) == 0
    for member in members():
        assert member.folder is not None
        assert len(list(member.folder.glob("record.read-*.json"))) == 1
    assert '"collected"' in Path("o/events.jsonl").read_text()


def test_where_the_new_way_finds_nothing_nothing_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("--metrics", "r.csv") == 0
    before = Path("o/sweep.json").read_bytes()
    assert main(["collect", "o", "--metrics", "nowhere={number}"]) == 2
    assert "nothing was changed" in capsys.readouterr().err
    assert Path("o/sweep.json").read_bytes() == before
    assert metrics("test_acc") == [0.71, 0.72]


def test_a_pattern_that_finds_no_end_is_refused_and_nothing_is_changed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sweep.metrics.printed._SECONDS", 1)
    assert sweep("--metrics", "r.csv") == 0
    before = Path("o/sweep.json").read_bytes()
    assert main(["collect", "o", "--metrics", "(?P<val_acc>(?:.+)+)!"]) == 2
    assert "too many ways" in capsys.readouterr().err
    assert Path("o/sweep.json").read_bytes() == before


def test_a_rereading_that_died_between_two_runs_is_finished_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sweep("--metrics", "r.csv") == 0
    real = Store.reread

    def dies(store: Store, member: Member, *rest: object) -> None:
        if member.seed == 2:
            raise KeyboardInterrupt
        real(store, member, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Store, "reread", dies)
        assert main(["collect", "o", "--metrics", "other.csv"]) == 130
    assert metrics("mae") == [2.5, None]
    assert all(m.status == "ok" and not m.note for m in members())
    assert sweep() == 0
    assert metrics("mae") == [2.5, 2.5]
    assert trained() == ["1", "2"]


def test_runs_whose_output_was_too_long_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(raw_output, "BEGINNING", 64)
    monkeypatch.setattr(raw_output, "END", 32)
    Path("long.py").write_text("import sys\nfor _ in range(99): print('x' * 50)\nprint('{\"acc\": 0.5}')\n")
    assert sweep(words=("long.py", "{seed}")) == 0
    record = members()[0].record
    assert record is not None
    assert any("too long to be kept" in note for note in record.notes)
    assert main(["collect", "o", "--metrics", "acc.: {number}"]) == 2
    said = capsys.readouterr().err
    assert "seed1" in said
    assert "over the limit" in said
