"""What came as data is never run, followed out of its directory, or shown unescaped."""

from __future__ import annotations

import ast
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kit
import numpy as np
import pytest
import torch
from finished import accuracies, sweep_of
from hypothesis import given
from hypothesis import strategies as st
from kit import Nursery

import sweep as package
from sweep.cli.app import main
from sweep.redaction import known
from sweep.store import Attempt, Store, atomic, record
from sweep.store.masking import Masking, masked
from sweep.store.owner import this_process
from sweep.store.shape import seal

SOURCES = sorted(Path(package.__file__).parent.rglob("*.py"))

# Each with its reason: nothing here is ever given a file.
ALLOWED = {
    ("forkserver/client.py", "recv"): "the socket between a process and the interpreter it started to fork from",
    ("forkserver/server.py", "recv"): "the same",
    ("forkserver/client.py", "pickle.loads"): "what a child of that interpreter answers through a pipe",
    ("forkserver/child.py", "pickle.loads"): "what the asking process has sent for it",
    ("worker/forked.py", "pickle.loads"): "what a child of that interpreter answers through a pipe",
    ("worker/train.py", "cloudpickle.loads"): "the user's own function, of this session, sent by the launch",
    ("verify/process.py", "pickle.load"): "the pipe between a process and its own child",
}
FORBIDDEN = (
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "cloudpickle.load",
    "cloudpickle.loads",
    "joblib.load",
    "dill.load",
    "dill.loads",
    "shelve.open",
    "marshal.loads",
    "marshal.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
    "os.popen",
    "eval",
    "exec",
    "compile",
    "pd.read_pickle",
    "recv",
    "torch.jit.load",
)


LAST = {name.rpartition(".")[2] for name in FORBIDDEN} | {"Environment", "Template"}
OPTIONS = {"shell", "weights_only", "trust_remote_code"}


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """The calls that may be one of those, by their names."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        last = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if last in LAST or OPTIONS & {each.arg for each in node.keywords}:
            yield ast.unparse(node.func), node


def dangers(source: str, name: str) -> list[str]:
    """Calls that could run what a file holds."""
    found = []
    for called, node in calls(source):
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called.endswith(".recv"):  # of a Connection of multiprocessing: it unpickles
            called = "recv"
        if called in FORBIDDEN and (name, called) not in ALLOWED:
            found.append(called)
        if called == "torch.load" and given.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            found.append("np.load without allow_pickle=False")
        if (
            given.get("shell") == "True"
            or given.get("weights_only") == "False"
            or given.get("trust_remote_code") == "True"
        ):
            found.append(ast.unparse(node)[:80])
        if called.endswith(("jinja2.Environment", "jinja2.Template")) and given.get("autoescape") != "True":
            found.append("jinja2 without autoescape")
    return found


def test_case_110_no_source_file_unpickles_or_evaluates_what_a_file_holds() -> None:
    assert len(SOURCES) > 60
    root = Path(package.__file__).parent
    found = {
        str(path.relative_to(root)): bad
        for path in SOURCES
        if (bad := dangers(path.read_text(encoding="utf-8"), str(path.relative_to(root))))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.load(f)",
        "np.load(p)",
        "eval(text)",
        "np.load(p, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "yaml.load(f)",
        "jinja2.Environment()",
        "link.recv()",
    ],
)
def test_the_search_for_dangers_finds_each_of_them(line: str) -> None:
    assert dangers(line, "any.py")


class Evil:
    """Unpickling it leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.marker,))


def test_the_evil_object_is_evil(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


NAMES = (
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "{{7*7}}",
    "test/acc\u202eycarucca",
    "$\\input{/etc/passwd}$",
)


def hostile(folder: Path, marker: Path) -> Path:
    """A run directory as a stranger might send it: code and links wherever a reader could trip over them."""
    path = folder / "received"
    store = sweep_of(
        path,
        lambda spec: {
            "metrics": {"test/accuracy": 0.9 + spec.seed / 100, **dict.fromkeys(NAMES, 1.0)},
            "history": [{"step": 1, "train/loss": 1.0}],
        },
        seeds=range(4),
    )
    members = list(store.scan())
    evil = pickle.dumps(Evil(marker))
    for member in members:
        assert member.folder is not None
        torch.save({"state": Evil(marker)}, member.folder / "checkpoint-000000001.pt")
        (member.folder / "model.safetensors").write_bytes(evil)
        (member.folder / "model.json").write_text(json.dumps({"recipe": "evil_module:train"}))
        objects = np.array([Evil(marker)], dtype=object)
        np.savez(member.folder / "predictions-test.npz", ids=objects, targets=objects, probs=objects)
        with zipfile.ZipFile(member.folder / "predictions-val.npz", "w") as archive:
            archive.writestr("../../../../escaped.npy", b"x")
        (member.folder / "log.txt").unlink(missing_ok=True)
        (member.folder / "log.txt").symlink_to("/etc/hostname")
        # A record that answers for all of these, checksum and all: its sender controls every byte.
        made = record.decode((member.path / "record.json").read_bytes())
        artifacts = {
            name: record.Artifact(atomic.file_digest(member.folder / name), (member.folder / name).stat().st_size)
            for name in (
                "model.safetensors",
                "model.json",
                "predictions-test.npz",
                "predictions-val.npz",
                "history.jsonl",
            )
        }
        (member.path / "record.json").write_bytes(seal(replace(made, artifacts=artifacts)))
    (folder / "evil_module.py").write_text(f"import os\nos.mkdir({str(marker)!r})\ndef train(run): return {{'a': 1}}\n")
    return path


READING = (
    ["status", "received"],
    ["status", "received", "--json"],
    ["report", "received"],
    ["report", "received", "--format", "json"],
    ["report", "received", "--format", "md"],
    ["report", "received", "--format", "latex"],
    ["compare", "received", "received"],
    ["ensemble", "received"],
    ["watch", "received"],
    ["export", "received", "--to", "csv", "--out", "exported"],
    ["report", "received", "--html", "page.html"],
)


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_case_110_reading_a_strangers_directory_runs_nothing(
    nursery: Nursery, tmp_path: Path, words: list[str]
) -> None:
    marker = tmp_path / "marker"
    before = len(list(hostile(tmp_path, marker).rglob("*")))
    trial = nursery.run(words, tmp_path)
    assert not marker.exists()
    # Predictions that are no numbers make no ensemble, and a directory is not compared with itself.
    assert trial.code == {"compare": 2, "ensemble": 3}.get(words[0], 0), trial.output
    assert "Traceback" not in trial.output
    for made in tmp_path.glob("page.html"):
        assert "<script>alert" not in made.read_text()
    assert "\u202e" not in trial.output or "json" in " ".join(words)
    assert len(list((tmp_path / "received").rglob("*"))) == before
    assert not (tmp_path / "escaped.npy").exists()


@pytest.mark.parametrize("command", ["reproduce", "verify"])
def test_case_110_rebuilding_runs_a_strangers_code_only_when_it_is_trusted(
    nursery: Nursery, tmp_path: Path, command: str
) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(
        "def train(run):\n    return {'test/accuracy': 0.5 + float(__import__('torch').rand(()))}\n"
    )
    (tmp_path / "own.yaml").write_text("name: own\ntrain: evil_module:train\ndeterministic: true\n")
    for seed in ("1", "2"):  # without the canary of a sweep
        trial = nursery.run(["ml-train", "own.yaml", "--seed", seed, "--out", "received"], tmp_path)
        assert trial.code == 0, trial.output
    body = (tmp_path / "evil_module.py").read_text()
    (tmp_path / "evil_module.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n{body}")
    refused = nursery.run([command, "received"], tmp_path)
    assert refused.code == 2, refused.output
    assert "--trust" in refused.output
    assert "evil_module:train" in refused.output
    assert not marker.exists()
    nursery.run([command, "received", "--trust"], tmp_path)
    assert marker.exists()  # the control: with trust it is imported


def test_case_110_a_huge_file_does_not_fill_the_memory(nursery: Nursery, tmp_path: Path) -> None:
    store = sweep_of(tmp_path / "runs", accuracies({0: 0.1, 1: 0.2}), seeds=range(2))
    first = next(store.scan())
    with open(first.path / "record.json", "wb") as stream:
        stream.truncate(10 << 30)  # sparse: ten gigabytes of zeros
    trial = nursery.run(["status", "runs"], tmp_path)
    assert trial.code == 0, trial.output
    assert "2 planned = 1 ok + 0 failed + 1 lost" in trial.output
    assert "larger than 64 MiB" in trial.output


def test_case_110_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "history.jsonl").write_text('{"step": 1, "a": 1.0}\n')
    (secret / ".tmp-precious").write_text("keep")
    store = sweep_of(tmp_path / "runs", accuracies({0: 0.1}), seeds=range(1))
    member = next(store.scan())
    assert member.folder is not None
    (tmp_path / "runs" / "out").symlink_to(secret)
    (member.path / "attempt-link").symlink_to(secret)
    store.clean()
    assert (secret / ".tmp-precious").exists()
    assert [m.status for m in store.scan(verify=True)] == ["ok"]
    (member.folder / "log.txt").unlink(missing_ok=True)
    (member.folder / "log.txt").symlink_to(secret / "history.jsonl")
    with pytest.raises(package.SweepError, match="leads out"):
        store.log(member)


def test_case_81_secrets_stand_nowhere_in_a_directory_nor_on_the_screen(nursery: Nursery, tmp_path: Path) -> None:
    secret = "s3cr3t-value-of-a-key"
    (tmp_path / "secret.yaml").write_text(
        f"name: secret\ntrain: victims:secretive\nparams: {{api_key: {secret}, note: public}}\n"
    )
    said = ""
    for words in (
        ["run", "secret.yaml", "--engine", "inline", "--seeds", "1,2", "--out", "runs"],
        ["report", "runs"],
        ["status", "runs", "--json"],
        ["report", "runs", "--format", "json"],
        ["run", "secret.yaml", "--engine", "inline", "--seeds", "1,2", "--out", "runs2", "--dry-run"],
    ):
        trial = nursery.run(words, tmp_path)
        assert trial.code == 0, trial.output
        said += trial.output
    assert secret not in said
    files = [p for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    assert len(files) > 6
    assert [p for p in files if secret.encode() in p.read_bytes()] == []
    assert any(b"public" in p.read_bytes() for p in files)  # the control: other values are there


PRINTS = """
import os, sys, time
seed, key = sys.argv[1], sys.argv[3]
print("public", key, os.environ["TALK_TOKEN"])
for piece in (key[:5], key[5:], "\\n"):
    sys.stdout.write(piece); sys.stdout.flush(); time.sleep(0.05)
print('{"test/accuracy": 0.5}')
if seed == "2":
    sys.exit("401 for " + key)
"""


@pytest.mark.parametrize("kind", ["function", "command"])
def test_case_81_secrets_that_training_code_prints_itself_are_masked(
    nursery: Nursery, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    secret, token = "s3cr3t-value-of-a-key", "t0k3n-of-the-environment"
    monkeypatch.setenv("TALK_TOKEN", token)
    (folder / "prints.py").write_text(PRINTS)
    words = ["run", "--seeds", "1,2", "--out", "runs", "--engine", "inline"]
    if kind == "function":
        words += ["train=victims:talkative", f"params.api_key={secret}"]
    else:
        words += ["--", sys.executable, "prints.py", "{seed}", "--token", secret]
    assert main(words) == 1
    screen = "".join(capfd.readouterr())
    report = nursery.run(["report", "runs"], folder).output
    assert "401 for ***" in report
    assert "1 ok + 1 failed" in report
    said = {"screen": (screen + report).encode()}
    said |= {str(p): p.read_bytes() for p in (folder / "runs").rglob("*") if p.is_file()}
    assert [place for place, text in said.items() if secret.encode() in text or token.encode() in text] == []
    logs = [text for place, text in said.items() if place.endswith("log.txt")]
    assert len(logs) == 2
    assert all(b"public ***" in text for text in logs)


def test_a_secret_is_known_wherever_it_would_be_hidden_and_no_common_word_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in {
        "HF_TOKEN": "hf-abcdef",
        "PWD": "/some/folder",
        "API_KEY": "abc",
        "OUR_TOKEN": "of-ours",
        "USER": "somebody",
    }.items():
        monkeypatch.setenv(name, value)
    params = {"db": {"url": "postgres://me:pass-word@host/x"}, "lr": 0.125, "password": ["one-of-two", 1234567]}
    found = known(params, ["train.py", "--auth-token=in-a-word", "Authorization: Bearer of-a-header", "--lr", "0.1"])
    expected = {
        b"hf-abcdef", b"of-ours", b"me:pass-word", b"pass-word", b"one-of-two", b"1234567", b"in-a-word",
        b"Bearer of-a-header", b"of-a-header",
    }  # fmt: skip
    assert set(found) == expected
    assert [len(each) for each in found] == sorted(map(len, found), reverse=True)


@given(st.lists(st.integers(1, 9), max_size=40))
def test_a_secret_that_comes_in_pieces_is_masked_and_nothing_else_is_lost(cuts: list[int]) -> None:
    secrets = (b"abcabd-secret", b"abcab")
    whole = b"x abcabc abcabd-secret abcabdabcab\nabcabd-secre"
    masking, out, at = Masking(secrets), b"", 0
    for cut in [*cuts, len(whole)]:
        out += masking.take(whole[at : at + cut])
        at += cut
    assert out + masking.rest() == masked(whole, secrets) == b"x ***c *** ***d***\n***d-secre"


def test_the_log_that_a_process_writes_by_itself_is_masked_in_place(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "", this_process(), 1, secrets=(b"long-secret", b"secret"))
    log = tmp_path / "log.txt"
    with log.open("ab", buffering=0) as stream:
        for piece in (b"a long-sec", b"ret b\n", b"c" * (1 << 20), b"secret", b"", b"\nlong-secret"):
            stream.write(piece)
            attempt.mask_log()
    assert log.read_bytes() == b"a *********** b\n" + b"c" * (1 << 20) + b"******\n***********"


NASTY = (
    "a'; echo foo",
    'with "quotes"',
    "with space",
    "a=b",
    "new\nline",
    "-rf",
    "~",
    "%2e%2e",
    "é",
    "e\u0301",
    "CON",
    "a" * 200,
)


@pytest.mark.parametrize("name", NASTY, ids=ascii)
def test_case_109_directories_of_any_name_just_work(nursery: Nursery, tmp_path: Path, name: str) -> None:
    (tmp_path / "small.yaml").write_text("name: small\ntrain: victims:brief\n")
    out = f"./{name}"
    trial = nursery.run(["run", "small.yaml", "--engine", "inline", "--seeds", "1-3", "--out", out], tmp_path)
    assert trial.code == 0, trial.output
    kit.whole(tmp_path / name, [1, 2, 3])
    report = nursery.run(["report", out], tmp_path)
    assert report.code == 0, report.output
    assert sorted(os.listdir(tmp_path)) == sorted([name, "output.txt", "small.yaml"])


@pytest.mark.parametrize("name", ["../../etc/x", "/abs", "..", ".", "a\0b", "-rf", "a/b", "x" * 300, ""], ids=ascii)
def test_case_109_a_name_that_could_be_a_path_is_refused(nursery: Nursery, tmp_path: Path, name: str) -> None:
    (tmp_path / "small.yaml").write_text(json.dumps({"name": name, "train": "victims:brief"}))
    trial = nursery.run(["run", "small.yaml", "--engine", "inline", "--seeds", "1"], tmp_path)
    assert trial.code == 2, trial.output
    assert sorted(os.listdir(tmp_path)) == ["output.txt", "small.yaml"]
    assert Store.exists(tmp_path) is False
