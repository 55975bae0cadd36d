"""Secrets that strayed into a config are not written anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

HIDDEN = "***"

_ALWAYS = {
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "secrets",
    "credential",
    "credentials",
    "apikey",
}
_PAIRS = {("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("account", "key")}
# In machine learning a token is more often a piece of text: pad_token, mask_token, token_type.
_TOKEN_OF = {
    "auth",
    "access",
    "bearer",
    "refresh",
    "session",
    "api",
    "hf",
    "wandb",
    "github",
    "hub",
    "id",
    "my",
}
_URL = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^/@\s:]*:[^/@\s]*@")


def is_secret(key: str) -> bool:
    """Whether a key names a password, an API key, a token or the like."""
    words = re.findall(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+|[0-9]+", key)
    words = [word.lower() for word in words]
    if any(word in _ALWAYS for word in words) or any(pair in _PAIRS for pair in pairwise(words)):
        return True
    if not words or words[-1] != "token":
        return False
    return len(words) == 1 or words[-2] in _TOKEN_OF


def redact(value: Any) -> Any:
    """A copy of plain data in which the values of secret keys read `***`; so do passwords in URLs, and the
    values of `--token=…` and `--token …` among the words of a command. None and booleans stay."""
    if isinstance(value, Mapping):
        return {key: _hidden(inner) if is_secret(str(key)) else redact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return _words(list(value))
    if isinstance(value, str):
        return _URL.sub(rf"\g<1>{HIDDEN}@", value)
    return value


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _hidden(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner) for inner in value]
    return value if value is None or isinstance(value, bool) else HIDDEN


def _words(words: list[Any]) -> list[Any]:
    out: list[Any] = []
    option = ""
    for word in words:
        if isinstance(word, str) and option and is_secret(option) and not word.startswith("-"):
            out.append(HIDDEN)
            option = ""
            continue
        option = ""
        if isinstance(word, str) and (found := re.fullmatch(r"(-{0,2}[\w.-]+)=(.*)", word, re.DOTALL)):
            out.append(f"{found[1]}={HIDDEN}" if is_secret(found[1]) else redact(word))
            continue
        if isinstance(word, str) and word.startswith("-"):
            option = word
        out.append(redact(word))
    return out
