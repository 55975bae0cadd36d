"""The keys of a config, each with its type, its default and one line about it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sweep.config import rules
from sweep.config.explain import fields, model_in
from sweep.errors import ConfigError, show
from sweep.goals import direction, unknown_direction
from sweep.nested import flatten
from sweep.seeds import parse_seed

DEFAULT_RECIPE = "sweep.train.recipes:classifier"
DEFAULT_NAME = "digits-mlp"

Duration = Annotated[float, BeforeValidator(rules.duration), Field(gt=0, allow_inf_nan=False)]
File = Annotated[str, BeforeValidator(rules.file_name)]
Pattern = Annotated[str, BeforeValidator(rules.pattern)]


class Part(BaseModel):
    """A group of keys: immutable, no other keys, no conversion of text to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Resources(Part):
    """The cores and GPUs of one run."""

    cpus: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = Field(
        default=None, description="cores of one run; default: threads"
    )
    gpus: Annotated[float, BeforeValidator(rules.gpus), Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0,
        description="GPUs of one run: several runs can share one (0.5), or one run has several (4). With `vectorize`, "
        "GPUs of one worker",
    )


class Checkpoint(Part):
    """The times when a run saves what it needs to resume, and the epoch that is its result."""

    every_epochs: Annotated[int | None, Field(ge=1)] = Field(
        default=None, description="save a checkpoint after this many epochs"
    )
    every_seconds: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = Field(
        default=None, description="save a checkpoint after this many seconds; 60 if neither is set"
    )
    keep: Annotated[str, BeforeValidator(rules.epoch_rule)] = Field(
        default="final", description="the epoch that gives the result: final, or best(val/loss)"
    )

    @model_validator(mode="before")
    @classmethod
    def _interval(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            if raw.get("every_epochs") is not None and raw.get("every_seconds") is not None:
                rules.wrong("every_epochs and every_seconds cannot be combined", "keep one of the two")
            if raw.get("every_epochs") is None and raw.get("every_seconds") is None:
                return {**raw, "every_seconds": 60.0}
        return raw

    @property
    def best(self) -> str | None:
        """Return the metric of `best(METRIC)`, None for `final`."""
        found = rules.BEST.fullmatch(self.keep)
        return found[1] if found else None


class Collect(Part):
    """The places of a command's metrics after it has ended. The last value counts, never an extremum."""

    json_file: File | None = Field(default=None, alias="json", description="a JSON file, or JSON lines")
    csv: File | None = Field(default=None, description="a CSV file with a header; each column's last value counts")
    regex: Pattern | None = Field(
        default=None, description="a pattern for the output: acc={number}, or a regular expression with named groups"
    )
    tensorboard: File | None = Field(default=None, description="a folder of TensorBoard event files")
    step: str | None = Field(default=None, description="which of the values is the step or the epoch")
    names: dict[str, str] = Field(
        default_factory=dict, description="other names for metrics, e.g. {acc: test/accuracy}"
    )
    predictions: dict[str, File] = Field(
        default_factory=dict,
        description="the .npz file that the program writes for each split, e.g. {test: predictions.npz}",
    )
    scores: dict[str, File] = Field(
        default_factory=dict,
        description="the file with one score per item, e.g. {gsm8k: samples.jsonl} or samples.jsonl:exact_match",
    )


Stream = Literal["init", "order", "augment", "dropout", "split"]


class Config(Part):
    """The configuration of a sweep, with every default filled in. Made by `load`."""

    name: Annotated[str, BeforeValidator(rules.name)] = Field(
        default=DEFAULT_NAME,
        description="the name of the sweep; results go to runs/NAME; default: the name of the config file",
    )
    seed: Annotated[int, BeforeValidator(rules.one_seed)] = Field(
        default=42, description="the seed of one run, 0 to 2**32 - 1"
    )
    seeds: Annotated[tuple[int, ...], BeforeValidator(rules.many_seeds)] = Field(
        default=(42,),
        description="the seeds to train: 42,123,456, or 0-9, or both as in 0-9,42, or @FILE for a file of seeds; "
        "default: the value of seed",
    )
    deterministic: bool = Field(
        default=False,
        description="true: the same bits for the same seed; false: the fastest kernels, nearly the same results",
    )
    recipe: Annotated[str | None, BeforeValidator(rules.reference)] = Field(
        default=None, description=f"module:name of a recipe, e.g. my_recipe:recipe; default: {DEFAULT_RECIPE}"
    )
    train: Annotated[str | None, BeforeValidator(rules.reference)] = Field(
        default=None, description="module:name of a function train(run, **params), e.g. my_training:train"
    )
    command: Annotated[tuple[str, ...] | None, BeforeValidator(rules.command)] = Field(
        default=None,
        description='the command of any program, e.g. [python, train.py, "{seed}"]; {seed}, {dir}, {device} and '
        "{run_id} are replaced, and with folds {fold} and {folds}",
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of recipe or train, e.g. {epochs: 20}; those left out keep their defaults",
    )
    data: Annotated[tuple[str, ...], BeforeValidator(rules.paths)] = Field(
        default=(),
        description="files and folders that the runs read, e.g. [data/train.csv]; if their content changes, it is "
        "another experiment",
    )
    data_version: Annotated[str | None, BeforeValidator(rules.version)] = Field(
        default=None, description="a name for the data, if their content cannot be compared, e.g. 2026-11"
    )
    collect: Collect | None = Field(default=None, description="where the metrics of a command are found")
    cwd: Annotated[str | None, BeforeValidator(rules.cwd)] = Field(
        default=None,
        description="if it is {dir}, each run works in its own folder, with copies of the small files of this folder "
        "and links to files over 1 MiB and to large folders",
    )
    allow_shared: bool = Field(
        default=False,
        description="true: accept that runs write the same file of this folder at the same time, which otherwise gives "
        "the exit code 1",
    )
    primary: Annotated[str | None, BeforeValidator(rules.metric)] = Field(
        default=None, description="the primary metric, e.g. test/accuracy"
    )
    goals: dict[str, Literal["max", "min"]] = Field(
        default_factory=dict,
        description="whether larger is better (max) or smaller (min), for metrics that sweep does not know, "
        "e.g. {my_score: max}",
    )
    grid: Annotated[dict[str, list[Any]], BeforeValidator(rules.grid)] = Field(
        default_factory=dict, description="values to combine into variants, e.g. {params.optimizer.lr: [0.01, 0.1]}"
    )
    tasks: Annotated[dict[str, dict[str, Any]], BeforeValidator(rules.tasks)] = Field(
        default_factory=dict, description="several data sets, e.g. {digits: {params.data.name: digits}, ...}"
    )
    references: dict[str, Annotated[tuple[float, float], BeforeValidator(rules.reference_pair)]] = Field(
        default_factory=dict,
        description="for each task [score that becomes 0, score that becomes 1], to normalise, e.g. {pong: [-21, 15]}",
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], BeforeValidator(rules.device)] = Field(
        default="auto", description="where to train: auto (on a GPU if there is one), cpu or cuda"
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="torch threads of one run; on a CPU they affect the bits of the result",
    )
    lanes: Annotated[int | str, BeforeValidator(rules.lanes)] = Field(
        default="auto",
        description="how many seeds of a recipe train side by side on a GPU: auto (the default), off or a number, for "
        "example 16",
    )
    vectorize: Annotated[int, BeforeValidator(rules.vectorize)] = Field(
        default=0,
        description="how many seeds of a recipe train in one vectorised step: off or a number; it affects the bits",
    )
    resources: Resources = Field(default=Resources(), description="the cores and GPUs of one run, e.g. {gpus: 0.5}")
    checkpoint: Annotated[Checkpoint, BeforeValidator(rules.checkpoint)] = Field(
        default=Checkpoint(every_seconds=60.0),
        description="how often to save, {every_epochs: 5}, and which epoch counts, {keep: best(val/loss)}",
    )
    timeout: Duration | None = Field(
        default=None, description="the longest time that one run may take, in seconds or as in 30m or 2h"
    )
    retries: int = Field(
        default=2, ge=0, le=100, description="how often a run is tried again after its worker was lost"
    )
    vary: Annotated[tuple[Stream, ...], BeforeValidator(rules.streams)] = Field(
        default=(),
        description="let only these random streams differ between seeds: init, order, augment, dropout, split; for "
        "example order,dropout",
    )
    repeats: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="how often each seed is trained, to measure the noise that no seed controls",
    )
    folds: Annotated[int, BeforeValidator(rules.folds)] = Field(
        default=0,
        description="cut the data into this many folds, 2 to 1000 or off: each seed is trained once per fold and "
        "tested on it; for example 5",
    )
    until: Annotated[str | None, BeforeValidator(rules.until)] = Field(
        default=None,
        description='add seeds until this holds, for example "test/accuracy +- 0.005" or "test/accuracy: A > B"',
    )
    max_seeds: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="the largest number of seeds that until may use, for example 30; 64 if not set",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        # An empty value in YAML (`params:` with every line below commented out) counts as not given.
        given = {key: value for key, value in raw.items() if value is not None}
        if not any(key in given for key in ("recipe", "train", "command")):
            given["recipe"] = DEFAULT_RECIPE
        if "seeds" not in given and "seed" in given:
            with suppress(ConfigError):  # it is refused at its own path
                given["seeds"] = [parse_seed(given["seed"])]
        return given

    @model_validator(mode="after")
    def _together(self) -> Config:
        ways = [key for key in ("recipe", "train", "command") if getattr(self, key) is not None]
        if len(ways) > 1:
            rules.wrong(
                f"{' and '.join(ways)} cannot be combined",
                "name exactly one of recipe, train and command",
            )
        if self.collect is not None and self.command is None:
            rules.wrong(
                "collect works only with a command",
                "leave it out: recipes and functions report their metrics themselves",
            )
        if self.folds:
            given = {"repeats": self.repeats > 1, "vary: [split]": "split" in self.vary, "until": bool(self.until)}
            for other in (name for name, there in given.items() if there):
                rules.wrong(f"folds and {other} cannot be combined", "keep one of the two")
        if self.max_seeds is not None and self.until is None:
            rules.wrong("max_seeds has no effect without until", 'add for example until: "test/accuracy ± 0.005"')
        if self.max_seeds is not None and self.max_seeds < len(self.seeds):
            rules.wrong(f"max_seeds is {self.max_seeds}, but {len(self.seeds)} seeds are named")
        if self.checkpoint.best and direction(self.checkpoint.best, self.goals) is None:
            leaf = self.checkpoint.best.rpartition("/")[2]
            rules.wrong(
                f"checkpoint.keep: {unknown_direction(self.checkpoint.best)}",
                f"set it, for example with goals: {{{leaf}: max}}",
            )
        if unknown := [task for task in self.references if task not in self.tasks]:
            known = f"tasks: {', '.join(self.tasks) or 'none'}"
            rules.wrong(f"references names {show(unknown[0])}, which is not a task", known)
        goal = direction(self.primary, self.goals) if self.primary else None
        for name, (worst, best) in self.references.items():
            goal = goal or ("max" if best > worst else "min")
            if (best > worst) != (goal == "max"):
                rules.wrong(
                    f"references.{name}: with the goal {goal}, the score that becomes 1 must be the better one",
                    f"write {name}: [{best}, {worst}], or set the goal of the metric in goals",
                )
        for name, task in self.tasks.items():
            below = {path for path, _ in flatten(task)}
            if both := sorted(below & set(self.grid)):
                rules.wrong(
                    f"{both[0]} is in grid and in tasks.{name}",
                    "set it in one of the two",
                )
        return self


def describe(model: type[BaseModel] = Config, above: str = "") -> dict[str, tuple[str, str]]:
    """Return the default, as text, and the meaning of every key, including nested ones like `checkpoint.keep`."""
    rows: dict[str, tuple[str, str]] = {}
    for name, info in fields(model).items():
        below = model_in(info.annotation)
        default = None if below else info.get_default(call_default_factory=True)
        rows[above + name] = _text(default), info.description or ""
        if below:
            rows |= describe(below, f"{above}{name}.")
    return rows


def _text(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "" if default in (None, {}) else str(default).lower() if isinstance(default, bool) else str(default)
