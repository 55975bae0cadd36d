"""The files and values that decide what a run computes are part of its identity, by content."""

from __future__ import annotations

import ast
import json
import re
import threading
import types
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from sweep.cli.app import main
from sweep.config import load
from sweep.engine import inline
from sweep.errors import StoreError
from sweep.launch import Event, Launch, Said
from sweep.plan import Plan
from sweep.prepare import manifest_of, prepare
from sweep.store import Store
from sweep.store.manifest import without_new_files
from sweep.target.inputs import changed
from sweep.target.values import Content, Incomparable

PROGRAM = """import json, sys
print(json.dumps({"test/accuracy": json.load(open(sys.argv[-1].partition("=")[2] or sys.argv[-1]))["base"]}))
"""


def planned(word: str = "c.json", *, seeds: str = "1,2", **settings: Any) -> Plan:
    return commanded(["python", "program.py", "{seed}", word], seeds=seeds, **settings)


def commanded(command: list[str], *, seeds: str = "1,2", **settings: Any) -> Plan:
    return prepare(load(None, command=command, seeds=seeds, **settings))


def launched(out: Path, plan: Plan) -> list[Event]:
    return list(Launch(plan, out, inline, own_process=False))


@pytest.fixture
def program(folder: Path) -> Path:
    (folder / "program.py").write_text(PROGRAM)
    (folder / "c.json").write_text('{"base": 0.5}')
    return folder


@pytest.mark.parametrize("word", ["c.json", "--config=c.json"])
def test_a_changed_file_among_the_words_of_a_command_is_another_experiment(program: Path, word: str) -> None:
    launched(program / "out", planned(word))
    launched(program / "out", planned(word, seeds="1-3"))  # the control: nothing changed
    (program / "c.json").write_text('{"base": 0.9}')
    with pytest.raises(StoreError) as refused:
        launched(program / "out", planned(word, seeds="1-4"))
    assert "c.json" in str(refused.value)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (("{params.p}",), {"params": {"p": "d.json"}}),
        (("{params.p}",), {"grid": {"params.p": ["e.json", "d.json"]}}),
        (("--config={params.p}.json",), {"params": {"p": "d"}}),
        (("@d.json",), {}),
        (("--with=@d.json",), {}),
    ],
)
def test_a_file_among_the_words_as_a_variant_has_them_is_compared_and_watched(
    words: tuple[str, ...], settings: Mapping[str, Any], program: Path
) -> None:
    for name in ("d.json", "e.json"):
        (program / name).write_text("1")
    command = ["python", "program.py", "{seed}", *words]
    plan = commanded(command, **settings)
    Store.create(program / "out", manifest_of(plan))
    (program / "d.json").write_text("2")
    assert changed(plan.watched) == ["d.json"]
    with pytest.raises(StoreError, match=r"d\.json"):
        Store.check(program / "out", manifest_of(commanded(command, **settings)))


@pytest.mark.parametrize("name", ["inner.py", "beside.py", "sub/more.sh", "last.py"])
def test_what_a_shell_script_runs_is_compared_and_watched(name: str, program: Path) -> None:
    (program / "sub").mkdir()
    (program / "beside.py").write_text("V = 1\n")
    (program / "inner.py").write_text("import beside\n")
    (program / "last.py").write_text("1\n")
    (program / "sub" / "more.sh").write_text('python last.py > "made.py"\n')
    (program / "run.sh").write_text("# it doesn't matter\nset -e\npython inner.py $1 && bash sub/more.sh\n")
    (program / "made.py").write_text("1\n")
    command = ["bash", "run.sh", "{seed}"]
    plan = commanded(command)
    Store.create(program / "out", manifest_of(plan))
    (program / "made.py").write_text("2\n")
    assert changed(plan.watched) == []  # it only writes it
    (program / name).write_text("V = 2\n")
    assert changed(plan.watched) == [name]
    with pytest.raises(StoreError, match=re.escape(name)):
        Store.check(program / "out", manifest_of(commanded(command)))


def test_the_words_of_a_text_for_a_shell_are_words_of_the_command(program: Path) -> None:
    (program / "log.txt").write_text("1")
    command = ["sh", "-c", "python program.py {seed} c.json 2>> log.txt"]
    plan = commanded(command)
    Store.create(program / "out", manifest_of(plan))
    (program / "log.txt").write_text("2")
    assert changed(plan.watched) == []
    for name in ("program.py", "c.json"):
        (program / name).write_text("V = 2\n")
    assert sorted(changed(plan.watched)) == ["c.json", "program.py"]
    with pytest.raises(StoreError, match=r"c\.json(.|\n)*program\.py"):
        Store.check(program / "out", manifest_of(commanded(command)))


def test_a_changed_file_below_a_folder_of_data_is_another_experiment(program: Path) -> None:
    (program / "table").mkdir()
    (program / "table" / "a.csv").write_text("1\n")
    launched(program / "out", planned(data=["table"]))
    (program / "table" / "a.csv").write_text("2\n")
    with pytest.raises(StoreError) as refused:
        Store.check(program / "out", manifest_of(planned(data=["table"])))
    assert "table" in str(refused.value)


def test_a_file_that_changes_while_a_sweep_runs_stops_it(program: Path) -> None:
    plan = planned()
    assert changed(plan.watched) == []
    (program / "program.py").write_text(PROGRAM + "# said\n")
    assert changed(plan.watched) == []  # it means the same
    (program / "c.json").write_text('{"base": 0.9}')
    events = launched(program / "out", plan)
    assert any("c.json changed" in each.text for each in events if isinstance(each, Said))
    assert {m.status for m in Store.open(program / "out").scan()} == {"pending"}


WHILE = """import json, sys
from pathlib import Path
if sys.argv[1] == "2" and not Path("once").exists():
    Path("once").touch()
    Path("program.py").write_text(Path("program.py").read_text().replace("0.5", "0.9"))
print(json.dumps({"test/accuracy": 0.5}))
"""


def swept(*words: str) -> int:
    return main(["run", "--engine", "inline", *words, "--out", "out", "--json", "--", "python", "program.py", "{seed}"])


def test_a_program_that_changes_while_a_seed_runs_stops_the_sweep_and_marks_that_seed(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program / "program.py").write_text(WHILE)
    assert swept("--seeds", "1-4") == 1
    said = capsys.readouterr()
    assert "seed1 ran with the files as planned, seed2 with the old or the new" in said.err
    found = json.loads(said.out)
    assert found["changed"] == ["seed2"]
    assert "program.py changed during seed2" in found["warnings"][0]
    assert (found["counts"]["ok"], found["counts"]["pending"]) == (2, 2)
    assert swept("--seeds", "1-4") == 2  # another program is another experiment
    (program / "program.py").write_text(WHILE)
    capsys.readouterr()
    assert swept("--seeds", "1-4") == 0
    said = capsys.readouterr()
    assert "seed2" in said.err
    found = json.loads(said.out)
    assert (found["changed"], found["counts"]["ok"]) == ([], 4)
    assert [m.attempts for m in Store.open("out").scan()] == [1, 2, 1, 1]


def test_a_change_during_the_last_seed_is_no_success(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program / "program.py").write_text(WHILE)
    assert swept("--seeds", "1,2") == 1
    assert json.loads(capsys.readouterr().out)["counts"]["ok"] == 2


def test_of_a_large_folder_a_bounded_number_of_files_is_looked_at(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program / "table").mkdir()
    for name in range(50):
        (program / "table" / f"{name}.csv").write_text(str(name))
    assert len(planned(data=["table"]).watched) == 52
    monkeypatch.setattr("sweep.target.inputs.LOOKED", 20)
    assert 10 <= len(planned(data=["table"]).watched) - 2 <= 20


def test_each_file_of_a_project_is_parsed_once_while_a_sweep_is_planned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {f"mine_p{n}.py": f"X = {n}\n" for n in range(3)}
    texts["mine_p.py"] = "import mine_p0, mine_p1, mine_p2\ndef train(run):\n    return {'test/x': 1.0}\n"
    for name, text in texts.items():
        (folder / name).write_text(text)
    parsed: Counter[str] = Counter()
    parse = ast.parse

    def counting(source: Any, *args: Any, **named: Any) -> Any:
        parsed[str(source)] += 1
        return parse(source, *args, **named)

    monkeypatch.setattr(ast, "parse", counting)
    prepare(load(None, train="mine_p:train", seeds="1"))
    assert [parsed[text] for text in texts.values()] == [1, 1, 1, 1]


def test_data_that_is_named_only_later_is_not_taken_over_unseen(program: Path) -> None:
    (program / "table.csv").write_text("1\n")
    Store.create(program / "out", manifest_of(planned()))
    Store.check(program / "out", manifest_of(planned()))  # the control
    with pytest.raises(StoreError, match=r"table\.csv") as refused:
        Store.check(program / "out", manifest_of(planned(data=["table.csv"])))
    assert "data_version" in str(refused.value.hint)
    assert "--retrain" in str(refused.value.hint)
    # A version says that they are the same; from then on their content is compared.
    Store.create(program / "out", manifest_of(planned(data=["table.csv"], data_version="1")))
    (program / "table.csv").write_text("2\n")
    with pytest.raises(StoreError, match=r"table\.csv"):
        Store.check(program / "out", manifest_of(planned(data=["table.csv"], data_version="1")))
    with pytest.raises(StoreError):
        Store.check(program / "out", manifest_of(planned()))


def test_what_a_version_is_named_beside_still_has_to_be_the_same(program: Path) -> None:
    (program / "table.csv").write_text("1\n")
    Store.create(program / "out", manifest_of(planned()))
    (program / "c.json").write_text('{"base": 0.9}')
    with pytest.raises(StoreError, match=r"c\.json"):
        Store.check(program / "out", manifest_of(planned(data=["table.csv"], data_version="1")))


def loader(x: torch.Tensor) -> Any:
    return DataLoader(TensorDataset(x), batch_size=2)


def cyclic(x: torch.Tensor) -> Any:
    made = SimpleNamespace(x=x)
    made.itself = made
    return made


KINDS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda x: x,
    "frame": lambda x: pd.DataFrame({"a": x.numpy()}),
    "series": lambda x: pd.Series(x.numpy()),
    "dataset": TensorDataset,
    "loader": loader,
    "namespace": lambda x: SimpleNamespace(x=x),
    "ordered": lambda x: OrderedDict(x=x),
    "int keys": lambda x: {1: x},
    "arrays": lambda x: [x.numpy()],
    "set": lambda x: set(x.tolist()),
    "frame in a dict": lambda x: {"f": pd.DataFrame({"a": x.numpy()})},
    "cycle": cyclic,
    "objects": lambda x: np.array([*x.tolist(), None], dtype=object),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_any_kind_is_compared_by_content(kind: str) -> None:
    make = KINDS[kind]
    first = Content().of(make(torch.arange(4.0)))
    assert Content().of(make(torch.arange(4.0))) == first
    assert Content().of(make(torch.arange(4.0) + 1)) != first


def test_what_has_no_content_is_named() -> None:
    assert Content().of(types.FunctionType)  # a class with descriptors where its instances have values
    with pytest.raises(Incomparable, match="generator"):
        Content().of(each for each in ())
    assert Content().of(threading.Lock())  # it holds no data


MODULE = "import pandas as pd\nTABLE = pd.read_csv('table.csv')\nOTHER = iter(()) if {lazy} else None\n"
MODULE += "def mean():\n    return TABLE.x.mean(), OTHER\ndef train(run):\n    return {{'test/x': mean()[0]}}\n"


def test_a_table_that_a_module_reads_when_imported_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (folder / "mine_t.py").write_text(MODULE.format(lazy=False))
    seen = []
    for value in (1, 1, 2):
        (folder / "table.csv").write_text(f"x\n{value}\n")
        monkeypatch.delitem(sys.modules, "mine_t", raising=False)
        seen.append(manifest_of(prepare(load(None, train="mine_t:train", seeds="1"))).experiment["inputs"])
    assert seen[0] == seen[1]
    before, after = seen[0]["values"], seen[2]["values"]
    assert [name for name in before if before[name] != after[name]] == ["mine_t.TABLE"]


REACHED = {
    "a cached property": (
        "class Model:\n    @functools.cached_property\n    def x(self):\n        return VALUE\nMODEL = Model()\n",
        "MODEL.x",
    ),
    "a method behind a cache": (
        "class Model:\n    @functools.lru_cache\n    def x(self):\n        return VALUE\nMODEL = Model()\n",
        "MODEL.x()",
    ),
    "a computed member of an enumeration": ("class Rate(enum.Enum):\n    LOW = VALUE\n", "Rate.LOW.value"),
    "a wrapper around a function of a package": (
        "def scaled(of):\n    @functools.wraps(of)\n    def inner(x):\n        return of(x) * VALUE\n    return inner\n"
        "mean = scaled(statistics.mean)\n",
        "mean([1.0])",
    ),
    "a module that is handed on": ("import mine_settings\ndef ask(of):\n    return of.VALUE\n", "ask(mine_settings)"),
    "a module as a default": ("import mine_settings\ndef ask(of=mine_settings):\n    return of.VALUE\n", "ask()"),
}


@pytest.mark.parametrize("how", REACHED)
def test_a_value_counts_however_a_function_reaches_it(folder: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    import sys

    reads = "import pathlib\nVALUE = float(pathlib.Path('value.json').read_text())\n"
    made, asked = REACHED[how]
    (folder / "mine_settings.py").write_text(reads)
    own = f"import enum, functools, statistics\n{'' if 'module' in how else reads}{made}"
    (folder / "mine_h.py").write_text(f"{own}def train(run):\n    return {{'test/x': {asked}}}\n")
    seen = []
    for value in (1, 1, 2):
        (folder / "value.json").write_text(str(value))
        for name in ("mine_h", "mine_settings"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        seen.append(manifest_of(prepare(load(None, train="mine_h:train", seeds="1"))).experiment.get("inputs"))
    assert seen[0] == seen[1] != seen[2]


def test_what_cannot_be_compared_is_never_nothing_to_train(folder: Path) -> None:
    text = "X = (i for i in range(3))\ndef train(run):\n    return {'test/x': 1.0 if X else 0.0}\n"
    (folder / "mine_u.py").write_text(text)
    first = manifest_of(prepare(load(None, train="mine_u:train", seeds="1")))
    Store.create(folder / "out", first)
    with pytest.raises(StoreError) as refused:
        Store.check(folder / "out", first)
    assert "mine_u.X" in str(refused.value)
    named = manifest_of(prepare(load(None, train="mine_u:train", seeds="1", data_version="1")))
    Store.create(folder / "out", named)
    Store.check(folder / "out", named)
    with pytest.raises(StoreError):
        Store.check(folder / "out", manifest_of(prepare(load(None, train="mine_u:train", seeds="1", data_version="2"))))


def test_a_directory_from_before_takes_the_inputs_over(program: Path) -> None:
    new = manifest_of(planned())
    old = {key: value for key, value in new.experiment.items() if key != "inputs"}
    import dataclasses

    Store.create(program / "out", dataclasses.replace(new, experiment=old))
    Store.create(program / "out", new)
    (program / "c.json").write_text('{"base": 0.9}')
    with pytest.raises(StoreError):
        Store.check(program / "out", manifest_of(planned()))


def test_a_file_that_the_runs_themselves_wrote_does_not_make_the_next_launch_another(tmp_path: Path) -> None:
    old = {"inputs": {"files": {"d.csv": "1"}}}
    assert without_new_files(old, {"inputs": {"files": {"d.csv": "1", "out.csv": "2"}}}) == old
    assert without_new_files({"inputs": {}}, {"inputs": {"files": {"out.csv": "2"}}}) == {"inputs": {}}
    # The control: one that was there and is another now, or is gone, still differs.
    for files in ({"d.csv": "9", "out.csv": "2"}, {"out.csv": "2"}):
        assert without_new_files(old, {"inputs": {"files": files}}) != old
