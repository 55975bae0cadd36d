"""Valid run directories, and one change of one of their files as a stranger might make it.

Not a test: `test_mutations.py` runs commands on what this makes. A change knows the structure of a file: a value in
JSON, a line of a history, an array of predictions, the header of a model; or it damages bytes, or puts a pipe, a
folder or a link in the place of the file. Seals are made anew afterwards, so that it is not the checksum that refuses.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import sys
import zipfile
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from finished import of_every_kind, sweep_of
from kit import environment
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.summary.writer.record_writer import masked_crc32c

from sweep import archive
from sweep.cli.app import main
from sweep.plan import RunSpec, content_id
from sweep.store import Attempt, Store
from sweep.store.scores import Scores
from sweep.verify.canary import Canary

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 1e9, 10**30, 10**400, -0.5, 1e308, "nan", "inf", "", "x", "../../x", "/etc/passwd", "\ud800",
    "\x1b[2J\u202e", "a" * 9999, [], {}, [[]], [None], {"a": {"b": []}}, [0, 1],
    {"task": "", "variant": "", "params": {}, "data": ""}, "os:system", "made:up", "sweep.train.recipes:classifier",
    ["sh", "-c", "touch ran"], 1 << 31, 1 << 63, 200_001,
)  # fmt: skip
LINES = (
    b"\xff\xfe\0\n", b"\x1b[2J\x1b]0;owned\x07\n", b"[" * 20_000 + b"\n", b"{" * 20_000 + b"\n", b"NaN\n",
    b"test/accuracy=inf\n", b'{"test/accuracy": 1e999, "epoch": 1e30}\n', b'{"step": -1, "val/loss": null}\n',
    b'{"step": 9223372036854775808}\n', b'{"test/accuracy": "0.5", "\\u001b[2J": 1}\n', b"a" * 2_000_000 + b"\n",
    b"9" * 6000 + b"\n", b",,,\n", b'"\n', b"\r\n",
)  # fmt: skip


class Payload:
    """What a pickle of a stranger's does when it is loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran",)


# Valid directories


def _outcome(spec: RunSpec) -> dict[str, Any] | None:
    made = of_every_kind(spec)
    if made is not None and "history" in made:
        made["history"] = [*made["history"], {"step": 2, "val/loss": 0.25}]
        ids = np.arange(30) // 2
        right = np.random.default_rng(spec.seed).random(30) < 0.7
        made["scores"] = {"tasks": Scores(ids, right.astype(float), cluster=ids // 5, repeat=np.arange(30) % 2)}
    return made


def _results(root: Path) -> None:
    """Make results as other tools leave them, to be adopted: in files, a table, and the folders of trackers."""
    for seed in range(3):
        for name, text in {
            f"files/seed{seed}/metrics.csv": f"epoch,val/acc\n1,0.5\n2,0.{seed + 6}\n",
            f"files/seed{seed}/result.json": f'{{"test": {{"acc": 0.{seed + 6}}}, "epoch": 2}}',
            f"files/seed{seed}/log.txt": f"epoch 1 acc=0.5\nepoch 2 acc=0.{seed + 6}\n",
            f"mlruns/1/run{seed}/meta.yaml": f"status: 3\nstart_time: {seed}\nname: run{seed}\n",
            f"mlruns/1/run{seed}/metrics/acc": "1 0.5 0\n2 0.6 1\n",
            f"mlruns/1/run{seed}/params/seed": str(seed),
            f"mlruns/1/run{seed}/params/lr": "0.1",
            "mlruns/1/meta.yaml": "name: first\n",
            f"lightning/version_{seed}/metrics.csv": "epoch,step,val_acc\n0,1,0.5\n1,2,0.6\n",
            f"lightning/version_{seed}/hparams.yaml": f"seed: {seed}\nlayers: [1, 2]\nmodel: {{width: 3}}\n",
            f"tune/trial{seed}/params.json": f'{{"seed": {seed}, "lr": {{"start": 0.1}}}}',
            f"tune/trial{seed}/result.json": '{"acc": 0.5, "training_iteration": 1}\n{"acc": 0.6}\n',
        }.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        writer = EventFileWriter(str(root / f"events/seed{seed}"))
        for step in range(3):
            writer.add_event(Event(step=step, summary=Summary(value=[Summary.Value(tag="acc", simple_value=0.5)])))
        writer.close()
    table = pd.DataFrame({"seed": [0, 1, 2], "method": ["a", "a", "b"], "acc": [0.5, 0.6, 0.7]})
    table.to_csv(root / "table.csv", index=False)
    table.to_parquet(root / "table.parquet", index=False)
    table.to_json(root / "table.jsonl", orient="records", lines=True)
    with closing(sqlite3.connect(root / "mlflow.db")) as data:
        data.executescript(
            "create table experiments(experiment_id, name); insert into experiments values (1, 'first');"
            "create table runs(run_uuid, start_time, experiment_id, status, lifecycle_stage);"
            "create table params(run_uuid, key, value); create table metrics(run_uuid, key, value, step, timestamp, "
            "is_nan);"
            + "".join(
                f"insert into runs values ('r{i}', {i}, 1, 'FINISHED', 'active');"
                f"insert into params values ('r{i}', 'seed', '{i}');"
                f"insert into metrics values ('r{i}', 'acc', 0.5, 0, 0, 0), ('r{i}', 'acc', 0.6, 1, 1, 0);"
                for i in range(3)
            )
        )


PROGRAM = """
import csv, json, sys
from pathlib import Path
seed, folder = int(sys.argv[1]), Path(sys.argv[2])
for epoch in range(1, 4): print(json.dumps({"epoch": epoch, "val/loss": 1 / (epoch + seed)}))
with (folder / "log.csv").open("w") as out:
    csv.writer(out).writerows([("epoch", "val_acc"), (1, .5), (2, .5 + seed / 100)])
(folder / "metrics.json").write_text(json.dumps({"test/accuracy": .9 + seed / 100}))
"""
RECIPE = (
    "params.epochs=2",
    "params.model={name: mlp, hidden: [8]}",
    "params.data.limit=120",
    "checkpoint.every_epochs=1",
)


def build(root: Path) -> None:
    """Make `made` (records of every status), `other` to compare with it, `trained` and `program`, and their inputs.

    `packed` holds `made` as a zip, `results` what other tools leave.
    """
    sweep_of(root / "made", _outcome, seeds=range(6), variants=("lr-1", "lr-2"))
    sweep_of(root / "other", _outcome, seeds=range(6))
    for path in (root / "made").rglob("lock"):
        path.unlink()
    (root / "code").mkdir()  # on its own: Python imports from the folder of a program
    (root / "code/program.py").write_text(PROGRAM)
    options = ["--engine", "inline", "--seeds", "1-3"]
    program = [sys.executable, "code/program.py", "{seed}", "{dir}"]
    _trained(
        root,
        ["run", *RECIPE, "--deterministic", *options, "--out", "trained"],
        ["run", *options, "--out", "program", "--", *program],
    )
    _stamped(Store.open(root / "trained"))
    (root / "trained/members/seed3/record.json").unlink()  # it is lost, and has a checkpoint to go on from
    inputs = np.random.default_rng(0).random((4, 1, 8, 8))
    np.save(root / "inputs.npy", inputs)
    np.savez(root / "inputs.npz", x=inputs, ids=np.arange(4))
    (root / "packed").mkdir()
    archive.pack(Store.open(root / "made"), root / "packed/sent.zip")
    _results(root / "results")


def _trained(root: Path, *commands: list[str]) -> None:
    """Run the commands in a fork of this process, which has loaded everything, without a canary."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            os.chdir(root)
            os.environ.update(environment(OMP_NUM_THREADS="1"))
            torch.set_num_threads(1)
            # Checkpoints serve only while a run is unfinished, and here one has to stay.
            Attempt.drop_checkpoints = lambda self: None  # type: ignore[method-assign]
            Canary.before = Canary.after = lambda *_: iter(())  # type: ignore[assignment, method-assign]
            with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                code = max(map(main, commands))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    assert status == 0


def _stamped(store: Store) -> None:
    """Stamp a directory as its canary does."""
    record = next(member.record for member in store.scan() if member.record is not None)
    store.stamp({
        "status": "proven", "summary": "proven (canary of seed1: 2 processes, 2 epochs)", "how": "canary",
        "extent": "whole", "key": "seed1", "seed": 1, "processes": 3, "steps": 4, "difference": "", "culprit": "",
        "digests": {"final": record.digests["final"]}, "environment": record.environment,
        "time": "2026-11-27T01:08:15Z",
    })  # fmt: skip


def copied(valid: Path, here: Path, *, without: Collection[str] = ()) -> None:
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(valid, here, ignore=lambda folder, names: without if folder == os.fspath(valid) else ())


# Changes


def mutate(path: Path, rng: random.Random) -> None:
    """Change one file: what it says, its bytes, or what it is."""
    how = rng.random()
    if how < 0.08:
        _replaced(path, rng)
        return
    data = path.read_bytes()
    if how < 0.75:
        for suffixes, change in _STRUCTURED:
            if path.suffix in suffixes:
                with contextlib.suppress(
                    ValueError, KeyError, IndexError, TypeError, AttributeError, zipfile.BadZipFile, struct.error
                ):
                    data = change(data, rng)
                    path.write_bytes(data)
                    return
    path.write_bytes(_bytes(data, rng))


def _replaced(path: Path, rng: random.Random) -> None:
    path.unlink()
    match rng.randrange(8):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to("/dev/zero")
        case 3:
            path.symlink_to("../" * len(path.parts) + "etc/passwd")
        case 4:
            path.symlink_to(path.name)
        case 5:
            with path.open("wb") as stream:
                stream.truncate(20 << 30)  # holes: no disk has to hold it
        case 6:
            path.write_bytes(b"")
        case _:
            pass


def _bytes(data: bytes, rng: random.Random) -> bytes:
    spot = rng.randrange(len(data) + 1)
    match rng.randrange(4):
        case 0:
            return data[:spot]
        case 1:
            return data + data[spot:]
        case _:
            return data[:spot] + rng.randbytes(rng.choice([1, 1, 4, 64])) + data[spot + 1 :]


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inner in items for path in _paths(inner, (*at, key)))]


def _odd(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(ODD))  # the next change is made within it


def _value(value: Any, rng: random.Random) -> Any:
    """Return the JSON value with one place of it replaced, left out or doubled."""
    path = rng.choice(_paths(value)[1:] or [()])
    if not path:
        return _odd(rng)
    there = value
    for key in path[:-1]:
        there = there[key]
    how = rng.randrange(4)
    if how == 0:
        del there[path[-1]]
    elif how == 1 and isinstance(there, list):
        there.append(there[path[-1]])
    elif how == 2 and isinstance(there, dict):
        there[rng.choice(["x", "../y", "\x1b", "", "\ud800", "a" * 5000])] = there.pop(path[-1])
    else:
        there[path[-1]] = _odd(rng)
    return value


def sealed(body: Any) -> bytes:
    if isinstance(body, dict) and "checksum" in body:
        body.pop("checksum")
        with contextlib.suppress(ValueError):  # a lone surrogate has no bytes to hash
            body = {**body, "checksum": content_id(body)}
    return json.dumps(body).encode()


def _json(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.04:
        return rng.choice(
            [b"[" * 100_000, b"\xef\xbb\xbf" + data, b"9" * 10_000, data[:-2] + b", " + data[1:], b"{}", b"null"]
        )
    body = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 3])):
        body = _value(body, rng)
    return sealed(body)


def _lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b"\n"]
    at = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            lines.insert(at, rng.choice(LINES))
        case 1:
            lines[at] = json.dumps(_value(json.loads(lines[at]), rng)).encode() + b"\n"
        case 2:
            lines[at:at] = [lines[at]] * rng.choice([1, 1000])
        case _:
            rng.shuffle(lines)
    return b"".join(lines)


def _array(array: Any, rng: random.Random) -> Any:
    match rng.randrange(10):
        case 0:
            return array.astype(rng.choice(["f2", "f4", "c16", "U9", "S3", "bool", "M8[s]", "i1", "u8", "V4"]))
        case 1:
            return np.array([Payload()] * 2, dtype=object)
        case 2:
            return np.full_like(array, rng.choice([np.nan, np.inf, -1, 1e300]) if array.dtype.kind == "f" else -1)
        case 3:
            return array[: rng.randrange(2)]
        case 4:
            return array.reshape(array.shape + (1,) * rng.choice([1, 40 - array.ndim]))
        case 5:
            return array[..., None].repeat(3, axis=-1)
        case 6:
            return np.array(rng.choice([1.0, 7, "a"]))
        case 7:
            return np.zeros((rng.choice([0, 3, 1 << 20]), 2))
        case 8:
            return array[::-1]
        case _:
            return np.zeros(len(array) if array.ndim else 1, dtype=[("a", "f8"), ("b", "i4")])


def _npy(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:  # the header alone
        shape = rng.choice([(1 << 40,), (1,) * 70, (-1,), (1 << 31, 1 << 31), (0,), "x", (2.5,)])
        kind = rng.choice(["<f8", "|O", "<U2147483647", "x", "<M8[1000000000000s]", ("<f8", (9999, 9999))])
        header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
        return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data[-64:]
    stream = io.BytesIO()
    with np.errstate(all="ignore"):
        np.save(stream, _array(np.load(io.BytesIO(data)), rng), allow_pickle=True)
    return stream.getvalue()


def _archive(data: bytes, rng: random.Random) -> bytes:
    """A zip file of arrays, or of torch.save, with one entry changed, or changed as a whole."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(entries))
    kind = zipfile.ZIP_STORED
    match rng.randrange(7):
        case 0:
            del entries[name]
        case 1:
            entries[rng.choice(["../" + name, "/tmp/x.npy", "x.npy", "var.npy", "mean.npy", "a" * 300])] = entries[name]
        case 2:
            kind = zipfile.ZIP_DEFLATED
            entries[name] += bytes(200 << 20)
        case _ if name.endswith(".npy"):
            entries[name] = _npy(entries[name], rng)
        case _ if name.endswith((".json", ".jsonl", ".csv", ".npz")):
            change = _json if name.endswith(".json") else _archive if name.endswith(".npz") else _lines
            entries[name] = change(entries[name], rng)
        case _ if name.endswith("data.pkl"):
            import pickle

            entries[name] = pickle.dumps(Payload(), protocol=2)
        case _:
            entries[name] = _bytes(entries[name], rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for each, content in entries.items():
            archive.writestr(each, content)
    return stream.getvalue()


def _model(data: bytes, rng: random.Random) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    match rng.randrange(4):
        case 0:
            return struct.pack("<Q", rng.choice([0, 1 << 20, 1 << 62, length - 1])) + data[8:]
        case 1:
            rest = rng.choice([rest[: len(rest) // 2], rest * 2, rng.randbytes(len(rest)), b"\xff" * len(rest)])
        case _:
            header = _value(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


_STRUCTURED = (
    ({".json"}, _json), ({".jsonl", ".txt", ".csv", ".yaml", ""}, _lines), ({".npz", ".pt", ".zip"}, _archive),
    ({".npy"}, _npy),
    ({".safetensors"}, _model),
)  # fmt: skip


def reseal(root: Path) -> None:
    """Let records and descriptions of checkpoints answer for what lies beside them now, as a stranger's would."""
    for path in root.rglob("record.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            body = json.loads(_plain(path))
            folder = path.parent / f"attempt-{body['attempt']}"
            for name in body["artifacts"]:
                data = _plain(folder / name)
                body["artifacts"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            path.write_bytes(sealed(body))
    for path in root.rglob("events.out.tfevents.*"):
        with contextlib.suppress(OSError, struct.error):
            path.write_bytes(_events(_plain(path)))
    for path in root.rglob("checkpoint-*.pt"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            about = path.with_suffix(".json")
            body = json.loads(_plain(about))
            body["sha256"] = hashlib.sha256(_plain(path)).hexdigest()
            about.write_bytes(json.dumps(body).encode())


def _events(data: bytes) -> bytes:
    """Give each record of an event file the checksums of what it is now, as far as its lengths lead."""
    out, at = b"", 0
    while at + 16 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        body = data[at + 12 : at + 12 + length]
        head = struct.pack("<Q", len(body))
        out += head + struct.pack("<I", masked_crc32c(head)) + body + struct.pack("<I", masked_crc32c(body))
        at += 16 + length
    return out


def _plain(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 1 << 30:
        raise OSError(f"{path} is no plain file")
    return path.read_bytes()


def contents(root: Path, leave: Path) -> dict[str, tuple[int, int, int]]:
    """Return the mode, size and time of every entry below a folder, but not those below `leave`."""
    return {
        os.fspath(path.relative_to(root)): (found.st_mode, found.st_size, found.st_mtime_ns)
        for path in _below(root, leave)
        for found in [path.lstat()]
    }


def _below(root: Path, leave: Path) -> Iterator[Path]:
    for entry in sorted(root.iterdir()):
        if entry == leave:
            continue
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _below(entry, leave)
