"""Results that somebody sent are adopted, or named with what is wrong: nothing hangs, and no link leads out."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweep.cli.app import main

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
RUNS = "create table runs(run_uuid, start_time, experiment_id, status, lifecycle_stage);"
TABLES = (
    "create table experiments(experiment_id, name); create table params(run_uuid, key, value);"
    "create table metrics(run_uuid, key, value, step, timestamp, is_nan);"
)
ENDLESS = (
    "create view runs as with recursive t(n) as (select 1 union all select n + 1 from t) select n as run_uuid, "
    "1 as start_time, 1 as experiment_id, 'FINISHED' as status, 'active' as lifecycle_stage from t;"
)


@pytest.fixture(autouse=True)
def _in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What waits for ever fails here, and not the whole session."""

    def too_long(number: int, frame: object) -> None:
        raise AssertionError("it hangs")

    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _put(name: str, content: str | bytes | Callable[[Path], object]) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def _holes(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(20 << 30)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _mlruns() -> None:
    for seed, run in enumerate(("one", "two", "three")):
        _put(f"in/0/{run}/meta.yaml", f"status: 3\nstart_time: {seed}\n")
        _put(f"in/0/{run}/metrics/acc", "1 0.5 0\n")
        _put(f"in/0/{run}/params/seed", str(seed))
    _put("in/0/meta.yaml", "name: first\n")


def _lightning() -> None:
    for seed in range(3):
        _put(f"in/version_{seed}/metrics.csv", "epoch,acc\n1,0.5\n")
        _put(f"in/version_{seed}/hparams.yaml", f"seed: {seed}\n")


def _ray() -> None:
    for seed in range(3):
        _put(f"in/exp/t{seed}/params.json", f'{{"seed": {seed}}}')
        _put(f"in/exp/t{seed}/result.json", '{"acc": 0.5, "training_iteration": 1}\n')


def _files() -> None:
    for seed in range(3):
        _put(f"in/seed{seed}/m.csv", "epoch,acc\n1,0.5\n")
        _put(f"in/seed{seed}/m.log", "acc=0.5\n")


CSV, LOG = ["in/seed{seed}/m.csv"], ["in/seed{seed}/m.log", "--metrics", "acc={number}"]
EVENTS = ["in/seed{seed}", "--metrics", "tensorboard:."]
# One of three runs is spoiled: the other two, or all but what it says of itself, are adopted.
SPOILED = [
    (_files, CSV, "seed1/m.csv", os.mkfifo, 2), (_files, LOG, "seed1/m.log", os.mkfifo, 2),
    (_files, CSV, "seed1/m.csv", _endless, 2), (_files, LOG, "seed1/m.log", _endless, 2),
    (_files, CSV, "seed1/m.csv", _holes, 2), (_files, CSV, "seed1/m.csv", b"\xff\0,", 2),
    (_files, ["in/seed{seed}/{name}.csv"], "seed1/m.csv", _loop, 2),
    *((_files, ["in/seed{seed}/m.log"], "seed1/m.log", text * 100_000, 2) for text in ("{\n", "{\n},\n", "{},\n")),
    (_mlruns, ["in"], "0/two/meta.yaml", _loop, 3), (_mlruns, ["in"], "0/two/metrics/acc", "1\n", 2),
    (_mlruns, ["in"], "0/two/metrics/acc", b"\xff 0.5 0\0", 2),
    (_mlruns, ["in"], "0/two/metrics/acc", "1 much 0\n", 2), (_mlruns, ["in"], "0/two/params/note", os.mkfifo, 3),
    (_mlruns, ["in"], "0/two/meta.yaml", "status: [1]\nstart_time: {a: 1}\n", 3),
    (_mlruns, ["in"], "0/two/meta.yaml", "start_time: &a [*a]\n", 3), (_mlruns, ["in"], "0/two/meta.yaml", BOMB, 3),
    (_mlruns, ["in"], "0/two/meta.yaml", b"\xff", 3), (_mlruns, ["in"], "0/two/meta.yaml", os.mkfifo, 3),
    (_lightning, ["in"], "version_1/hparams.yaml", BOMB, 2),
    (_lightning, ["in"], "version_1/hparams.yaml", "[" * 9999, 2),
    (_lightning, ["in"], "version_1/hparams.yaml", "a: &a {b: *a}\n", 2),
    (_lightning, ["in"], "version_1/hparams.yaml", os.mkfifo, 2),
    (_ray, ["in"], "exp/t1/params.json", "{", 2), (_ray, ["in"], "exp/t1/params.json", "[1]", 2),
    (_ray, ["in"], "exp/t1/params.json", "[" * 99_999, 2), (_ray, ["in"], "exp/t1/params.json", _endless, 2),
    (_ray, ["in"], "exp/t1/result.json", "3\n", 2), (_ray, ["in"], "exp/t1/result.json", '{"a":' * 99_999, 2),
    (_ray, ["in"], "exp/t1/result.json", os.mkfifo, 2),
    (_ray, ["in"], "exp/t1/params.json", '{"seed": 1, "note": "\\ud800"}', 3),
    (_ray, ["in"], "exp/t1/params.json", '{"seed": 1, "\\ud800": 1}', 3),
    (_ray, ["in"], "exp/t1/params.json", '{"seed": 1, "lr": Infinity}', 3),
]  # fmt: skip


@pytest.mark.parametrize(("made", "words", "name", "content", "adopted"), SPOILED)
def test_what_cannot_be_read_is_named_and_the_rest_adopted(
    made: Callable[[], None], words: list[str], name: str, content: str | bytes | Callable[[Path], object],
    adopted: int, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    made()
    _put(f"in/{name}", content)
    assert main(["adopt", *words, "--out", "out", "--yes"]) == 0
    assert f"{adopted} new runs adopted" in capsys.readouterr().out


def test_a_pattern_that_finds_no_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sweep.metrics.printed._SECONDS", 1)
    _files()
    _put("in/seed1/m.log", "acc=" + "1" * 60)
    assert main(["adopt", LOG[0], "--metrics", "acc=(?P<acc>(?:[0-9]+)+)!", "--out", "out", "--yes"]) == 2
    assert "too many ways" in capsys.readouterr().err
    _put(f"in/{'-' * 240}", "acc=0.5")
    assert main(["adopt", "in/{a}-{b}-{c}-{d}-{e}-{f}-seed{seed}.log", "--out", "out", "--yes"]) == 2
    assert "too many ways" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_folder_whose_name_is_no_utf_8_is_adopted(capsys: pytest.CaptureFixture[str]) -> None:
    for variant in ("plain", os.fsdecode(b"caf\xe9")):
        for seed in range(2):
            _put(f"in/{variant}/seed{seed}/m.csv", "epoch,acc\n1,0.5\n")
    assert main(["adopt", "in/{variant}/seed{seed}/m.csv", "--out", "out", "--yes"]) == 0
    assert "4 new runs adopted" in capsys.readouterr().out
    assert main(["report", "out"]) == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.json", "[" * 99_999), ("t.jsonl", "1\n2\n"), ("t.csv", b"\xff\xfe,"), ("t.csv", _holes),
        ("t.parquet", b"PAR1" + bytes(40) + b"PAR1"), ("t.db", b"no database at all"), ("t.db", b""),
        ("seed0/events.out.tfevents.1", _holes), ("seed0/events.out.tfevents.1", os.mkfifo),
    ],
)  # fmt: skip
def test_what_is_none_of_what_it_is_called_is_refused(
    name: str, content: str | bytes | Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    _put(f"in/{name}", content)
    words = EVENTS if "tfevents" in name else [f"in/{name}"]
    assert main(["adopt", *words, "--out", "out", "--yes"]) == 2
    assert capsys.readouterr().err.startswith("sweep: in")
    assert not Path("out").exists()


@pytest.mark.parametrize("more", ["", RUNS, ENDLESS, f"{RUNS} insert into runs values ('a', 'x', 1, 7, 'active');"])
def test_a_database_that_is_not_mlflows_ends(more: str) -> None:
    Path("in").mkdir()
    with sqlite3.connect("in/mlflow.db") as data:
        data.executescript((TABLES if more else "create table x(y);") + more)
    assert main(["adopt", "in/mlflow.db", "--out", "out", "--yes"]) == 2


def test_a_link_in_a_trackers_folder_brings_nothing_in_from_outside(capsys: pytest.CaptureFixture[str]) -> None:
    _mlruns()
    Path("credentials").write_text("key of mine")
    _put("in/0/two/params/note", lambda path: path.symlink_to("../../../../credentials"))
    assert main(["adopt", "in", "--out", "out", "--yes"]) == 0
    assert "leads out" in capsys.readouterr().out
    assert not [path for path in Path("out").rglob("*") if path.is_file() and b"key of mine" in path.read_bytes()]
