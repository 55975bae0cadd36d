"""What a config can say: every key with its type, its default and one line about it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sweep.errors import ConfigError
from sweep.goals import direction
from sweep.seeds import parse_seed, parse_seeds

DEFAULT_RECIPE = "sweep.train.recipes:classifier"
DEFAULT_NAME = "digits-mlp"
STREAMS = ("init", "order", "augment", "dropout", "split")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_DEVICES = re.compile(
    r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?"
)  # files of these names are devices on Windows
_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_BEST = re.compile(r"best\(\s*([^()\s]+)\s*\)")
_DURATION = re.compile(r"(?:([0-9.]+)d)?(?:([0-9.]+)h)?(?:([0-9.]+)m(?:in)?)?(?:([0-9.]+)s)?")
_HALF_WIDTH = re.compile(r"(\S+)\s*(?:±|\+-|\+/-)\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)")
_ORDER = re.compile(r"(\S+):\s+(\S.*?)\s*[<>]\s*(\S.*)")


def wrong(what: str, hint: str | None = None) -> NoReturn:
    """Refuse a value from inside a validator, with the next step beside it."""
    raise PydanticCustomError("refused", "{what}", {"what": what, "hint": hint})


def _seed(raw: Any) -> int:
    try:
        return parse_seed(raw)
    except ConfigError as problem:
        wrong(problem.what, problem.hint)


def _seeds(raw: Any) -> tuple[int, ...]:
    try:
        return parse_seeds(raw)
    except ConfigError as problem:
        wrong(problem.what, problem.hint)


def _name(raw: Any) -> Any:
    if isinstance(raw, str) and (not _NAME.fullmatch(raw) or _DEVICES.fullmatch(raw) or raw.endswith(".")):
        wrong(
            f"{show(raw)} cannot name a directory everywhere",
            "use letters, digits, . _ and -, at most 100, the first a letter, digit or _",
        )
    return raw


def _reference(raw: Any) -> Any:
    if isinstance(raw, str) and not _REFERENCE.fullmatch(raw):
        wrong(
            f"{show(raw)} is not of the form module:name",
            "for example my_script:train (the file my_script.py)",
        )
    return raw


def _command(raw: Any) -> Any:
    if isinstance(raw, str):
        try:
            words = shlex.split(raw)
        except ValueError:
            words = ["python", "train.py", "--seed", "{seed}"]
        wrong("is one text; a command is a list of words", f"write [{', '.join(map(repr, words))}]")
    if isinstance(raw, list | tuple):
        if not raw:
            wrong("is empty", 'for example [python, train.py, --seed, "{seed}"]')
        if any(isinstance(word, str) and "\0" in word for word in raw):
            wrong("holds a NUL character", "no program can be given one")
        return tuple(raw)
    return raw


def _tuple(raw: Any) -> Any:
    return tuple(raw) if isinstance(raw, list) else raw


def _vary(raw: Any) -> Any:
    words = raw.split(",") if isinstance(raw, str) else raw
    if isinstance(words, list | tuple):
        words = tuple(word.strip() if isinstance(word, str) else word for word in words)
        if len(set(map(str, words))) != len(words):
            wrong(f"names a stream twice: {', '.join(map(str, words))}")
    return words


def _device(raw: Any) -> Any:
    if isinstance(raw, str) and (found := re.fullmatch(r"(?:cuda|gpu):?([0-9]+)", raw)):
        wrong(
            f"{show(raw)} names one GPU; a run is given its GPU when it starts",
            f"write device: cuda, and CUDA_VISIBLE_DEVICES={found[1]} before the command to keep to that one",
        )
    return raw


def _lanes(raw: Any) -> Any:
    if raw in ("auto", "off") and isinstance(raw, str):
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 1:
        wrong(f"must be auto, off or a whole number from 1, not {show(raw)}")
    return raw


def _duration(raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    found = _DURATION.fullmatch(raw.strip())
    if found is None or not any(found.groups()):
        wrong(f"{show(raw)} is no length of time", "write seconds, or for example 90s, 30m, 2h, 1h30m")
    try:
        parts = [float(part or 0) for part in found.groups()]
    except ValueError:
        wrong(f"{show(raw)} is no length of time", "write seconds, or for example 90s, 30m, 2h, 1h30m")
    return sum(part * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=True))


def _names_test(metric: str) -> bool:
    return "test" in re.split(r"[^a-z0-9]+", metric.lower())


def _rule(raw: Any) -> Any:
    if not isinstance(raw, str) or raw == "final":
        return raw
    found = _BEST.fullmatch(raw.strip())
    if found is None:
        wrong(f"{show(raw)} is neither final nor best(METRIC)", "for example best(val/loss)")
    if _names_test(found[1]):
        wrong(
            f"{show(raw)} chooses the epoch on test data: the test score would then be too good",
            "choose on validation data, best(val/loss), or report the last epoch, final",
        )
    return f"best({found[1]})"


def _checkpoint(raw: Any) -> Any:
    return {"keep": raw} if isinstance(raw, str) else raw


def _until(raw: Any) -> Any:
    if isinstance(raw, str) and not (_HALF_WIDTH.fullmatch(raw.strip()) or _ORDER.fullmatch(raw.strip())):
        wrong(
            f"{show(raw)} is no rule for stopping", 'write "test/accuracy ± 0.005" or "test/accuracy: A > B"'
        )
    return raw.strip() if isinstance(raw, str) else raw


def _inside(raw: Any) -> Any:
    """A file the program writes; `..` is refused early because records never point out of their directory."""
    if isinstance(raw, str) and (not raw.strip() or "\0" in raw or ".." in PurePosixPath(raw).parts):
        wrong(
            f"{show(raw)} is not a file that a run can write",
            'for example metrics.json or "{dir}/metrics.json"',
        )
    return raw


def _pattern(raw: Any) -> Any:
    if isinstance(raw, str):
        try:
            groups = re.compile(raw).groupindex
        except (re.error, RecursionError, OverflowError) as error:
            wrong(f"{show(raw)} is not a regular expression: {error}")
        if not groups:
            wrong(f"{show(raw)} names no metric", r"name a group: accuracy=(?P<accuracy>[0-9.]+)")
    return raw


def _grid(raw: Any) -> Any:
    if not isinstance(raw, Mapping):
        return raw
    flat: dict[str, Any] = {}
    for path, values in flatten(raw):
        _below_params(path)
        if not isinstance(values, list | tuple):
            wrong(f"{path} must be a list of values, not {show(values)}", f"write {path}: [{values}]")
        if not values:
            wrong(f"{path} has no values", "name at least one, or leave the key out")
        texts = [repr(value) for value in values]
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            wrong(f"{path} names {twice} twice", "each variant counts once")
        flat[path] = list(values)
    _disjoint(list(flat))
    return flat


def _tasks(raw: Any) -> Any:
    """Every task as {"params": {...}}, whichever way it was written."""
    if not isinstance(raw, Mapping):
        return raw
    tasks: dict[str, Any] = {}
    for name, changes in raw.items():
        if not isinstance(changes, Mapping):
            wrong(
                f"{name} must say what it changes, not {show(changes)}",
                f"{name}: {{params.data.name: digits}}",
            )
        params: dict[str, Any] = {}
        for key, value in changes.items():
            if key == "params" and isinstance(value, Mapping):
                params |= value
                continue
            _below_params(str(key))
            put(params, str(key).split(".")[1:], value)
        tasks[str(name)] = {"params": params}
    return tasks


def _below_params(path: str) -> None:
    if not re.fullmatch(r"params(\.[^.]+)+", path):
        wrong(
            f"{show(path)} cannot vary: only parameters can", f"write params.{path.removeprefix('params.')}"
        )


def _disjoint(paths: list[str]) -> None:
    for path in paths:
        for other in paths:
            if other.startswith(path + "."):
                wrong(f"{path} and {other} overlap", f"vary {other} only, or whole values of {path}")


def flatten(value: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """(dotted path, value) of everything below that is no mapping."""
    found: list[tuple[str, Any]] = []
    for key, inner in value.items():
        path = f"{above}.{key}" if above else str(key)
        found += flatten(inner, path) if isinstance(inner, Mapping) else [(path, inner)]
    return found


def put(value: dict[str, Any], path: list[str], leaf: Any) -> None:
    """Set the entry of nested dicts at `path`, in place."""
    for key in path[:-1]:
        inner = value.get(key)
        value[key] = value = dict(inner) if isinstance(inner, Mapping) else {}
    value[path[-1]] = leaf


def show(value: object, limit: int = 60) -> str:
    """A value as it can stand in a message: quoted, on one line, cut."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 20]}… ({len(text)} characters)"


Duration = Annotated[float, BeforeValidator(_duration), Field(gt=0, allow_inf_nan=False)]
File = Annotated[str, BeforeValidator(_inside)]
Pattern = Annotated[str, BeforeValidator(_pattern)]


class Part(BaseModel):
    """A group of keys: immutable, no other keys, no conversion of text to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Resources(Part):
    """What one run is given on a cluster."""

    cpus: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = Field(
        None, description="cores of one run; default: threads"
    )
    gpus: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        0.0, description="GPUs of one run, 0 to 1; several runs can share one"
    )


class Checkpoint(Part):
    """When a run saves what it needs to go on after a crash, and which epoch is its result."""

    every_epochs: Annotated[int | None, Field(ge=1)] = Field(None, description="save after so many epochs")
    every_seconds: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = Field(
        None, description="save after so many seconds; 60 when neither is given"
    )
    keep: Annotated[str, BeforeValidator(_rule)] = Field(
        "final", description="the result's epoch: final, or best(val/loss)"
    )

    @model_validator(mode="before")
    @classmethod
    def _interval(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            if raw.get("every_epochs") is not None and raw.get("every_seconds") is not None:
                wrong("every_epochs and every_seconds exclude each other", "keep one of the two")
            if raw.get("every_epochs") is None and raw.get("every_seconds") is None:
                return {**raw, "every_seconds": 60.0}
        return raw

    @property
    def best(self) -> str | None:
        """The metric of `best(METRIC)`, None for `final`."""
        found = _BEST.fullmatch(self.keep)
        return found[1] if found else None


class Collect(Part):
    """Where the metrics of a command are found after it ended: the last value counts, never an extremum."""

    json_file: File | None = Field(None, alias="json", description="a JSON file, or JSON lines")
    csv: File | None = Field(None, description="a CSV file with a header; its last row counts")
    regex: Pattern | None = Field(None, description="over stdout; named groups are metrics")
    tensorboard: File | None = Field(None, description="a folder of TensorBoard event files")
    step: str | None = Field(None, description="the name of the step or epoch among them")
    names: dict[str, str] = Field(
        default_factory=dict, description="their names -> ours, e.g. {acc: test/accuracy}; empty: as they are"
    )
    predictions: dict[str, File] = Field(
        default_factory=dict, description="split -> .npz the program writes, e.g. {test: predictions.npz}"
    )


Task = dict[str, Any]
Stream = Literal["init", "order", "augment", "dropout", "split"]


class Config(Part):
    """A sweep as it was asked for, every default filled in. Made by `load`; equal configs are equal."""

    name: Annotated[str, BeforeValidator(_name)] = Field(
        DEFAULT_NAME, description="names the run directory; default: the file's stem"
    )
    seed: Annotated[int, BeforeValidator(_seed)] = Field(42, description="one run; 0 to 2**32 - 1")
    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] = Field(
        (42,), description="a sweep: [42, 123, 456], 0-9, @seeds.txt; default: [seed]"
    )
    deterministic: bool = Field(False, description="true: bit-exact; false: fast, approximately reproducible")
    recipe: Annotated[str | None, BeforeValidator(_reference)] = Field(
        None, description=f"module:name of a recipe; default {DEFAULT_RECIPE}"
    )
    train: Annotated[str | None, BeforeValidator(_reference)] = Field(
        None, description="module:name of a function train(run, **params)"
    )
    command: Annotated[tuple[str, ...] | None, BeforeValidator(_command)] = Field(
        None, description="words of any program; {seed} {dir} {device} {run_id} are replaced"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of recipe or train")
    collect: Collect | None = Field(None, description="where the metrics of a command are found")
    primary: str | None = Field(None, min_length=1, description="the headline metric, e.g. test/accuracy")
    goals: dict[str, Literal["max", "min"]] = Field(
        default_factory=dict, description="direction of metrics we do not know: {my_metric: max}"
    )
    grid: Annotated[dict[str, list[Any]], BeforeValidator(_grid)] = Field(
        default_factory=dict, description="variants: {params.optimizer.lr: [0.01, 0.1]}"
    )
    tasks: Annotated[dict[str, Task], BeforeValidator(_tasks)] = Field(
        default_factory=dict, description="several data sets: {digits: {params.data.name: digits}, ...}"
    )
    references: dict[str, Annotated[tuple[float, float], BeforeValidator(_tuple)]] = Field(
        default_factory=dict, description="task -> [score worth 0, score worth 1], to normalise across tasks"
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], BeforeValidator(_device)] = Field(
        "auto", description="auto, cpu or cuda"
    )
    threads: int = Field(1, ge=1, le=1024, description="torch threads of a run; decides bits on a CPU")
    lanes: Annotated[int | str, BeforeValidator(_lanes)] = Field(
        "auto", description="seeds trained side by side in one process on a GPU: auto, off or a number"
    )
    resources: Resources = Field(default_factory=Resources, description="what one run is given on a cluster")
    checkpoint: Annotated[Checkpoint, BeforeValidator(_checkpoint)] = Field(
        default_factory=lambda: Checkpoint(every_seconds=60.0),
        description="{every_epochs: 5}, or best(val/loss)",
    )
    timeout: Duration | None = Field(None, description="longest time of one run: seconds, 30m, 2h")
    retries: int = Field(2, ge=0, le=100, description="new attempts after a worker was lost")
    vary: Annotated[tuple[Stream, ...], BeforeValidator(_vary)] = Field(
        (), description="hold all streams of randomness but these: init, order, augment, dropout, split"
    )
    repeats: int = Field(1, ge=1, le=10_000, description="runs of the same seed, for noise that is no seed's")
    until: Annotated[str | None, BeforeValidator(_until)] = Field(
        None, description='add seeds until "test/accuracy ± 0.005" or "test/accuracy: A > B"'
    )
    max_seeds: int | None = Field(None, ge=1, le=1_000_000, description="the most seeds that until may use")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        # An empty value in YAML (`params:` with every line below commented out) means: not given.
        given = {key: value for key, value in raw.items() if value is not None}
        if not any(key in given for key in ("recipe", "train", "command")):
            given["recipe"] = DEFAULT_RECIPE
        if "seeds" not in given and "seed" in given:
            given["seeds"] = [given["seed"]]
        return given

    @model_validator(mode="after")
    def _together(self) -> Config:
        ways = [key for key in ("recipe", "train", "command") if getattr(self, key) is not None]
        if len(ways) > 1:
            wrong(
                f"{' and '.join(ways)} exclude each other",
                "exactly one of recipe, train and command says what runs",
            )
        if self.collect is not None and self.command is None:
            wrong("collect is for a command", "a recipe and a function report their metrics themselves")
        if self.max_seeds is not None and self.until is None:
            wrong("max_seeds does nothing without until", 'for example until: "test/accuracy ± 0.005"')
        if self.max_seeds is not None and self.max_seeds < len(self.seeds):
            wrong(f"max_seeds is {self.max_seeds}, but {len(self.seeds)} seeds are named")
        if self.checkpoint.best and direction(self.checkpoint.best, self.goals) is None:
            leaf = self.checkpoint.best.rpartition("/")[2]
            wrong(
                f"checkpoint.keep: whether more or less of {show(self.checkpoint.best)} is better is not known",
                f"say so: goals: {{{leaf}: max}}",
            )
        if unknown := [task for task in self.references if task not in self.tasks]:
            wrong(
                f"references names {show(unknown[0])}, which is no task",
                f"tasks: {', '.join(self.tasks) or 'none'}",
            )
        for name, task in self.tasks.items():
            below = {path for path, _ in flatten(task)}
            if both := sorted(below & set(self.grid)):
                wrong(
                    f"{both[0]} stands in grid and in tasks.{name}",
                    "the variant or the task sets it, not both",
                )
        return self


def describe() -> list[tuple[str, str, str]]:
    """(key, default as text, what it is) of every key, for help pages."""
    rows: list[tuple[str, str, str]] = []
    groups: dict[str, type[Part]] = {"resources": Resources, "checkpoint": Checkpoint, "collect": Collect}
    for key, info in Config.model_fields.items():
        default = info.get_default()
        rows.append((key, "" if default is None else _text(default), info.description or ""))
        if key in groups:
            for inner, part in groups[key].model_fields.items():
                rows.append(
                    (f"{key}.{part.alias or inner}", _text(part.get_default()), part.description or "")
                )
    return rows


def _text(default: Any) -> str:
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
