"""docs/reference/http.md, made from the addresses of the API and from the models of what it takes and gives."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from sagabus.contracts.envelope import MAX_PAYLOAD
from sagabus.coordinator import http
from sagabus.coordinator.http.query import DEFAULT_LIMIT, MAX_WAIT
from sagabus.coordinator.http.request_answers import ANSWER_SECONDS
from sagabus.coordinator.store.operators import MAX_PAGE

HEAD: Final = f"""\
# HTTP API

Made from the code of the API by `python -m tests.docs.pages`; a test compares them.

A coordinator serves it at `SAGABUS_HTTP`. With `SAGABUS_TOKEN` set, each request needs `Authorization: Bearer TOKEN`.
Without it the API answers this machine only. Any coordinator of the namespace answers for any saga. The commands of
[commands.md](commands.md) use this API.

A body is JSON, with `Content-Type: application/json`, up to {MAX_PAYLOAD // 1024} KiB. An error is
`{{"error": {{"code", "message"}}}}`, with `message_id` if it is about a request that was published. The code is stable,
the message is for people. Fields may be added to answers; none is renamed or removed. An id in a path is
percent-encoded.
"""

PARAMETERS: Final = f"""\

| parameter | meaning |
|---|---|
| `wait` | Seconds, at most {MAX_WAIT:g}. For a saga: until it has ended. For a verb: until it is decided; \
{ANSWER_SECONDS:g} if it is not given. |
| `run` | Of several sagas that had this id one after the other, this one. Without it: the open one, else the latest. |
| `where` | Sagas with this attribute, as in `where=stage=waiting`; given several times, with all of them. |
| `limit` | At most so many, 1 to {MAX_PAGE}; {DEFAULT_LIMIT} if it is not given. |
| `cursor`, `after` | The `next` of the page before. |
"""

SIMPLE: Final[dict[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    datetime: "time",
}


def page() -> str:
    models = list(_models())
    sent = [one for one in models if one.__name__.endswith("Body")]
    given = [one for one in models if one not in sent]
    lines = [HEAD, "## Addresses\n", "```text", *_addresses(), "```", PARAMETERS]
    lines += ["## Bodies of requests\n", *(line for one in sent for line in _table(one))]
    lines += ["## Bodies of answers\n", *(line for one in given for line in _table(one))]
    return "\n".join(lines).rstrip() + "\n"


def _addresses() -> list[str]:
    """Of the module's words, the list."""
    words = importlib.import_module(f"{http.__name__}.application").__doc__ or ""
    return [line for line in words.splitlines() if line.startswith(("GET ", "POST "))]


def _models() -> Iterator[type[BaseModel]]:
    for found in pkgutil.iter_modules(http.__path__):
        module = importlib.import_module(f"{http.__name__}.{found.name}")
        for thing in list(vars(module).values()):
            is_model = inspect.isclass(thing) and issubclass(thing, BaseModel)
            if is_model and thing.__module__ == module.__name__ and not thing.__name__.startswith("_"):
                yield thing


def _table(model: type[BaseModel]) -> Iterator[str]:
    yield f"### {model.__name__}\n"
    words = inspect.cleandoc(model.__dict__.get("__doc__") or "")
    for part in filter(None, words.split("\n\n")):
        yield textwrap.fill(" ".join(part.split()), 120, break_on_hyphens=False, break_long_words=False) + "\n"
    yield from ("| field | value |", "|---|---|")
    yield from (f"| `{name}` | {_value(info)} |" for name, info in model.model_fields.items())
    yield ""


def _value(info: FieldInfo) -> str:
    default = "" if info.is_required() else "; may be omitted"
    return f"{_type(info.annotation)}{default}"


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    parts = get_args(annotation)
    if annotation is JsonValue:
        return "any JSON value"
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join("null" if part is NoneType else _type(part) for part in parts)
    if parts:
        return f"list of {_type(parts[0])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if inspect.isclass(annotation) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{one}`" for one in annotation)
    return SIMPLE[annotation]
