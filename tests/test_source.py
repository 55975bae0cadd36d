"""The digest of a run's source changes with what the source means, and the text of a notebook's function is kept."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sweep
from sweep.errors import ConfigError
from sweep.store import Store
from sweep.target.function import find, resolve
from sweep.target.source import built_in, mentions, source_digest, source_text


def digest(folder: Path, name: str, **files: str) -> str:
    for file, text in files.items():
        path = folder / f"{file.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for module in [m for m in sys.modules if m.split(".")[0] == name.split(".")[0]]:
        del sys.modules[module]
    return source_digest(find(f"{name}:train"))


def test_a_digest_follows_the_meaning_of_the_source_and_what_it_imports(folder: Path) -> None:
    text = "import mine_f\ndef train(run):\n    return mine_f.x\n"
    first = digest(folder, "mine_e", mine_e=text, mine_f="x = 1\n", mine_g="y = 1\n")
    assert first == digest(folder, "mine_e", mine_e="# said\n" + text.replace("    ", "  "))
    assert first == digest(folder, "mine_e", mine_g="y = 2\n")  # nobody imports it
    assert first != digest(folder, "mine_e", mine_f="x = 2\n")
    assert first == digest(folder, "mine_e", mine_f="x = 1\n")
    assert first != digest(folder, "mine_e", mine_e=text.replace("mine_f.x", "-mine_f.x"))


def test_relative_imports_count(folder: Path) -> None:
    (folder / "mine_p").mkdir()
    (folder / "mine_p" / "__init__.py").write_text("")
    text = "from .helper import x\nfrom . import other\ndef train(run): return x\n"
    files = {"mine_p__main": text, "mine_p__helper": "x = 1\n", "mine_p__other": "y = 1\n"}
    first = digest(folder, "mine_p.main", **files)
    assert first != digest(folder, "mine_p.main", mine_p__helper="x = 2\n")
    assert first != digest(folder, "mine_p.main", mine_p__helper="x = 1\n", mine_p__other="y = 2\n")
    assert first == digest(folder, "mine_p.main", **files)


def test_built_ins_answer_with_their_numerics() -> None:
    target, _ = resolve("recipe", "sweep.train.recipes:classifier")
    assert target.digest.startswith("numerics-")
    assert built_in(target.reference)
    assert not built_in("sweeping:train")


class Notebook:
    """Cells that share a session, as a kernel runs them: no file holds them, their text is kept by line."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.count = 0

    def cell(self, text: str) -> None:
        self.count += 1
        name = f"/no/such/folder/cell-{id(self)}-{self.count}.py"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), self.names)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = self.names[name]
        return found


TRAIN = "def train(run):\n    return {'test/accuracy': helper(run.seed) + SHIFT + len(TABLE)}\n"
HELPER = "def helper(seed):\n    return Scale().of(seed)\n"
INIT = "    def __init__(self):\n        super().__init__()\n"
SCALE = f"class Scale:\n{INIT}    def of(self, seed):\n        return seed * FACTOR['by']\n"
VALUES = "SHIFT, TABLE, FACTOR, UNUSED = 0.5, np.zeros(3), {'by': 2}, 1\n"


def session(**changed: str) -> Notebook:
    cells = {"values": VALUES, "scale": SCALE, "helper": HELPER, "train": TRAIN} | changed
    made = Notebook()
    made.names["np"] = np
    for text in cells.values():
        made.cell(text)
    return made


def test_what_a_notebooks_function_uses_counts_and_nothing_else() -> None:
    first = source_digest(session()["train"])
    assert first == source_digest(session()["train"])
    assert first == source_digest(session(values=VALUES.replace("{'by': 2}, 1", "{'by': 2}, 7"))["train"])
    assert first == source_digest(session(helper="# said\n" + HELPER)["train"])
    for changed in (
        {"train": TRAIN.replace("+ SHIFT", "- SHIFT")},
        {"helper": HELPER.replace("Scale()", "-1 * Scale()")},
        {"scale": SCALE.replace("seed *", "1 + seed *")},
        {"values": VALUES.replace("0.5", "0.25")},
        {"values": VALUES.replace("zeros", "ones")},
        {"values": VALUES.replace("{'by': 2}", "{'by': 3}")},
    ):
        assert source_digest(session(**changed)["train"]) != first, changed


def test_a_function_that_uses_nothing_of_its_session_has_the_digest_of_its_own_text() -> None:
    """The one that directories were made with before other cells counted."""
    import ast
    import hashlib

    text = "def alone(run):\n    return {'test/accuracy': 1.0}\n"
    made = Notebook()
    made.cell(text)
    assert source_digest(made["alone"]) == hashlib.sha256(ast.dump(ast.parse(text.rstrip())).encode()).hexdigest()


def test_the_text_of_a_notebooks_function_is_kept_with_what_it_uses() -> None:
    text = source_text(session()["train"])
    assert text.index("def train(run):") < text.index("def helper(seed):") < text.index("class Scale:")
    assert "SHIFT = 0.5" in text
    assert text.count("class Scale") == 1
    assert "FACTOR = {'by': 2}" in text
    assert "TABLE = <float64 (3,) sha256 " in text
    assert "UNUSED" not in text
    assert source_text(find("toys:line")) == ""  # a file holds it


def test_a_tensor_counts_by_its_values() -> None:
    def digest(values: torch.Tensor) -> str:
        made = Notebook()
        made.names["X"] = values
        made.cell("def train(run):\n    return {'a': float(X.sum())}\n")
        return source_digest(made["train"])

    assert digest(torch.zeros(2)) == digest(torch.zeros(2)) != digest(torch.ones(2))


def test_secrets_in_the_text_are_hidden() -> None:
    made = Notebook()
    made.cell(
        "API_KEY = 'sk-one'\n"
        "def train(run, *, token='sk-two'):\n"
        "    password = 'sk-three'\n"
        "    return open_(API_KEY, secret='sk-four', headers={'api_key': 'sk-five'}, é='kept')\n"
        "def open_(*a, **k):\n    return {'a': 1.0}\n"
    )
    text = source_text(made["train"])
    assert "sk-" not in text
    assert text.count("'***'") == 5
    assert "é='kept'" in text


@pytest.mark.parametrize(
    "line",
    [
        "API_KEY = str('hunter2')", "api_keys = ['hunter2', 'hunter2']; API_KEY = ('hunter2', f'hunter2{1}')",
        "API_KEY = 'hunt' 'hunter2' + 'hunter2'", "API_KEY = b'hunter2'", "API_KEY = '''\nhunter2\n'''",
        "set_api_key = len; set_api_key('hunter2')", "put = print; put('openai_key', 'hunter2')",
        "login = len; login('hunter2')", "login = dict; login(key='hunter2')", "api_key, x = 'hunter2', 3",
        "pairs = dict([('wandb_key', 'hunter2')])",
        "header = {'x': 'Bearer hunter2hunter2'}",
        "url = 'https://host/x?token=hunter2&a=1'", "x = 'sk-hunter2hunter2hunter2'",
    ],
)  # fmt: skip
def test_secrets_given_through_a_call_or_a_list_are_hidden(line: str) -> None:
    made = Notebook()
    made.cell(f"def train(run):\n    {line}\n    kept = 'é kept'; query_key = 'kept too'\n    return {{'a': 1.0}}\n")
    text = source_text(made["train"])
    assert "hunter2" not in text
    assert "'é kept'" in text
    assert "'kept too'" in text


def test_the_name_of_a_variable_that_holds_a_secret_is_none() -> None:
    made = Notebook()
    made.cell(
        "def train(run):\n    API_KEY = os.environ['OPENAI_API_KEY'] or os.getenv('HF_TOKEN')\n    return {'a': 1.0}\n"
    )
    assert "***" not in source_text(made["train"])


def test_a_module_beside_a_notebook_counts(folder: Path) -> None:
    def digest(value: int) -> str:
        (folder / "mine_k.py").write_text(f"x = {value}\n")
        sys.modules.pop("mine_k", None)
        made = Notebook()
        made.cell("import mine_k\ndef train(run):\n    return {'a': mine_k.x}\n")
        return source_digest(made["train"])

    sys.path.insert(0, str(folder))
    assert digest(1) == digest(1) != digest(2)


def test_what_a_function_closes_over_counts_wherever_it_is_defined() -> None:
    def made(factor: Any) -> Callable[..., Any]:
        def train(run: Any) -> dict[str, float]:
            return {"a": factor * run.seed}

        return train

    assert source_digest(made(1.0)) == source_digest(made(1.0)) != source_digest(made(2.0))
    loop: list[Any] = []
    loop.append(loop)  # looked into so far and no further
    assert source_digest(made(loop))


def test_the_arguments_of_a_partial_count() -> None:
    train = session()["train"]
    assert len({source_digest(partial(train, x=1)), source_digest(partial(train, x=2)), source_digest(train)}) == 3


def test_a_sweep_of_a_notebook_keeps_the_text_and_refuses_another(tmp_path: Path) -> None:
    first = sweep.run(session()["train"], seeds=[1, 2], engine="inline", out=tmp_path / "out")
    assert first.frame["test/accuracy"].tolist() == [5.5, 7.5]
    kept = Store.open(tmp_path / "out").manifest.source
    assert kept == source_text(session()["train"])
    changed = session(scale=SCALE.replace("seed *", "1 + seed *"))["train"]
    with pytest.raises(sweep.SweepError, match="digest"):
        sweep.run(changed, seeds=[1, 2], engine="inline", out=tmp_path / "out")


def test_what_would_be_passed_over_is_refused(folder: Path) -> None:
    (folder / "mine_v.py").write_text(
        "import mine_w\ndef train(run): return {'a': 1.0}\ndef other(run): return mine_w.draw(run)\n"
    )
    (folder / "mine_w.py").write_text("def draw(run): return {'a': float(run.seed)}\n")
    options: Any = {"seeds": [1], "engine": "inline", "out": folder / "out"}
    with pytest.raises(ConfigError, match=r"mine_v:train never uses run\.streams"):
        sweep.run({"train": "mine_v:train", "vary": ["order"]}, **options)
    with pytest.raises(ConfigError, match="a program gets only its seed"):
        sweep.run({"command": [sys.executable, "-c", "{seed}"], "vary": ["order"]}, **options)
    for way in ({"train": "mine_v:train"}, {"command": [sys.executable, "-c", "{seed}"]}):
        with pytest.raises(ConfigError, match=r"best\(val/loss\) chooses an epoch"):
            sweep.run({**way, "checkpoint": "best(val/loss)"}, **options)
    assert not (folder / "out").exists()
    (folder / "mine_w.py").write_text("def draw(run): return {'a': float(run.streams['order'])}\n")
    assert mentions(find("mine_v:other"), "streams")
    assert sweep.run({"train": "mine_v:other", "vary": ["order"]}, **options).frame["status"].tolist() == ["ok"]
