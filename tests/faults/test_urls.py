"""Run directories at URLs, through the real fsspec: what holds there, and what arrives when copying fails."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import kit
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import sweep
from sweep.cli.app import main
from sweep.config import load
from sweep.engine import inline
from sweep.errors import StoreError
from sweep.launch import Launch, Said
from sweep.prepare import prepare
from sweep.store import Store
from sweep.store.remote import Remote, located

# Where a run is trained has no effect here, and forking takes long.
pytestmark = pytest.mark.usefixtures("unforked")

MEMORY = fsspec.filesystem("memory")
URL = "memory://bucket/runs/steps"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing in memory, a cache and a working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    another_machine(monkeypatch, "here")
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]
    yield
    MEMORY.store.clear()


def another_machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Nothing of what was copied before is at hand."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.abspath(f"cache-{name}"))


def train(seeds: str, out: str | Path = URL, **more: Any) -> sweep.Results:
    config = {"name": "steps", "train": "victims:steps", "params": {"epochs": 2}}
    return sweep.run(config, seeds=seeds, out=out, engine="inline", **more)


def names() -> list[str]:
    return sorted(path.removeprefix("/bucket/runs/steps/") for path in MEMORY.store)


def copied(folder: Path) -> Path:
    """All that is at the URL, fetched by fsspec alone."""
    MEMORY.get(URL, str(folder), recursive=True)
    return folder


def test_what_is_at_the_url_is_the_directory(tmp_path: Path) -> None:
    results = train("1-3")
    train("1-3", tmp_path / "local")
    assert kit.whole(copied(tmp_path / "copy"), [1, 2, 3])
    assert kit.tree(tmp_path / "copy") == kit.tree(tmp_path / "local")
    assert not [name for name in names() if "checkpoint-" in name or name.startswith(("lock", "launch-", "stop-"))]
    assert results.report.directory == URL
    assert f"directory  {URL}" in str(results)


def test_another_machine_reads_it_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train("1-2")
    another_machine(monkeypatch, "there")
    assert str(sweep.open(URL)) == str(first)
    tally = tmp_path / "tally"
    tally.mkdir()
    assert train("1-3", on_event=None).frame["status"].tolist() == ["ok"] * 3
    another_machine(monkeypatch, "third")
    assert sweep.open(URL).frame["seed"].tolist() == [1, 2, 3]
    nonces = {name.split("/")[2] for name in names() if "attempt-" in name}
    assert len(nonces) == 3  # none was trained a second time


def test_the_commands_take_a_url(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.yaml").write_text("name: steps\ntrain: victims:steps\n")
    assert main(["run", "c.yaml", "--seeds", "1,2", "--engine", "inline", "--out", URL]) == 0
    assert f"sweep ensemble {URL}" in capsys.readouterr().out
    another_machine(monkeypatch, "reader")
    for words in (["status", URL], ["report", URL], ["ensemble", URL], ["watch", URL]):
        assert main(words) == 0, words
        assert "memory:/bucket" not in capsys.readouterr().out  # a path would have made one slash of two
    assert main(["export", URL, "--to", "csv"]) == 0
    assert Path("steps-csv/runs.csv").exists()
    assert sorted(os.listdir()) == ["c.yaml", "cache-here", "cache-reader", "steps-csv"]


def test_a_file_url_is_the_directory_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = (tmp_path / "a b" / "runs").as_uri().replace("%20", " ")
    assert located(url) == (tmp_path / "a b" / "runs", None)
    train("1-2", url)
    kit.whole(tmp_path / "a b" / "runs", [1, 2])
    assert sweep.open(url).frame["seed"].tolist() == [1, 2]
    assert main(["report", url]) == 0
    assert f"directory  {tmp_path}" in capsys.readouterr().out
    with fsspec.open(f"{url}/sweep.json") as stream:
        assert stream.read() == (tmp_path / "a b" / "runs" / "sweep.json").read_bytes()
    assert not (tmp_path / "cache-here").exists()


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("", "is empty"),
        ("nowhere://x/y", "no file system for this URL"),
        ("s3://key:secret@bucket/x", "the URL contains a password"),
    ],
)
def test_what_is_no_place_is_refused_and_nothing_is_written(
    out: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yaml").write_text("name: steps\ntrain: victims:steps\n")
    before = sorted(os.listdir())
    for words in (["run", "c.yaml", "--engine", "inline", "--out", out], ["ml-train", "c.yaml", "--out", out]):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "secret" not in error
    with pytest.raises(StoreError, match=said):
        train("1", out)
    assert sorted(os.listdir()) == before


def test_single_runs_are_not_for_urls(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text("name: steps\ntrain: victims:steps\n")
    assert main(["ml-train", "c.yaml", "--seed", "3", "--out", URL]) == 2
    assert f"sweep run --seeds 3 --out {URL}" in capsys.readouterr().err
    assert names() == []


def test_what_is_refused_before_work_leaves_nothing_at_the_url() -> None:
    Path("c.yaml").write_text("name: steps\ntrain: victims:steps\n")
    assert main(["run", "c.yaml", "--out", URL, "--address", "127.0.0.1:9"]) == 2
    assert names() == []
    assert not (located(URL)[0] / "sweep.json").exists()


def test_a_url_that_holds_nothing_is_no_sweep() -> None:
    with pytest.raises(StoreError, match=r"there is no sweep here.*"):
        sweep.open("memory://empty")


WRITES = ("put_file", "rm_file")


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int, error: Callable[[], BaseException]) -> list[str]:
    """From the `at`-th write on, the network is gone; returns the writes that were asked for."""
    seen: list[str] = []
    for name in WRITES:
        real = getattr(MemoryFileSystem, name)

        def call(self: Any, *args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            seen.append(_name)
            if len(seen) > at:
                raise error()
            return _real(self, *args, **kwargs)

        monkeypatch.setattr(MemoryFileSystem, name, call)
    return seen


class Killed(BaseException):
    """The launch ends here and now, as its machine might."""


def _killed() -> BaseException:
    return Killed()


def _away() -> BaseException:
    return ConnectionError("the network is away")


@pytest.mark.parametrize(
    ("error", "same"),
    [
        pytest.param(_killed, False, id="killed, another machine"),
        pytest.param(_away, True, id="away, the same machine"),
        pytest.param(_killed, True, id="killed, the same machine", marks=pytest.mark.walk),
        pytest.param(_away, False, id="away, another machine", marks=pytest.mark.walk),
    ],
)
def test_at_every_write_a_reader_finds_whole_runs_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException], same: bool
) -> None:
    train("1-2", tmp_path / "calm")
    want = kit.tree(tmp_path / "calm")
    with monkeypatch.context() as patch:
        calls = interrupted(patch, 10**9, _away)
        train("1-2")
    assert set(calls) == {"put_file"}
    for at in range(len(calls)):
        MEMORY.store.clear()
        another_machine(monkeypatch, f"first{at}")
        with monkeypatch.context() as patch:
            interrupted(patch, at, error)
            with pytest.raises((Killed, StoreError)):
                train("1-2")
        if "/bucket/runs/steps/sweep.json" in MEMORY.store:
            with monkeypatch.context() as patch:
                another_machine(patch, f"reader{at}")
                kit.credible(Store.open(URL).path)
        if not same:
            another_machine(monkeypatch, f"second{at}")
        for path in [path for path in MEMORY.store if path.endswith("/attempt.json")]:
            # It names this process, which a test cannot kill.
            MEMORY.pipe_file(path, json.dumps({**json.loads(MEMORY.cat_file(path)), "pid": 0}).encode())
        train("1-2")
        assert kit.tree(copied(tmp_path / f"copy{at}")) == want, at


def test_without_a_network_training_goes_on_and_the_exit_code_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yaml").write_text("name: steps\ntrain: victims:steps\nparams: {epochs: 2}\n")
    words = ["run", "c.yaml", "--seeds", "1-3", "--engine", "inline", "--out", URL]
    with monkeypatch.context() as patch:
        interrupted(patch, 1, _away)  # the plan was written
        assert main(words) == 1
    out, err = capsys.readouterr()
    assert "3 planned = 3 ok" in out
    assert err.count("training continues") == 1
    assert "not everything was copied" in err
    assert main(words) == 0
    assert "nothing to train" in capsys.readouterr().err
    another_machine(monkeypatch, "there")
    assert sweep.open(URL).frame["status"].tolist() == ["ok"] * 3


def test_a_second_command_of_this_machine_touches_nothing_of_the_first() -> None:
    train("1")
    mirror = located(URL)[0]
    (mirror / "sweep.json").write_text("of the launch that is at work")
    with Store.lock(mirror), pytest.raises(StoreError, match=r"cannot be read|using this directory"):
        train("1-2")
    assert (mirror / "sweep.json").read_text() == "of the launch that is at work"


def test_a_file_system_with_folders_to_be_made(tmp_path: Path) -> None:
    """As behind sftp: nothing can be put where no folder is."""
    (tmp_path / "far").mkdir()
    remote = Remote("far://runs/steps", DirFileSystem(str(tmp_path / "far" / "runs" / "steps"), LocalFileSystem()))
    config = load(None, name="steps", train="victims:steps", params={"epochs": 2}, seeds=[1, 2])
    events = list(Launch(prepare(config), remote.mirror, inline, own_process=False, remote=remote))
    said = [event.text for event in events if isinstance(event, Said)]
    assert not [text for text in said if "files that they share" not in text]  # these are left out on a busy machine
    assert kit.whole(tmp_path / "far" / "runs" / "steps", [1, 2])
    assert kit.tree(tmp_path / "far" / "runs" / "steps") == kit.tree(remote.mirror)


def test_of_two_records_of_one_run_the_first_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing keeps two launches from one URL: a run that both trained has one record."""
    train("1")
    first = MEMORY.cat_file("/bucket/runs/steps/members/seed1/record.json")
    kept = dict(MEMORY.store)
    another_machine(monkeypatch, "there")
    MEMORY.store.clear()

    def meanwhile(event: Any) -> None:
        if type(event).__name__ == "Begun":  # the other one records while this one trains
            MEMORY.store.update({k: v for k, v in kept.items() if "seed1" in k})

    results = train("1", on_event=meanwhile)
    assert MEMORY.cat_file("/bucket/runs/steps/members/seed1/record.json") == first
    assert results.frame["status"].tolist() == ["ok"]
    assert (results.path / "members" / "seed1" / "record.json").read_bytes() == first


def test_a_failure_that_is_tried_again_leaves_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"name": "ends", "train": "victims:fails_once", "params": {"mark": str(tmp_path / "mark")}}
    assert sweep.run(config, seeds=[1], out=URL, engine="inline").frame["status"].tolist() == ["failed"]
    again = sweep.run(config, seeds=[1], out=URL, engine="inline", retry_failed=True)
    assert again.frame["status"].tolist() == ["ok"]
    another_machine(monkeypatch, "there")
    member = next(sweep.open(URL).store.scan(verify=True))
    assert (member.status, member.attempts, member.retried) == ("ok", 2, 1)


def test_what_was_removed_from_the_url_is_not_believed_from_the_cache(capsys: pytest.CaptureFixture[str]) -> None:
    train("1-2")
    MEMORY.store.clear()
    events: list[Any] = []
    results = train("3", on_event=events.append)
    assert results.frame["seed"].tolist() == [3]
    assert any("no longer holds a sweep" in getattr(event, "text", "") for event in events) or any(
        ".old-" in name for name in os.listdir("cache-here/sweep")
    )


@pytest.mark.parametrize("name", ["members/../../../escaped", "members/seed1/../../../../escaped"])
def test_names_that_lead_out_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    train("1")
    whole = MEMORY.store["/bucket/runs/steps/sweep.json"]
    MEMORY.store[f"/bucket/runs/steps/{name}"] = whole
    another_machine(monkeypatch, "there")
    with pytest.raises(StoreError, match="leads out"):
        sweep.open(URL)
    assert not [path for path in tmp_path.rglob("*") if path.name == "escaped"]


def test_a_torn_or_altered_object_never_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    train("1-3")
    record = "/bucket/runs/steps/members/seed1/record.json"
    MEMORY.pipe_file(record, MEMORY.cat_file(record)[:-20])
    model = next(path for path in MEMORY.store if "seed2" in path and path.endswith("model.safetensors"))
    MEMORY.pipe_file(model, MEMORY.cat_file(model)[:-1])
    another_machine(monkeypatch, "there")
    assert [m.status for m in sweep.open(URL).store.scan()] == ["lost", "lost", "ok"]
    assert train("1-3").frame["status"].tolist() == ["ok"] * 3
    another_machine(monkeypatch, "third")
    assert [m.status for m in sweep.open(URL).store.scan(verify=True)] == ["ok"] * 3
