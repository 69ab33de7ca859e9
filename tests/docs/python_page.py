"""docs/reference/python.md, made from the docstrings of the names that each house offers.

Signatures are read from the sources: what `inspect` shows differs from one Python to the next.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

HOUSES: Final = ("contracts", "coordinator", "participants", "client", "testing")

HEAD: Final = """\
# Python API

Made from the docstrings by `python -m tests.docs.pages`; a test compares them. Everything here is typed. What is not
named here is not part of the API.

| you write | import from |
|---|---|
| contracts, which both sides share | [`sagabus.contracts`](#sagabuscontracts) |
| a saga | [`sagabus.coordinator`](#sagabuscoordinator) |
| a participant | [`sagabus.participants`](#sagabusparticipants) |
| a program that starts sagas | [`sagabus.client`](#sagabusclient) |
| tests of a saga | [`sagabus.testing`](#sagabustesting) |
| tests of a participant | [`sagabus.participants.testing`](#sagabusparticipantstesting) |
"""

TESTING: Final = ("carried", "Carried")
"""Of `sagabus.participants.testing`, which has no list of its names."""

CALLED: Final = (
    "Service", "EventType", "SagaType", "RetryPolicy", "Participant", "Refused", "TryAgain", "SagaClient", "SagaTest",
)  # fmt: skip
"""Classes of which people make instances. All others are made for them."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def page() -> str:
    told: dict[Any, str] = {}
    lines = [HEAD]
    for house in HOUSES:
        module = importlib.import_module(f"sagabus.{house}")
        lines += _module(module, module.__all__, told)
    lines += _module(importlib.import_module("sagabus.participants.testing"), TESTING, told)
    return "\n".join(lines).rstrip() + "\n"


def _module(module: ModuleType, names: tuple[str, ...] | list[str], told: dict[Any, str]) -> Iterator[str]:
    """told: what was described before, and where."""
    yield from (f"## `{module.__name__}`\n", *_text(module.__doc__ or ""))
    for name in names:
        thing = getattr(module, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            yield f"### `{name} = {str(thing).replace('datetime.', '')}`\n"
        elif thing in told:
            yield f"### `{name}`\n\nThe same as `{told[thing]}`.\n"
        else:
            told[thing] = f"{module.__name__}.{name}"
            yield from _described(name, thing)


def _described(name: str, thing: Any) -> Iterator[str]:
    node = _source(thing)
    if isinstance(node, ast.ClassDef):
        yield f"### class `{name}{_constructor(thing, node)}`\n"
        yield from _text(inspect.getdoc(thing) or "")
        members = [line for one in _own_classes(thing) for line in _members(_source(one))]
        yield from (*members, "") if members else ()
    else:
        assert isinstance(node, Function)
        yield from (f"### `{_signature(node)}`\n", *_text(inspect.getdoc(thing) or ""))


def _own_classes(thing: type[Any]) -> list[type[Any]]:
    """It, and the bases that it has of ours; not those that are described by themselves."""
    ours = [one for one in thing.__mro__ if one.__module__.startswith("sagabus.")]
    return [one for one in ours if one is thing or one.__name__.startswith("_")]


def _source(thing: Any) -> ast.stmt:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def _constructor(thing: type[Any], node: ast.ClassDef) -> str:
    """Its arguments, of `__init__` or of a dataclass."""
    if thing.__name__ not in CALLED:
        return ""
    made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    return f"({_arguments(made)})" if made is not None else f"(*, {', '.join(map(ast.unparse, fields))})"


def _members(node: ast.stmt) -> Iterator[str]:
    """What has words of its own: attributes with a string below them, properties, methods."""
    assert isinstance(node, ast.ClassDef)
    for one, below in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not one.target.id.startswith("_"):
            is_told = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            words = str(below.value.value) if is_told else ""  # type: ignore[attr-defined]
            yield _member(f"{one.target.id}: {ast.unparse(one.annotation)}", words)
        elif isinstance(one, Function) and not one.name.startswith("_"):
            yield from _method(one)


def _method(node: Function) -> Iterator[str]:
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    words = ast.get_docstring(node) or ""
    if marks & {"property", "cached_property"}:
        yield _member(f"{node.name}: {ast.unparse(node.returns) if node.returns else 'Any'}", words)
    elif words and "overload" not in marks:
        yield _member(_signature(node), words)


def _member(head: str, words: str) -> str:
    said = " ".join(words.split())
    return textwrap.fill(
        f"- `{head}`{': ' if said else ''}{said}",
        120,
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _signature(node: Function) -> str:
    returned = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    is_async = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{is_async}{node.name}({_arguments(node)}){returned}"


def _arguments(node: Function) -> str:
    """Without `self`."""
    given = node.args
    first = given.posonlyargs or given.args
    if first and first[0].arg == "self":
        del first[0]
    return ast.unparse(given)


def _text(words: str) -> Iterator[str]:
    """Paragraphs, wrapped; what is indented stays as it is."""
    for part in inspect.cleandoc(words).split("\n\n"):
        if part.startswith("    ") or "\n  " in part:
            yield from ("```text", *textwrap.dedent(part).splitlines(), "```", "")
        else:
            yield textwrap.fill(" ".join(part.split()), 120, break_on_hyphens=False, break_long_words=False) + "\n"
