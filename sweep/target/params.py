"""The parameters of a function or recipe, checked against its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from sweep.config import explain
from sweep.errors import ConfigError
from sweep.plan import Json, canonical


def _model(function: Callable[..., Any], kind: str) -> type[BaseModel]:
    """Return a model of the parameters in a signature, without a training function's first one, the run."""
    try:
        hints = get_type_hints(function, include_extras=True)  # bounds are in Annotated
    except Exception:  # annotations may name things that exist only for a type checker; then nothing is checked
        hints = {}
    extra: Literal["allow", "forbid"] = "forbid"
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[kind == "function" :]:
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            default = ... if parameter.default is parameter.empty else parameter.default
            # Parameters may have any name, pydantic's attributes included: an alias keeps the two apart.
            fields[f"p_{parameter.name}"] = (hints.get(parameter.name, Any), Field(default, alias=parameter.name))
    config = ConfigDict(
        extra=extra, arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False, strict=True,
        populate_by_name=False,
    )  # fmt: skip
    return create_model("params", __config__=config, **fields)


def check_params(
    function: Callable[..., Any], params: Mapping[str, Json], *, kind: str, where: str = "params"
) -> dict[str, Json]:
    """Return the parameters with defaults filled in, as plain JSON.

    Raises: ConfigError with every problem, each at its path.
    """
    try:
        text = canonical(dict(params))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a value is not plain JSON ({error})", where=where) from None
    expected = _model(function, kind)
    try:
        # Through JSON, because strict mode then accepts a list for a tuple, but still no text for a number.
        model = expected.model_validate_json(text)
    except ValidationError as error:
        raise explain(error, where=where, model=expected) from error
    try:
        plain: dict[str, Json] = model.model_dump(mode="json", by_alias=True, warnings=False)
        canonical(plain)
    except Exception as error:
        raise ConfigError(f"a default cannot be written as JSON ({error})", where=where) from error
    return plain


def bind(function: Callable[..., Any], params: Mapping[str, Json], *, kind: str) -> dict[str, Any]:
    """Return the keyword arguments for `function` from a spec's params, with the types of its signature."""
    model = _model(function, kind)
    checked = model.model_validate_json(canonical(dict(params)))
    bound = {info.alias or name: getattr(checked, name) for name, info in model.model_fields.items()}
    return {**bound, **(checked.model_extra or {})}
