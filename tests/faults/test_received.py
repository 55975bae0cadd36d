"""A directory that somebody sent, or that is not ours, is read, never obeyed: nothing runs, leaves it, or is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import accuracies, failure, sweep_of
from predicted import read

import sweep
from sweep.cli.app import main
from sweep.ensemble import rebuild
from sweep.ensemble.predict import predict_file
from sweep.errors import EnsembleError, IntegrityError, StoreError
from sweep.metrics import Left, NotFound, metrics, raw_output
from sweep.plan import RunSpec, content_id
from sweep.report.html import page
from sweep.store import Store, atomic, record
from sweep.store.owner import this_process

SHADOWED = ("torch", "numpy", "pandas", "scipy", "sklearn", "ray", "safetensors", "json")


def resealed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a sealed JSON file and seal it again, as a stranger would."""
    body = json.loads(path.read_text())
    body.pop("checksum")
    change(body)
    path.write_text(json.dumps({**body, "checksum": content_id(body)}))


@pytest.fixture
def finished(tmp_path: Path) -> Store:
    return sweep_of(tmp_path / "runs", accuracies({0: 0.9, 1: 0.8, 2: 0.85}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sent") / "d"
    config = {
        "recipe": "sweep.train.recipes:classifier",
        "params": {"data": {"name": "digits", "limit": 200}, "epochs": 1},
    }
    sweep.run(config, seeds=[1, 2], out=out, engine="inline", on_event=lambda event: None)
    return out


@pytest.mark.parametrize(
    "words",
    [
        ["report", "."],
        ["reproduce", ".", "--seed", "1"],
        ["predict", ".", "{inputs}", "--out", "{out}"],
        ["ensemble", ".", "--export", "{program}"],
    ],
)
def test_no_command_imports_from_the_directory_it_stands_in(trained: Path, tmp_path: Path, words: list[str]) -> None:
    marker = tmp_path / "ran"
    for name in SHADOWED:
        (trained / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()\nraise ImportError('not yours')\n")
    np.savez(tmp_path / "in.npz", inputs=np.zeros((2, 8, 8)))
    places = {"inputs": tmp_path / "in.npz", "out": tmp_path / "out.npz", "program": tmp_path / "e.pt2"}
    code = "import sys; from sweep.cli import sweep; sweep()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *(word.format(**places) for word in words)],
        cwd=trained, env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not marker.exists()


def test_settings_of_matplotlib_in_the_working_folder_change_no_picture(finished: Store, tmp_path: Path) -> None:
    """LaTeX would read the words of a picture, and may read and write other files."""
    (finished.path / "matplotlibrc").write_text(
        "text.usetex: True\ntext.latex.preamble: \\input{/etc/passwd}\nfont.family: fantasy\nlines.marker: x\n"
    )
    words = [sys.executable, "-P", "-m", "sweep.cli", "report", ".", "--html", "../page.html"]
    path = str(Path(sweep.__file__).parents[1])
    subprocess.run(words, cwd=finished.path, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True)
    plain = page(Store.open(finished.path)).replace(str(finished.path), ".")
    assert "<svg" in plain
    assert (tmp_path / "page.html").read_text().count("<svg") == plain.count("<svg")
    pictures = re.compile(r"<svg.*?</svg>", re.DOTALL)
    assert pictures.findall((tmp_path / "page.html").read_text()) == pictures.findall(plain)


def test_a_directory_that_holds_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    theirs = ["thesis.tex", ".tmp-01234567", "launch-plan.txt", "stop-words.txt", "other/checkpoint-000000001.pt"]
    for name in theirs:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    with pytest.raises(StoreError, match="holds other files") as refused:
        Store.claim(tmp_path)
    assert "--out" in refused.value.hint
    assert [(tmp_path / name).read_text() for name in theirs] == theirs
    Store.claim(tmp_path / "new" / "one")  # the way out
    (tmp_path / "empty").mkdir()
    Store.claim(tmp_path / "empty")


def test_a_sweep_in_or_around_another_is_refused(finished: Store) -> None:
    with pytest.raises(StoreError, match="inside the sweep"):
        Store.claim(finished.path / "members" / "new")
    with pytest.raises(StoreError, match="holds other files"):
        Store.claim(finished.path.parent)
    Store.claim(finished.path)  # the sweep itself goes on


@pytest.mark.parametrize("name", ["lock", "events.jsonl", "sweep.json.lock"])
def test_a_link_in_the_place_of_a_file_of_ours_is_not_written_through(
    finished: Store, tmp_path: Path, name: str
) -> None:
    victim = tmp_path / "profile"
    victim.write_text("mine\n")
    (finished.path / name).unlink(missing_ok=True)
    (finished.path / name).symlink_to(victim)

    def write() -> None:
        if name == "lock":
            with Store.lock(finished.path):
                pass
        elif name == "events.jsonl":
            finished.event(kind="lost", key="x")
        else:
            finished.stamp({})

    with pytest.raises(StoreError, match="is a link"):
        write()
    assert victim.read_text() == "mine\n"


@pytest.mark.parametrize("name", ["seed1", "lr-1"])
def test_a_folder_behind_a_link_is_not_cleaned(tmp_path: Path, name: str) -> None:
    """What is in it may be another sweep's, at work."""
    variants = ("lr-1",) if name == "lr-1" else ("",)
    sent = sweep_of(tmp_path / "sent", accuracies({0: 0.9, 1: 0.8}), variants=variants)
    (sent.path / "members" / name).rename(tmp_path / "theirs")
    (sent.path / "members" / name).symlink_to(tmp_path / "theirs")
    for folder in (tmp_path / "theirs").glob("**/attempt-*"):
        (folder / "checkpoint-000000001.pt").write_text("to go on from")
        (folder.parent / ".tmp-01234567").write_text("being written")
    before = sorted((tmp_path / "theirs").rglob("*"))
    sent.clean()
    assert sorted((tmp_path / "theirs").rglob("*")) == before
    (sent.path / "members" / name).unlink()  # the control: where it is no link, they are taken away
    (tmp_path / "theirs").rename(sent.path / "members" / name)
    sent.clean()
    assert not [*sent.path.rglob("checkpoint-*"), *sent.path.rglob(".tmp-*")]


def test_a_lock_that_is_no_lock_of_ours_is_somebodys_file(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("numpy==2.4.6\n")
    with pytest.raises(StoreError, match="holds other files"):
        Store.claim(tmp_path)
    assert (tmp_path / "lock").read_text() == "numpy==2.4.6\n"
    whole = atomic.dumps(this_process().to_json())
    for left in ("", whole[:4], whole[:40], whole):  # of a launch that ended before it had planned anything
        (tmp_path / "lock").write_text(left)
        Store.claim(tmp_path)


def test_runs_behind_a_link_are_refused_and_not_renamed(finished: Store, tmp_path: Path) -> None:
    moved = tmp_path / "other-disk"
    (finished.path / "members").rename(moved)
    (finished.path / "members").symlink_to(moved)
    before = sorted(str(path) for path in moved.rglob("*"))
    with pytest.raises(StoreError, match="is a link"):
        Store.open(finished.path)
    assert main(["report", str(finished.path)]) == 2
    assert sorted(str(path) for path in moved.rglob("*")) == before


@pytest.mark.parametrize("attempt", ["x/../../..", "../../elsewhere", "", "ABCDEF01", 7, "0123456"])
def test_an_attempt_that_is_no_name_of_ours_is_damage(finished: Store, attempt: Any) -> None:
    path = finished.path / "members" / "seed0" / "record.json"
    resealed(path, lambda body: body.update(attempt=attempt))
    with pytest.raises(record.Damaged):
        record.decode(path.read_bytes())


def test_a_failed_record_moves_nothing_outside_its_run(tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "runs", lambda spec: {"failure": failure()}, seeds=[0])
    resealed(store.path / "members" / "seed0" / "record.json", lambda body: body.update(attempt="x/../../.."))
    (member,) = store.scan()
    assert member.status == "lost"
    store.set_aside(member)
    assert [path.name for path in store.path.parent.iterdir()] == ["runs"]
    assert list((store.path / "members" / "seed0").glob("record.corrupt-*"))


def test_a_failed_record_is_not_moved_through_a_link(tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "runs", lambda spec: {"failure": failure()}, seeds=[0])
    (member,) = store.scan()
    assert member.folder is not None
    member.folder.rename(tmp_path / "theirs")
    member.folder.symlink_to(tmp_path / "theirs")
    before = sorted((tmp_path / "theirs").iterdir())
    with pytest.raises(StoreError, match="leads out"):
        store.set_aside(member)
    assert sorted((tmp_path / "theirs").iterdir()) == before


def test_a_record_names_files_beside_itself_only(finished: Store) -> None:
    path = finished.path / "members" / "seed0" / "record.json"
    resealed(path, lambda body: body["artifacts"].update({"../../../secret": {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(record.Damaged, match="outside its attempt"):
        record.decode(path.read_bytes())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: b["experiment"].update(repeats=10**9), "at most"),
        (lambda b: b.update(seeds=list(range(3_000_00))), "at most"),
        (lambda b: b.update(seeds=[-1]), "seed"),
        (lambda b: b.update(seeds=[1.5]), "seed"),
        (lambda b: b.update(seeds=[1, 1]), "twice"),
        (lambda b: b.update(config=[]), "table"),
        (lambda b: b.update(name=3), "text"),
        (lambda b: b["experiment"]["cells"][0].update(variant="../../x"), "not one that sweep gives"),
        (lambda b: b["experiment"]["cells"][0].update(variant="-rf"), "not one that sweep gives"),
        (lambda b: b["experiment"]["cells"][0].update(params=None), "params"),
        (lambda b: b["experiment"].update(cells=7), "cannot be read"),
        (lambda b: b.update(experiment=[1]), "table"),
        (lambda b: b["experiment"].update(target="x"), "target"),
    ],
)
def test_a_sealed_plan_that_cannot_be_ours_is_refused(finished: Store, change: Any, why: str) -> None:
    resealed(finished.path / "sweep.json", change)
    with pytest.raises(StoreError, match=why):
        Store.open(finished.path)
    assert main(["status", str(finished.path)]) == 2


@pytest.mark.parametrize("name", ["sweep.json", "members/seed0/record.json"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(finished: Store, name: str) -> None:
    (finished.path / name).unlink()
    os.mkfifo(finished.path / name)
    code = main(["status", str(finished.path)])
    assert code == (2 if name == "sweep.json" else 0)


@pytest.mark.parametrize("name", ["inputs.npy", "inputs.npz"])
def test_a_pipe_of_inputs_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    ensemble: Any = None  # the inputs are looked at first
    with pytest.raises(EnsembleError, match="not a file of inputs"):
        predict_file(ensemble, tmp_path / name, tmp_path / "out.npz")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("device", lambda b: b["experiment"].pop("device")),
        ("threads", lambda b: b["experiment"].update(threads="1")),
        ("goals", lambda b: b["config"].update(goals={"a": 1})),
        ("cells", lambda b: b.update(until={"cells": [1]})),
        ("stamp", lambda b: b.update(stamp={"status": []})),
    ],
)
def test_a_sealed_plan_of_another_shape_names_the_place(finished: Store, name: str, change: Any) -> None:
    resealed(finished.path / "sweep.json", change)
    with pytest.raises(StoreError, match=name):
        Store.open(finished.path)


def test_a_model_is_no_larger_than_the_weights_that_are_there(finished: Store) -> None:
    meta = {"model": {"name": "mlp", "hidden": [10**12]}, "input_shape": [1, 8, 8], "outputs": 10}
    with pytest.raises(EnsembleError, match="do not fit"):
        rebuild._described(finished, "seed1", meta, {})


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, (1 << 40).to_bytes(8, "little") + b"{}"])
def test_weights_whose_header_lies_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(IntegrityError, match="weights"):
        rebuild._weights(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "other",
    [
        {"targets": np.zeros(3)}, {"mean": np.zeros(())}, {"mean": np.zeros(4, "c16")},
        {"ids": np.full(4, 0x110000, "<u4").view("<U1")}, {"ids": np.full(8, 0x110000, ">u4").view(">U2")},
    ],
)  # fmt: skip
def test_predictions_without_a_row_per_example_are_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    path = tmp_path / "predictions-test.npz"
    np.savez(path, **{"ids": np.arange(4), "targets": np.zeros(4), "mean": np.zeros(4), **other})
    with pytest.raises(IntegrityError, match="not a readable"):
        read(path)


def test_a_process_of_odd_numbers_holds_nothing(tmp_path: Path) -> None:
    whole = this_process().to_json()
    for pid in (1 << 40, 1e999, "1", None):
        (tmp_path / "lock").write_text(json.dumps({**whole, "pid": pid, "ticks": ""}))
        assert Store.owner_of(tmp_path) is None
    (tmp_path / "lock").write_text("[" * 100_000)
    assert Store.owner_of(tmp_path) is None
    (tmp_path / "lock").write_text(json.dumps(whole))  # the control
    assert Store.owner_of(tmp_path) is not None


def test_a_device_in_the_place_of_the_plan_is_not_read(finished: Store) -> None:
    (finished.path / "sweep.json").unlink()
    (finished.path / "sweep.json").symlink_to("/dev/zero")
    assert main(["report", str(finished.path)]) == 2


def test_predictions_that_unpack_to_far_more_than_they_are_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "predictions-test.npz"
    np.savez_compressed(path, ids=np.arange(10), targets=np.zeros(10, int), probs=np.zeros((1 << 20, 4)))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(IntegrityError, match="unpacks to"):
        read(path)
    # A small one as well: thousands of them in a directory of a few megabytes would fill the memory.
    np.savez_compressed(path, ids=np.arange(10), targets=np.zeros(10, int), probs=np.zeros((1 << 14, 4)))
    with pytest.raises(IntegrityError, match="unpacks to"):
        read(path)
    np.savez(path, ids=np.arange(10), targets=np.zeros(10, int), probs=np.full((10, 2), 0.5))  # the control
    assert read(path).probs is not None


def test_opened_takes_plain_files_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    with atomic.opened(tmp_path / "a") as stream:
        assert stream.read() == b"a"
    for name in ("link", "pipe", "."):
        with pytest.raises(OSError, match=r"plain|symbolic|directory"):
            atomic.opened(tmp_path / name)


def _texts(value: Any) -> str:
    """Return all that a JSON value says, joined."""
    if isinstance(value, dict):
        return "".join(map(_texts, [*value, *value.values()]))
    return "".join(map(_texts, value)) if isinstance(value, list) else str(value)


RAW = "\x1b[2J\x1b]0;owned\x07\u202eevil\x9b31m"


@pytest.mark.parametrize(
    "command",
    [
        "status", "report", "watch", "compare", "ensemble", "verify", "status --json", "report --json",
    ],
)  # fmt: skip
def test_no_text_of_a_strangers_reaches_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def outcome(spec: RunSpec) -> dict[str, Any]:
        return {"failure": failure("raised", RAW)} if spec.seed else {"metrics": {f"test/{RAW}": 0.5}, "notes": (RAW,)}

    for name in ("sent", "other"):
        sweep_of(tmp_path / name, outcome, name=RAW, seeds=range(2))
    owner = {**this_process().to_json(), "started": RAW, "nonce": RAW}
    if command != "watch":  # which would wait for that owner to end
        (tmp_path / "sent" / "lock").write_text(json.dumps(owner))
    resealed(tmp_path / "sent" / "sweep.json", lambda body: body.update(source=RAW))
    name, *more = command.split()
    rest = [str(tmp_path / "other")] if name == "compare" else []
    main([name, str(tmp_path / "sent"), *rest, *more])
    said = "".join(capsys.readouterr())
    if more:  # it is escaped, not lost
        assert RAW in _texts(json.loads(said))
    assert "Traceback" not in said
    assert not set("\x1b\x07\u202e\x9b") & set(said), said


def test_the_owner_of_a_lock_is_named_harmlessly(tmp_path: Path) -> None:
    owner = {**this_process().to_json(), "host": "elsewhere", "started": RAW}
    (tmp_path / "lock").write_text(json.dumps(owner))
    with pytest.raises(StoreError) as caught, Store.lock(tmp_path):
        pass
    assert "\\x1b" in str(caught.value)
    assert not set("\x1b\x07\u202e\x9b") & set(str(caught.value))


def test_output_that_is_read_again_is_a_plain_file_of_its_own_run(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("acc=0.99\n")
    own = tmp_path / "attempt"
    own.mkdir()
    (own / "raw-stdout.txt").symlink_to(tmp_path / "secret.txt")
    (own / "metrics.json").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(own / "raw-stderr.txt")
    assert raw_output.kept(own / "raw-stdout.txt") == raw_output.kept(own / "raw-stderr.txt") == ""
    assert raw_output.lost(own / "raw-stdout.txt") == raw_output.lost(own / "raw-stderr.txt") == 0
    with pytest.raises(NotFound, match="gave no metrics"):
        metrics(None, Left(own, {}, None, ""))
    (own / "metrics.json").unlink()
    (own / "metrics.json").write_text('{"acc": 0.5}')  # the control
    assert metrics(None, Left(own, {}, None, "")).metrics == {"acc": 0.5}
    assert raw_output.kept(tmp_path / "secret.txt") == "acc=0.99\n"


def test_output_of_holes_is_read_no_further_than_it_was_kept(tmp_path: Path) -> None:
    with (tmp_path / "raw-stdout.txt").open("wb") as stream:
        stream.truncate(1 << 30)
    assert len(raw_output.kept(tmp_path / "raw-stdout.txt")) < 80 << 20


def test_what_a_lock_leaves_without_the_kernels_is_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "lock.held").write_text("{}")
    (tmp_path / "sweep.json.lock.held").write_text("{}")
    Store.claim(tmp_path)
    (tmp_path / "lock.helded").write_text("")
    with pytest.raises(StoreError, match="holds other files"):
        Store.claim(tmp_path)
