"""Redaction: secrets in a config or a source text are never written anywhere."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

HIDDEN = "***"
NOT_RECORDED = "its config has a secret value, which was not recorded"
SHORTEST = 6  # characters of a secret that is searched for in outputs: many words contain a shorter one
_NO_SECRETS = ("PWD", "OLDPWD")  # every shell sets these variables

_ALWAYS = frozenset(
    """
    password passwd passphrase pwd secret secrets credential credentials creds apikey authorization cookie cookies jwt
    dsn bearer webhook otp authtoken apitoken accesstoken accesskey secretkey privatekey
    """.split()  # noqa: SIM905
)
_PAIRS = frozenset({
    ("connection", "string"), ("github", "pat"), ("gitlab", "pat"), ("pass", "phrase"), ("basic", "auth"),
    ("http", "auth"), ("proxy", "auth"), ("service", "account"),
    *((of, "pass") for of in ("db", "database", "ftp", "keystore", "mysql", "proxy", "redis", "root", "smtp", "user")),
})  # fmt: skip
# In machine learning, a key usually belongs to attention or a table, and a token is a piece of text: `query_key`,
# `sort_key`, `pad_token`, `token_type`. Hidden values make experiments look equal, so the names of secrets are listed.
_ISSUERS = frozenset(
    """
    account anthropic api app access auth aws azure bot client clearml cohere comet consul databricks datadog deepseek
    deploy discord encryption fireworks gcp gemini github gitlab google groq hf hmac hub huggingface kaggle kube
    langchain langsmith license
    lightning master mistral mlflow my neptune npm nvidia oauth openai openrouter pinecone private pypi refresh
    replicate sas secret sendgrid sentry service session shared signing slack ssh ssl storage stripe subscription
    telegram tls together twilio vault wandb xai
    """.split()  # noqa: SIM905
)
_TOKEN_OF = _ISSUERS | {"bearer", "csrf", "id", "personal"}
_SIGNATURES = ("sig", "signature", "x-amz-signature", "x-goog-signature")  # of a URL: they give access to its target
_URL = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^/@\s:]*:[^/@\s]*@")
_QUERY = re.compile(r"([?&;])([\w.%-]+)=([^&;#\s\"']+)")
_BEARER = re.compile(r"\b(Bearer|Basic)\s+(?=\S*[0-9])[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_HEADER = re.compile(r"([\w-]+)(\s*:\s*)(\S.*)", re.DOTALL)
# The prefixes that services give their keys.
_SHAPE = re.compile(
    r"\b(sk-[\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}"
    r"|(AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+|npm_\w{30,}|pypi-\w{16,}|r8_\w{16,}"
    r"|gsk_\w{20,}|dop_v1_[0-9a-f]{32,}|hooks\.slack\.com/services/[\w/]+)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL,
)  # fmt: skip
# In the middle of a text: `export API_KEY=…`, `-H 'X-Api-Key: …'`, `Authorization: Bearer …`.
_GIVEN = re.compile(r"(?<![\w.%-])([\w-]{4,})(=|: *)(?:(?i:Bearer|Basic|Token) +)?[^\s\"'{}()]{6,}")


def is_secret(key: str) -> bool:
    """Return whether a key names a password, an API key, a token or the like."""
    words = [word.lower() for word in re.findall(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+|[0-9]+", key)]
    pairs = {*pairwise(words)}
    if not _ALWAYS.isdisjoint(words) or pairs & _PAIRS or any(b in ("key", "keys") and a in _ISSUERS for a, b in pairs):
        return True
    if not words or words[-1] not in ("token", "auth", "pat"):
        return False
    return len(words) == 1 or (words[-1] == "token" and words[-2] in _TOKEN_OF)


def redact(value: Any) -> Any:
    """Return a copy of plain data in which the values of secret keys read `***`.

    So do passwords and tokens in URLs, bearer headers, texts that look like the keys of well-known services, and the
    values of `--token=…` and `--token …` in a command. None and booleans are kept.
    """
    if isinstance(value, Mapping):
        return {key: _hidden(inner) if is_secret(str(key)) else redact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_word(before, word) for before, word in pairwise(("", *value))]
    if isinstance(value, str):
        return _text(value)
    return value


def _text(text: str) -> str:
    if (header := _HEADER.fullmatch(text)) and "://" not in text and is_secret(header[1]):
        return f"{header[1]}{header[2]}{HIDDEN}"
    text = _URL.sub(rf"\g<1>{HIDDEN}@", text)
    text = _QUERY.sub(
        lambda m: f"{m[1]}{m[2]}={HIDDEN}" if is_secret(m[2]) or m[2].lower() in _SIGNATURES else m[0], text
    )
    text = _GIVEN.sub(lambda m: f"{m[1]}{m[2]}{HIDDEN}" if is_secret(m[1]) and m[1] != "token" else m[0], text)
    return _SHAPE.sub(HIDDEN, _BEARER.sub(rf"\1 {HIDDEN}", text))


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _hidden(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner) for inner in value]
    return value if value is None or isinstance(value, bool) else HIDDEN


def _word(before: Any, word: Any) -> Any:
    """Return a word of a list, hidden if it follows `--token` or is `--token=…`."""
    if not isinstance(word, str):
        return redact(word)
    option = isinstance(before, str) and before.startswith("-") and "=" not in before
    if option and is_secret(before) and not word.startswith("-"):
        return HIDDEN
    found = re.fullmatch(r"(-{0,2}[\w.-]+)=(.*)", word, re.DOTALL)
    return f"{found[1]}={HIDDEN}" if found and is_secret(found[1]) else _text(word)


def known(*values: Any) -> tuple[bytes, ...]:
    """Return the secrets in plain data and in this process's environment, longest first, each without a line end.

    These are the texts that `redact` would hide, except file paths and texts shorter than `SHORTEST`.
    """
    found = {text for each in values for text in _differences(each, redact(each))}
    found |= _in_variables(tuple(os.environ.items()))
    # A program may print a password without its user, a token without `Bearer`, and a key line by line.
    parts = {part for text in found for part in (text, re.split(r"[\s:]", text)[-1], *text.splitlines())}
    secrets = {part for part in parts if len(part) >= SHORTEST and "\n" not in part and not os.path.exists(part)}
    return tuple(sorted((part.encode(errors="surrogateescape") for part in secrets), key=len, reverse=True))


@lru_cache(maxsize=1)  # called for each run, and the variables of a process seldom change
def _in_variables(variables: tuple[tuple[str, str], ...]) -> frozenset[str]:
    kept = {name: text for name, text in variables if name not in _NO_SECRETS}
    keys = {text for name, text in kept.items() if name.endswith(("TOKEN", "KEY"))}  # these are never keys of a table
    return frozenset(keys.union(_differences(kept, redact(kept))))


def _differences(value: Any, shown: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key in value:
            yield from _differences(value[key], shown[key])
    elif isinstance(value, list | tuple):
        for one, other in zip(value, shown, strict=True):
            yield from _differences(one, other)
    elif shown == HIDDEN:
        yield str(value)
    elif isinstance(value, str) and shown != value:
        pattern = "(.+?)".join(map(re.escape, shown.split(HIDDEN)))
        yield from (found.groups() if (found := re.fullmatch(pattern, value, re.DOTALL)) else [])


_Spot = tuple[int, int, int, int]  # the first and the last line of a literal, with columns in bytes


def redact_source(text: str) -> str:
    """Return Python source with `***` for each text that is assigned to a secret's name or looks like a secret."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text
    data = text.encode()
    starts = [0, *accumulate(len(line) for line in data.splitlines(keepends=True))]
    found = {spot for node in ast.walk(tree) for spot in _secrets_of(node)}
    for literal in found:
        start, end = starts[literal[0] - 1] + literal[1], starts[literal[2] - 1] + literal[3]
        hidden = repr(HIDDEN).encode()
        data = data[:start] + hidden.ljust(end - start, b"\0") + data[end:]  # keep the length until all are hidden
    return data.replace(b"\0", b"").decode()


def _secrets_of(node: ast.AST) -> Iterator[_Spot]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and redact(node.value) != node.value:
        yield from _texts(node)
    for name, value in _given(node):
        if name and value is not None and is_secret(name):
            yield from _texts(value)


def _texts(node: ast.AST) -> Iterator[_Spot]:
    """Yield the texts in an expression, except names that are used to look something up."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))):
        assert isinstance(node, ast.expr)
        yield node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or 0
    elif isinstance(node, ast.Subscript):
        yield from _texts(node.value)
    elif not (isinstance(node, ast.Call) and _called(node.func) in ("getenv", "get", "getpass", "input")):
        for each in ast.iter_child_nodes(node):
            yield from _texts(each)


def _given(node: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield (name, value) wherever a piece of syntax gives a value to a name."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            several = isinstance(target, (ast.Tuple, ast.List)) and isinstance(node.value, (ast.Tuple, ast.List))
            pairs = zip(target.elts, node.value.elts, strict=False) if several else [(target, node.value)]  # type: ignore[attr-defined]
            yield from ((_called(name), value) for name, value in pairs)
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
        yield _called(node.target), node.value
    elif isinstance(node, ast.keyword):
        yield node.arg or "", node.value
    elif isinstance(node, ast.Call):
        name = _called(node.func)
        keys = [each.value for each in node.keywords if each.arg == "key"] if name == "login" else []
        yield from (("password" if name == "login" else name, value) for value in (*node.args, *keys))
        # As in setenv("API_KEY", "…").
        yield from (
            (a.value, b) for a, b in pairwise(node.args) if isinstance(a, ast.Constant) and type(a.value) is str
        )
    elif isinstance(node, (ast.Tuple, ast.List)) and len(node.elts) == 2:
        first, second = node.elts  # one of a list of pairs
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value, second
    elif isinstance(node, ast.Dict):
        yield from ((_called(key), value) for key, value in zip(node.keys, node.values, strict=True))
    elif isinstance(node, ast.arguments):
        plain = [*node.posonlyargs, *node.args]
        last = plain[len(plain) - len(node.defaults) :]
        yield from ((argument.arg, value) for argument, value in zip(last, node.defaults, strict=True))
        yield from ((a.arg, value) for a, value in zip(node.kwonlyargs, node.kw_defaults, strict=True))


def _called(node: ast.expr | None) -> str:
    if isinstance(node, ast.Subscript):
        return _called(node.slice)
    if isinstance(node, ast.Constant):
        return str(node.value)
    return str(getattr(node, "id", getattr(node, "attr", "")))
