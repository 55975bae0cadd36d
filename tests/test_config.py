"""Reading a config: what a user may write, and that all else is refused with its place and a way out."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.config import Config, describe, from_dict, load, to_dict, to_yaml
from sweep.config.loading import plain
from sweep.config.yaml import parse
from sweep.errors import ConfigError
from sweep.prepare import manifest_of, prepare
from sweep.redaction import redact


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "digits.yaml"


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


# What a user may write


def test_the_embedded_default() -> None:
    config = load()
    assert (config.name, config.seeds, config.deterministic) == ("digits-mlp", (42,), False)
    assert config.recipe == "sweep.train.recipes:classifier"
    assert config.train is config.command is None


@pytest.mark.parametrize(("reference", "name"), [("forest:train", "forest"), ("pkg.sub.mod:fit", "mod")])
def test_a_sweep_of_a_function_is_called_by_its_module(reference, name):
    assert load(overrides=[f"train={reference}"]).name == name
    assert load(overrides=[f"train={reference}", "name=mine"]).name == "mine"


def test_a_file_overrides_and_arguments_in_this_order(file: Path) -> None:
    file.write_text("params: {epochs: 1, model: {name: mlp, hidden: [8, 8]}}\nthreads: 2\nseeds: 0-2\n")
    config = load(file, ["params.epochs=2", "params.model.hidden=[4]", "threads=3"], threads=4, seeds=None)
    assert config.params == {"epochs": 2, "model": {"name": "mlp", "hidden": [4]}}
    assert (config.threads, config.seeds, config.name) == (4, (0, 1, 2), "digits")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("1.5", 1.5),
        (".5", 0.5),
        ("-3", -3),
        ("0x10", 16),
        ("true", True),
        ("null", None),
        ("", None),
        ("adamw", "adamw"),
        ("2026-11-22", "2026-11-22"),
        ("1:30", "1:30"),
        ('"1e-3"', "1e-3"),
        ("'no'", "no"),
        ('"010"', "010"),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        ('"a,b"', "a,b"),
        ("größe", "größe"),
    ],
)
def test_values_read_alike_in_a_file_and_on_the_command_line(file: Path, written: str, value: object) -> None:
    file.write_text(f"params:\n  x: {written}\n", encoding="utf-8")
    for config in (load(file), load(None, [f"params.x={written}"])):
        assert config.params == {"x": value}
        assert isinstance(config.params["x"], type(value))


@pytest.mark.parametrize("written", ["no", "Yes", "on", "OFF", "None", "010", "1_000", ".nan", "nan", "-inf", "1e999"])
def test_values_that_readers_disagree_about_are_refused(file: Path, written: str) -> None:
    file.write_text(f"params:\n  x: {written}\n")
    assert "line 2" in refusal(file)
    assert f"params.x={written}" in refusal(None, [f"params.x={written}"])


@pytest.mark.parametrize("written", ["no", "OFF", "None", "010", "1_000", "true", "9" * 30])
def test_what_a_hint_says_to_write_for_text_survives_the_shell(
    written: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "named.py").write_text("def train(run, *, x: str = ''): return {'test/x': 1.0}\n")
    monkeypatch.chdir(file.parent)
    with pytest.raises(ConfigError) as caught:
        prepare(load(None, ["train=named:train", f"params.x={written}"]))
    in_a_file, on_a_line = re.findall(r"""text: (".*?"), on a command line ('".*?"')""", str(caught.value))[0]
    file.write_text(f"train: named:train\nparams: {{x: {in_a_file}}}\n")
    # A real shell takes the word apart, as it would when the hint is pasted.
    typed = subprocess.run(["sh", "-c", f"printf %s params.x={on_a_line}"], capture_output=True, text=True, check=True)
    for config in (load(file), load(None, ["train=named:train", typed.stdout])):
        assert prepare(config).config.params == {"x": written}


def test_a_number_for_a_parameter_that_is_declared_as_text_is_taken_as_it_was_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = "run, *, x: str = '', mode: Literal['1', '2'] = '1', of: list[str] = [], n: float = 0.0"
    (file.parent / "declared.py").write_text(
        f"from typing import Literal\ndef train({signature}): return {{'test/x': 1.0}}\n"
    )
    monkeypatch.chdir(file.parent)
    words = ["params.x=3.10", "params.mode=2", "params.of=[1, 2.50, a]", "params.n=1e5"]
    plan = prepare(load(None, ["train=declared:train", *words]))
    assert plan.cells[0].params == {"x": "3.10", "mode": "2", "of": ["1", "2.50", "a"], "n": 1e5}
    assert manifest_of(plan).config["params"]["x"] == "3.10"
    file.write_text("train: declared:train\nparams: {n: 2}\ngrid: {params.x: [3.10, 1e5, 3]}\n")
    assert [cell.params["x"] for cell in prepare(load(file)).cells] == ["3.10", "1e5", "3"]
    # A number of Python's was never written as text, and a parameter declared as a number stays one.
    with pytest.raises(ConfigError, match="must be text"):
        prepare(load(train="declared:train", params={"x": 3.1}))


def test_a_comma_list_is_a_grid_except_in_seeds() -> None:
    config = load(None, ["params.optimizer.lr=0.01,1e-3", "seeds=1,2", "params.s='a,b',c", "params.l=[1,2],[3]"])
    assert config.grid == {
        "params.optimizer.lr": [0.01, 0.001],
        "params.s": ["a,b", "c"],
        "params.l": [[1, 2], [3]],
    }
    assert config.seeds == (1, 2)
    assert config.params == {}


def test_one_value_on_the_command_line_outdoes_the_files_grid(file: Path) -> None:
    for grid in ("{params.optimizer.lr: [1, 2]}", "{params: {optimizer: {lr: [1, 2]}}}"):
        file.write_text(f"grid: {grid}\n")
        assert load(file).grid == {"params.optimizer.lr": [1, 2]}
        config = load(file, ["params.optimizer.lr=3"])
        assert config.grid == {}
        assert config.params == {"optimizer": {"lr": 3}}
        assert load(file, ["params={epochs: 3}"]).grid == {"params.optimizer.lr": [1, 2]}


def test_an_override_that_a_task_would_undo_is_refused(file: Path) -> None:
    file.write_text("tasks: {a: {params.data.name: digits}, b: {params: {data: {name: diabetes}}}}\n")
    assert load(file).tasks["a"] == {"params": {"data": {"name": "digits"}}}
    assert load(file, ["params.epochs=3"]).params == {"epochs": 3}
    assert "has no effect" in refusal(file, ["params.data.name=idx"])


def test_a_command_keeps_its_words_as_written(file: Path) -> None:
    file.write_text('command: [python, train.py, --lr, 1e-3, --n, 010, --on, no, --seed, "{seed}"]\n')
    words = ("python", "train.py", "--lr", "1e-3", "--n", "010", "--on", "no", "--seed", "{seed}")
    assert load(file).command == words
    assert load(None, ["command=[a, 1e-3]"]).command == ("a", "1e-3")
    assert load(None, command=["a", "{seed}"]).command == ("a", "{seed}")


def test_collect_says_where_a_commands_metrics_are() -> None:
    config = load(
        command=["a"],
        collect={"json": "{dir}/m.json", "regex": r"acc=(?P<acc>\S+)", "names": {"acc": "test/acc"}},
    )
    assert config.collect is not None
    assert config.collect.json_file == "{dir}/m.json"
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("0.5d", 43200)],
)
def test_timeouts(written: str, seconds: float) -> None:
    assert load(None, [f"timeout={written}"]).timeout == seconds


def test_checkpoint_rules() -> None:
    assert load().checkpoint.every_seconds == 60
    assert load(None, ["checkpoint=best(val/loss)"]).checkpoint.best == "val/loss"
    config = load(checkpoint={"every_epochs": 5, "keep": "best(val/f2)"}, goals={"f2": "max"})
    assert (config.checkpoint.every_epochs, config.checkpoint.every_seconds) == (5, None)
    assert "is not known" in refusal(checkpoint="best(val/f2)")
    for metric in ("test/loss", "test", "TEST/acc", "my/test_acc"):
        assert "test data" in refusal(checkpoint=f"best({metric})")


@pytest.mark.parametrize("rule", ["test/accuracy ± 0.005", "test/accuracy +- 1e-3", "test/accuracy: A > B"])
def test_stopping_rules_reach_us_whole(rule: str) -> None:
    assert load(None, [f"until={rule}", "max_seeds=64"]).until == rule


def test_plain_scalars_of_numpy_and_paths_are_data() -> None:
    config = load(params={"lr": np.float64(0.5), "n": np.int64(3), "p": Path("data"), "t": (1, 2)}, seed=np.int32(7))
    assert config.params == {"lr": 0.5, "n": 3, "p": "data", "t": [1, 2]}
    assert config.seeds == (7,)
    assert type(config.params["lr"]) is float


def test_every_key_that_is_not_text_is_named_beside_what_else_is_wrong() -> None:
    said = refusal(params={1: 2, "": 3, "a${x}": 4, "b": "${y}", "c": 5})
    assert "4 problems" in said
    assert all(part in said for part in ("the key 1 is not text", "the key '' is not text", "params.b (argument): "))


def test_seeds_of_a_file_beside_the_config(file: Path, tmp_path: Path) -> None:
    (tmp_path / "seeds.txt").write_text("1\n2\n")
    file.write_text('seeds: "@seeds.txt"\n')
    assert load(file).seeds == (1, 2)
    assert "seeds (from seeds=@seeds.txt): seeds.txt: " in refusal(file, ["seeds=@seeds.txt"])


def test_byte_order_mark_crlf_comments_anchors_and_an_empty_section(file: Path) -> None:
    text = "\ufeffparams: {a: &x [1, 2], b: *x}\r\ngrid:\r\n# grid is empty\r\n"
    file.write_bytes(text.encode())
    assert load(file).params == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("a'; echo foo", "a-echo-foo"),
        ("con", "sweep-con"),
        ("größe", "gr-e"),
        ("…", "sweep"),
        ("a" * 200, "a" * 100),
    ],
)
def test_any_file_name_gives_a_safe_name(tmp_path: Path, stem: str, name: str) -> None:
    file = tmp_path / f"{stem}.yaml"
    file.write_text("{}")
    assert load(file).name == name


def test_a_frozen_config_round_trips() -> None:
    config = load(None, ["params.lr=1,2", "vary=init,order", "lanes=off", "seeds=0-30"], name="a.b_c-1")
    assert from_dict(to_dict(config)) == config
    with pytest.raises(ValueError, match="frozen"):
        config.threads = 2  # type: ignore[misc]


def test_every_key_is_described() -> None:
    rows = describe()
    assert rows.keys() >= set(Config.model_fields)
    assert all(text for _, text in rows.values())


# What is refused: the content, then the place and the next step, as far as they are ours.
BAD_FILES = {
    "empty": ("", "digits.yaml: ", "built-in example"),
    "only comments": ("# nothing\n", "digits.yaml: ", "built-in example"),
    "a list": ("- 1\n- 2\n", "digits.yaml: ", "name: digits"),
    "a single value": ("hello\n", "digits.yaml: ", "name: digits"),
    "a python tag": ("name: a\nparams: {x: !!python/object/apply:os.system [touch marker]}\n", "line 2: ", "run code"),
    "a tag": ("params: {x: !!binary aGk=}\n", "line 1: ", "quote it if it is text"),
    "a tagged key": ("params: {!!str x: 1}\n", "line 1: ", "write it without aliases"),
    "duplicate keys": ("params:\n  lr: 1\n  epochs: 2\n  lr: 3\n", "line 4: ", "keep one"),
    "interpolation": ("params:\n  key: ${oc.env:HOME}\n", "line 2: ", "write the value itself"),
    "interpolation in a list": ("params: {x: [1, '${y}']}\n", "line 1: ", "write the value itself"),
    "two documents": ("name: a\n---\nname: b\n", "line 2: ", "one config per file"),
    "a merge key": ("params: {<<: {a: 1}}\n", "line 1: ", "write the keys out"),
    "a key that is no text": ("params: {1: a}\n", "line 1: ", 'quote it for text: "1"'),
    "a list as a key": ("params: {[a]: 1}\n", "line 1: ", "write it without aliases"),
    "an endless alias": ("params: &a {x: *a}\n", "line 1: ", "*a"),
    "a tab": ("params:\n\tlr: 1\n", "line 2: ", "indent with spaces"),
    "an unquoted colon": ("until: test/accuracy: A > B\n", "line 1: ", "quote"),
    "an unquoted at": ("seeds: @seeds.txt\n", "line 1: ", "quote"),
    "octal": ("params: {x: 010}\n", "params.x (line 1): ", "drop the leading 0"),
    "octal as a key": ("params: {010: a}\n", "line 1: ", 'quote it for text: "010"'),
    "octal for a number": ("threads: 010\n", "threads (line 1): ", "drop the leading 0"),
    "a value of the wrong kind": ("threads: 1.0\n", "threads (line 1): ", "write 1"),
    "no seeds": ("seeds:\n", "seeds (line 1): ", "42,123,456"),
    "two ways": ("recipe: a:b\ntrain: a:c\n", "digits.yaml: ", "exactly one"),
    "a command in one text": ('command: "python x.py"\n', "command (line 1): ", "write ['python', 'x.py']"),
    "a name that escapes": ("name: ../../etc/x\n", "name (line 1): ", "letters, digits"),
    "a choice on test": ("checkpoint: best(test/accuracy)\n", "checkpoint.keep (line 1): ", "best(val/loss)"),
    "a grid that is no list": ("grid: {params.lr: 0.1}\n", "grid (line 1): ", "write params.lr: [0.1]"),
    "a grid over no parameter": ("grid: {threads: [1, 2]}\n", "grid (line 1): ", "params.threads"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_its_place_and_the_next_step(
    case: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    content, place, step = BAD_FILES[case]
    file.write_text(content)
    said = refusal(file.name)
    assert said.startswith("digits.yaml: ")
    assert place in said
    assert step in said
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_all_problems_are_told_at_once(file: Path, snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    file.write_text(
        "nam: a\nthread: 2\nparams:\n  shuffle: no\ndeterministic: yes\nretries: -1\nthreads: '2'\n"
        "seeds: 1, 1\ncheckpoint: {keeep: final}\ndevice: cuda:1\nlr: 0.1\n"
    )
    snapshot("config/several-problems.txt", refusal(file.name))


BAD_OVERRIDES = {
    "no equals": (["epochs"], "epochs: ", "params.epochs=20"),
    "a config too late": (["configs/a.yaml"], "configs/a.yaml: ", "name the config first"),
    "hydra plus": (["+params.x=1"], "+params.x=1: ", "KEY=VALUE"),
    "hydra tilde": (["~params.x"], "~params.x: ", "no key can be removed"),
    "an empty key": (["params..lr=1"], "params..lr=1: ", "params.optimizer.lr"),
    "interpolation": (["params.api_key=${oc.env:SECRET}"], "params.api_key: ", "write the value itself"),
    "unknown": (["sedes=1,2"], "sedes (from sedes=1,2): ", "did you mean seeds?"),
    "a part of a key": (["gpus=1"], "gpus (from gpus=1): ", "did you mean resources.gpus?"),
    "misplaced": (["epochs=3"], "epochs (from epochs=3): ", "params.epochs"),
    "several values": (["threads=1,2"], "threads (from threads=1,2): ", "as a grid"),
    "an empty entry": (["params.lr=1,,2"], "params.lr=1,,2: ", "quote text"),
    "an empty last entry": (["params.lr=1,"], "params.lr=1,: ", "or quote text"),
    "an open bracket": (["params.x=[1,2"], "params.x=[1,2: ", "close brackets"),
    "below a list": (["params.x=[1,2]", "params.x.0=3"], "params.x.0 (from params.x.0=3): ", "the whole list"),
    "below seeds": (["seeds.0=3"], "seeds.0=3: ", "write seeds=…"),
    "seeds": (["seeds=1,01,+2,3-1,-4"], "seeds (from seeds=1,01,+2,3-1,-4): 4 problems", "1-3, both ends included"),
    "a function": ([len], "is not text of the form KEY=VALUE", "sweep.run(train)"),
    "twice in a grid": (["params.lr=0.1,0.10"], "grid (from params.lr=0.1,0.10): ", "0.1 twice"),
    "overlapping grid": (["params.a=1,2", "params.a.b=1,2"], "grid (from params.a.b=1,2): ", "vary params.a.b only"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_OVERRIDES)
def test_a_bad_override_is_refused_with_its_place_and_the_next_step(case: str) -> None:
    overrides, place, step = BAD_OVERRIDES[case]
    said = refusal(None, overrides)
    assert place in said
    assert step in said


def test_an_argument_of_another_kind_than_the_files_is_refused_or_replaces(file: Path) -> None:
    file.write_text("params: {layers: [1, 2]}\ngrid: x\n")
    assert "grid (line 2): must be keys with values" in refusal(file, params={"layers": {"0": 1}})
    file.write_text("params: {layers: [1, 2]}\n")
    assert load(file, params={"layers": {"0": 1}}).params == {"layers": {"0": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: a\n".encode("utf-16"), "UTF-16"),
        ("name: a\n".encode("utf-16-le"), "UTF-16"),
        (b"name: a\nparams: {x: \xff}\n", "line 2: the file is not UTF-8"),
        (b"name: a\x00b\n", "not valid YAML"),
        (b"a" * (2**20 + 1), "larger than 1 MiB"),
        (b"[" * 500_000, "nested deeper"),
        (b"{a: " * 50_000, "nested deeper"),
        (b"- " * 50_000, "nested deeper"),
    ],
    ids=["utf-16", "utf-16-le", "latin", "nul", "large", "deep lists", "deep maps", "deep blocks"],
)
def test_refuses_files_that_are_no_yaml(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    assert message in refusal(file)


def test_an_alias_bomb_is_counted_not_expanded(file: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    file.write_text("\n".join(lines))
    started = time.process_time()
    assert "more than 200000 values" in refusal(file)
    assert time.process_time() - started < 5  # ten billion values would take hours


def test_missing_files_and_directories(tmp_path: Path, file: Path) -> None:
    file.write_text("{}")
    assert f"did you mean {file}" in refusal(tmp_path / "digit.yaml")
    assert "is a directory" in refusal(tmp_path)
    assert "built-in example" in refusal(tmp_path / "no" / "x.yaml")
    assert "built-in example" in refusal("a\0b")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/x",
        "..",
        ".",
        "a\0b",
        "CON",
        "aux.txt",
        "-rf",
        "~",
        "%2e",
        "a\n",
        "a b",
        "a'b",
        "x" * 101,
        "",
    ],
)
def test_refuses_names_that_are_no_safe_folder(name: str) -> None:
    assert "name" in refusal(name=name)


@pytest.mark.parametrize(
    "settings",
    [
        {"params": {"x": float("nan")}},
        {"params": {"x": float("inf")}},
        {"params": {"x": object()}},
        {"params": {"x": np.zeros(3)}},
        {"params": {1: 2}},
        {"params": {"x": 2**70}},
        {"params": {"x": "${y}"}},
        {"params": {"${y}": 1}},
        {"params": {"x": "\ud800"}},
        {"params": [1]},
        {"timeout": 0},
        {"timeout": True},
        {"timeout": "soon"},
        {"lanes": 0},
        {"lanes": False},
        {"threads": 0},
        {"threads": True},
        {"repeats": 0},
        {"vary": "weather"},
        {"vary": "init,init"},
        {"goals": {"a": "up"}},
        {"resources": {"gpus": -1}},
        {"max_seeds": 3},
        {"until": "bored"},
        {"until": "test/accuracy ± 1", "seeds": "0-9", "max_seeds": 5},
        {"train": "noname"},
        {"train": print},
        {"command": []},
        {"command": ["a", 1]},
        {"collect": {"json": "x"}},
        {"command": ["a"], "collect": {"regex": "("}},
        {"command": ["a"], "collect": {"regex": "acc"}},
        {"command": ["a"], "collect": {"json": "../x"}},
        {"tasks": {"a": 1}},
        {"tasks": {"a": {"threads": 1}}},
        {"references": {"a": [0, 1]}},
        {"tasks": {"a": {}, "b": {}}, "references": {"a": [1, 1]}},
        {"tasks": {"a": {}, "b": {}}, "references": {"a": [0, 1], "b": [5, 2]}},
        {"grid": {"params.x": [1], "params.y": []}},
        {"grid": {"params.x": [1]}, "tasks": {"a": {"params.x": 1}}},
        {"checkpoint": {"every_epochs": 1, "every_seconds": 1}},
        {"checkpoint": "best"},
        {"nothing": 1},
        {"primary": ""},
        {"primary": "test/acc\nuracy"},
        {"primary": "a" * 201},
    ],
    ids=lambda settings: re.sub(r" at 0x[0-9a-f]+", "", str(settings)),
)
def test_refuses_arguments(settings: dict[str, Any]) -> None:
    text = refusal(**settings)
    assert any(key in text for key in settings)


def test_a_nested_argument_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "nested deeper" in refusal(params={"x": endless})


# Never an uncaught exception


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_give_a_config_or_a_config_error(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with contextlib.suppress(ConfigError):
        load(file)


pieces = st.sampled_from(
    [
        *"\n\n  :-[]{},#&*!|>'\"%@`?ax1",
        "params",
        "seeds",
        "grid",
        "name: ",
        "- ",
        "&a ",
        "*a",
        "${x}",
        "1e-3",
        "no",
    ]
    + [f"{key}: " for key in Config.model_fields]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(parts=st.lists(pieces, max_size=25))
def test_any_yaml_like_text_gives_a_config_or_a_config_error(file: Path, parts: list[str]) -> None:
    file.write_text("".join(parts))
    with contextlib.suppress(ConfigError):
        load(file)


@given(st.lists(st.text(max_size=30) | st.lists(pieces, max_size=8).map("".join), max_size=3))
def test_any_overrides_give_a_config_or_a_config_error(overrides: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        load(None, overrides)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: "${" not in text)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
data = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts.filter(bool), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(params=st.dictionaries(texts.filter(bool), data, max_size=4), deterministic=st.booleans())
def test_what_is_written_is_read_back(file: Path, params: dict[str, Any], deterministic: bool) -> None:
    config = load(params=params, deterministic=deterministic)
    assert config.params == params
    assert from_dict(to_dict(config)) == config
    if redact(to_dict(config)) == to_dict(config):
        file.write_text(to_yaml(to_dict(config)), encoding="utf-8")
        assert load(file) == config


@given(st.text(st.sampled_from("0123456789.eE+-_xonaf:~ "), max_size=8))
def test_we_never_disagree_in_silence_with_yaml_1_1(text: str) -> None:
    """Where PyYAML reads a number, so do we, the same one, or it is refused; its dates and 1:30 are text."""
    document = f"[{text}]" if text.strip() else "[]"
    refused: list[ConfigError] = []
    try:
        theirs = yaml.safe_load(document)
        ours = plain(parse(document)[0], lambda problem, path: refused.append(problem), ("params",))
    except (ConfigError, ValueError, yaml.YAMLError):
        return
    if refused:
        return
    for they, we in zip(theirs, ours, strict=True):
        if isinstance(they, float) and not isinstance(we, str):
            assert they == we or text.strip()[:1] == "."
        if isinstance(they, int) and not isinstance(they, bool) and ":" not in text:
            assert they == we


# Secrets


def test_secrets_are_hidden_and_look_alikes_are_not() -> None:
    value = {
        "api_key": "k", "wandbApiKey": "k",
        "nested": [{"password": "p", "hf_token": "t", "secrets": {"a": "b"}}],
        "token": "t", "url": "https://me:pw@host/x",
        "command": ["x", "--token", "t", "--api-key=k", "--lr", "1"],
        "tokenizer": "bpe", "max_tokens": 5, "pad_token": "<pad>", "author": "A", "keys": ["a"], "none": None,
    }  # fmt: skip
    assert redact(value) == {
        "api_key": "***", "wandbApiKey": "***",
        "nested": [{"password": "***", "hf_token": "***", "secrets": {"a": "***"}}],
        "token": "***", "url": "https://***@host/x",
        "command": ["x", "--token", "***", "--api-key=***", "--lr", "1"],
        "tokenizer": "bpe", "max_tokens": 5, "pad_token": "<pad>", "author": "A", "keys": ["a"], "none": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "export OPENAI_API_KEY=abc123def456", "curl -H 'X-Api-Key: abc123def456'", "Basic abc123def456",
        "https://x/c?sv=2&sig=abc123def456", "https://x/?X-Amz-Signature=abc123def456",
        "https://hooks.slack.com/services/T0/B0/abc123def456", "npm_abc123def456abc123def456abc123",
        "gsk_abc123def456abc123def456", "-----BEGIN PRIVATE KEY-----\nabc123def456\n-----END PRIVATE KEY-----",
    ],
)  # fmt: skip
def test_a_secret_within_a_text_is_hidden(text: str) -> None:
    for value in (text, {"note": text}, [text], ["sh", "-c", text]):
        shown = str(redact(value))
        assert "***" in shown
        assert "abc123def456" not in shown


def test_names_of_secrets_are_known_and_those_of_models_are_not() -> None:
    secret = "db_pass smtp_pass creds slack_webhook basic_auth tls_key hmac_key vault_token authtoken privatekey otp"
    plain = "forward_pass query_key pad_token tokenizer num_tokens key_dim pass_through cookiecutter auth_layers"
    assert redact(dict.fromkeys(secret.split(), "x")) == dict.fromkeys(secret.split(), "***")
    assert redact(dict.fromkeys(plain.split(), "x")) == dict.fromkeys(plain.split(), "x")
    for text in ("token={number}", "test/accuracy=0.5", "key: (?P<x>.*)", "tokens=123456789", "sort_key=abcdefgh"):
        assert redact({"regex": text}) == {"regex": text}


def test_a_secret_stands_in_no_message_and_no_yaml() -> None:
    assert "hunter2" not in refusal(resources={"password": "hunter2"})
    assert "hunter2" not in refusal(None, ["params.x=${hunter2}"])


# Weight


def test_reading_a_config_loads_nothing_heavy() -> None:
    code = "import sys, sweep.config as c; c.load(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "pandas", "numpy", "scipy"} & set(done.stdout.split())


# Parameters of what is trained are explained with the same words


@pytest.mark.parametrize(
    ("params", "messages"),
    [
        ({"epocs": 3}, ["params.epocs: unknown key", "did you mean epochs?"]),
        ({"lr": 0.1}, ["params.lr: unknown key", "did you mean optimizer.lr?"]),
        ({"optimizer": {"lrr": 1}}, ["params.optimizer.lrr: unknown key", "did you mean lr?"]),
        ({"model": {"name": "mpl"}}, ["params.model.name: must be mlp, cnn or resnet", "did you mean mlp?"]),
        ({"optimizer": {"lr": "1e-3"}}, ["params.optimizer.lr: must be a number, not '1e-3'", "remove the quotes"]),
        (
            {"epochs": -1, "batch_size": 1.5},
            ["2 problems", "params.epochs: must be at least 1", "params.batch_size: must be a whole number"],
        ),
    ],
)
def test_a_recipes_parameters_are_explained(params: dict[str, Any], messages: list[str]) -> None:
    from sweep.target.function import find
    from sweep.target.params import check_params

    with pytest.raises(ConfigError) as caught:
        check_params(find("sweep.train.recipes:classifier"), params, kind="recipe")
    assert all(message in str(caught.value) for message in messages), str(caught.value)


NAMED = re.findall(
    r"\S+",
    (
        "openai_key wandb_key slack_token hf_token aws_secret_access_key OPENAI_API_KEY anthropic_key github_pat "
        "auth_token bearer bearer_token secret_key client_secret private_key ssh_key signing_key db_password "
        "connection_string dsn webhook_url session_cookie Authorization x-api-key credentials huggingface_token "
        "comet_key neptune_api_token AWS_SESSION_TOKEN azure_key stripe_key telegram_token bot_token kaggle_key "
        "npm_token gitlab_token jwt sas_token"
    ),
)
PLAIN = re.findall(
    r"\S+",
    (
        "pad_token mask_token token_type max_tokens eos_token special_token first_token num_key key key_dim d_key "
        "query_key n_keys sort_key primary_key foreign_key group_key label_key keys cache_key image_key rng_key "
        "secretary author"
    ),
)


@pytest.mark.parametrize("name", NAMED)
def test_the_usual_names_of_secrets_are_known(name: str) -> None:
    assert redact({name: "hunter2"}) == {name: "***"}


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_of_machine_learning_is_no_secret(name: str) -> None:
    assert redact({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    "text",
    [
        "Bearer hunter2hunter2", "Authorization: Bearer hunter2", "curl -H 'Authorization: Bearer hunter2' x",
        "X-Api-Key: hunter2", "sk-hunter2hunter2hunter2",
        "https://host/x?token=hunter2&a=1", "https://host/x?a=1&api_key=hunter2", "ghp_hunter2hunter2hunter2",
        "https://me:hunter2@host/x", "xoxb-hunter2hunter2",
    ],
)  # fmt: skip
def test_a_secret_is_hidden_by_how_it_looks(text: str) -> None:
    for value in ({"x": text}, ["curl", "-H", text], [["x", text]]):
        assert "hunter2" not in str(redact(value))


def test_a_plain_text_is_kept() -> None:
    for text in ("https://host/x?split=test&a=1", "basic blocks", "sk-learn", "note: a text", "a/b:c", "key: value"):
        assert redact({"x": text}) == {"x": text}
