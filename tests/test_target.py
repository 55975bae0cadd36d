"""What a config names is found, checked and digested before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from sweep.errors import ConfigError, TargetError
from sweep.target.function import find, resolve, user_traceback
from sweep.target.params import bind, check_params


def test_a_function_of_the_current_folder_is_found(folder: Path) -> None:
    (folder / "mine_a.py").write_text("def train(run): return {}\n")
    assert find("mine_a:train").__name__ == "train"


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        ("nowhere_at_all:train", "no module 'nowhere_at_all'"),
        ("os.nowhere:train", "no module 'os.nowhere'"),
        ("os:pth", "os has no 'pth'"),
        ("os:path", "it is a module, not a function"),
        ("os", "not of the form module:function"),
        (":train", "not of the form module:function"),
        ("os:", "not of the form module:function"),
    ],
)
def test_what_cannot_be_found_is_named(folder: Path, reference: str, what: str) -> None:
    with pytest.raises(TargetError, match=what):
        find(reference)


def test_the_nearest_name_is_suggested(folder: Path) -> None:
    (folder / "mine_b.py").write_text("def training(run): return {}\n")
    with pytest.raises(TargetError, match="did you mean training"):
        find("mine_b:trainin")


@pytest.mark.parametrize("body", ["1 / 0", "def broken(:", "import missing_thing", "raise SystemExit(3)"])
def test_an_import_that_fails_shows_the_users_lines_only(folder: Path, body: str) -> None:
    (folder / "mine_c.py").write_text(f"{body}\n")
    with pytest.raises(TargetError, match="importing it failed") as caught:
        find("mine_c:train")
    assert "mine_c.py" in str(caught.value)
    assert "target.py" not in str(caught.value)
    sys.modules.pop("mine_c", None)


def test_a_traceback_starts_at_the_users_frame_and_keeps_its_cause(folder: Path) -> None:
    def inner() -> None:
        raise KeyError("inner cause")

    try:
        try:
            inner()
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        text = user_traceback(error)
    assert text.index("KeyError: 'inner cause'") < text.index("direct cause") < text.index("ValueError: outer")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_cannot_be_printed_has_a_traceback() -> None:
    assert "Unprintable" in user_traceback(Unprintable())


def train(run: Any, *, lr: float = 0.1, layers: int = 2, kind: Literal["a", "b"] = "a", free: Any = None) -> Any: ...


def needy(run: Any, *, lr: float) -> Any: ...


def anything(run: Any, **settings: Any) -> Any: ...


def pydantic_names(run: Any, *, model_config: int = 1, json: int = 2, p_x: int = 3) -> Any: ...


def test_defaults_are_filled_in() -> None:
    assert check_params(train, {"lr": 1}, kind="function") == {"lr": 1.0, "layers": 2, "kind": "a", "free": None}
    assert bind(train, {"lr": 1, "free": [1]}, kind="function") == {"lr": 1.0, "layers": 2, "kind": "a", "free": [1]}


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"lrr": 0.1}, "lr"),
        ({"lr": "high"}, "params.lr"),
        ({"lr": True}, "params.lr"),
        ({"layers": 1.5}, "params.layers"),
        ({"layers": "2"}, "params.layers"),
        ({"kind": "c"}, "params.kind"),
        ({"run": 1}, "run"),
        ({"free": float("nan")}, "not plain JSON"),
        ({"free": {1, 2}}, "not plain JSON"),
    ],
    ids=str,
)
def test_wrong_parameters_are_refused_by_name(params: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        check_params(train, params, kind="function")


def test_every_wrong_parameter_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        check_params(train, {"lr": "high", "layers": "many", "lrr": 1}, kind="function")
    assert all(name in str(caught.value) for name in ("params.lr", "params.layers", "lrr"))


def test_a_required_parameter_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="lr"):
        check_params(needy, {}, kind="function")


def test_open_ended_functions_take_what_they_are_given() -> None:
    assert check_params(anything, {"a": [1, {"b": None}]}, kind="function") == {"a": [1, {"b": None}]}
    assert bind(anything, {"a": 1}, kind="function") == {"a": 1}


def test_parameters_may_be_called_what_pydantic_uses_itself() -> None:
    plain = check_params(pydantic_names, {"json": 5}, kind="function")
    assert bind(pydantic_names, plain, kind="function") == {"model_config": 1, "json": 5, "p_x": 3}


def test_a_function_that_takes_no_run_is_refused(folder: Path) -> None:
    (folder / "mine_d.py").write_text("def none(): ...\ndef only(*, run): ...\ndef fine(run, /, *, a=1): ...\n")
    for name in ("none", "only"):
        with pytest.raises(TargetError, match="first parameter must take the run"):
            resolve("function", f"mine_d:{name}")
    assert resolve("function", "mine_d:fine")[0].reference == "mine_d:fine"
