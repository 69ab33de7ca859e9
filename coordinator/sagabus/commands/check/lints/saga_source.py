"""A saga's functions as syntax, with what stands behind their names.

Names are followed through imports, their aliases and the module's globals, not through assignments: this is for
mistakes, not for malice.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from sagabus.commands.check.finding import Finding
from sagabus.commands.origin import shown_line
from sagabus.coordinator import SagaContext, SagaDefinition
from sagabus.coordinator.code_names import functions_named, objects_named

NOTHING: Final = object()
"""No value is known: of a local name, say."""

Function = ast.FunctionDef | ast.AsyncFunctionDef

_IGNORED: Final = re.compile(r"#\s*sagabus:\s*ignore\[([\w\-, ]+)\]")
_KNOWN: Final[Mapping[int, str]] = {
    id(os.environ): "os.environ", id(sys.argv): "sys.argv", id(sys.stdin): "sys.stdin", id(sys.stdout): "sys.stdout",
}  # fmt: skip
"""Objects without a name of their own."""


@dataclass(frozen=True, slots=True)
class Use:
    """A name with dots that the function uses, such as `datetime.datetime.now`, `pathlib.Path().read_text`."""

    name: str
    node: ast.expr
    call: ast.Call | None
    """The call that it is in, if it is called."""


@dataclass(frozen=True)
class SagaFunction:
    """first: whether it is the saga's own; else one of its module that the saga names."""

    definition: SagaDefinition[Any, Any]
    function: FunctionType
    node: Function
    file: str
    lines: Sequence[str]
    first: bool
    _locals: dict[str, str] = field(default_factory=dict)

    @property
    def saga(self) -> str:
        return f"{self.definition.name} version {self.definition.version}"

    def place(self, node: ast.AST) -> str:
        return shown_line(self.file, getattr(node, "lineno", self.node.lineno))

    def ignores(self, one: Finding) -> bool:
        """`# sagabus: ignore[code]` stands on its line."""
        line = int(one.place.rpartition(":")[2])
        said = _IGNORED.search(self.lines[line - 1]) if line <= len(self.lines) else None
        return said is not None and one.code in {code.strip() for code in said[1].split(",")}

    @cached_property
    def nodes(self) -> Sequence[ast.AST]:
        """All of its body, but for what is in `with ctx.unguarded():`, whose author knows why."""
        return [*self._walked(self.node)]

    def _walked(self, node: ast.AST) -> Iterator[ast.AST]:
        children = [*node.body] if node is self.node and isinstance(node, Function) else [*ast.iter_child_nodes(node)]
        if isinstance(node, ast.With | ast.AsyncWith) and any(map(self._is_unguarded, node.items)):
            return
        for child in children:
            yield child
            yield from self._walked(child)

    def _is_unguarded(self, item: ast.withitem) -> bool:
        call = item.context_expr
        return isinstance(call, ast.Call) and self.method_of_context(call) == "unguarded"

    @cached_property
    def contexts(self) -> frozenset[str]:
        """Names of the parameters that hold the saga's context."""
        arguments = [*self.node.args.posonlyargs, *self.node.args.args, *self.node.args.kwonlyargs]
        named = {one.arg for one in arguments if one.arg == "ctx" or self._is_context(one.annotation)}
        return frozenset(named | ({arguments[0].arg} if self.first and arguments else set()))

    def _is_context(self, annotation: ast.expr | None) -> bool:
        return annotation is not None and self.value_of(annotation) is SagaContext

    def method_of_context(self, call: ast.Call) -> str:
        """`call` of `ctx.call(…)`; empty for any other call."""
        at = call.func
        if isinstance(at, ast.Attribute) and isinstance(at.value, ast.Name) and at.value.id in self.contexts:
            return at.attr
        return ""

    @cached_property
    def local_names(self) -> frozenset[str]:
        """Parameters and whatever is assigned, but for what the function declares to be global."""
        every = [*ast.walk(self.node)]
        stored = {one.id for one in every if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        stored |= {one.arg for one in every if isinstance(one, ast.arg)}
        stored |= {one.name for one in every if isinstance(one, ast.ExceptHandler) and one.name}
        stored |= {one.name for one in every if isinstance(one, Function | ast.ClassDef) and one is not self.node}
        declared = {name for one in every if isinstance(one, ast.Global) for name in one.names}
        return frozenset(stored - declared)

    @cached_property
    def imported(self) -> Mapping[str, str]:
        """Names that its body imports, and what for."""
        found: dict[str, str] = {}
        for node in ast.walk(self.node):
            if isinstance(node, ast.Import):
                for one in node.names:
                    found[one.asname or one.name.partition(".")[0]] = (
                        one.name if one.asname else one.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.update({one.asname or one.name: f"{node.module}.{one.name}" for one in node.names})
        return found

    def value_of(self, node: ast.AST) -> Any:
        """What stands behind a name with or without dots, of modules and classes only; else NOTHING."""
        if isinstance(node, ast.Name):
            if node.id in self.local_names or node.id in self.imported:
                return NOTHING
            found = self.function.__globals__.get(node.id, NOTHING)
            return getattr(builtins, node.id, NOTHING) if found is NOTHING else found
        if isinstance(node, ast.Attribute):
            holder = self.value_of(node.value)
            if isinstance(holder, ModuleType | type):
                return getattr(holder, node.attr, NOTHING)
        return NOTHING

    def name_of(self, node: ast.AST) -> str:
        """The whole name, wherever it was imported from; empty where it is not known. What is called ends with `()`."""
        if isinstance(node, ast.Call):
            name = self.name_of(node.func)
            return f"{name}()" if name else ""
        if isinstance(node, ast.Name) and node.id in self.imported:
            return self.imported[node.id]
        value = self.value_of(node)
        if value is not NOTHING and (name := _own_name(value)):
            return name
        if isinstance(node, ast.Attribute) and (holder := self.name_of(node.value)):
            return f"{holder}.{node.attr}"
        return ""

    @cached_property
    def uses(self) -> Sequence[Use]:
        """Each name with the dots behind it once, in the order of the lines."""
        inner, calls = set[int](), dict[int, ast.Call]()
        for node in self.nodes:
            if isinstance(node, ast.Attribute):
                inner.add(id(node.value))
            elif isinstance(node, ast.Call):
                calls[id(node.func)] = node
        found: list[Use] = []
        for node in self.nodes:
            is_whole = isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner
            if is_whole and isinstance(node, ast.expr) and (name := self.name_of(node)):
                found.append(Use(name, node, calls.get(id(node))))
        return found


def _own_name(value: Any) -> str:
    if id(value) in _KNOWN:
        return _KNOWN[id(value)]
    if isinstance(value, ModuleType):
        return value.__name__
    name = getattr(value, "__qualname__", None)
    if not isinstance(name, str):
        return ""
    holder = getattr(value, "__self__", None)
    if isinstance(holder, type):
        return f"{holder.__module__}.{holder.__qualname__}.{value.__name__}"
    module = holder.__class__.__module__ if holder is not None and not isinstance(holder, ModuleType) else None
    if module is not None:
        return f"{module}.{value.__name__}"  # as `random.randint`, a method of a generator that the module has made
    return f"{getattr(value, '__module__', None) or 'builtins'}.{name}"


def functions_of(definition: SagaDefinition[Any, Any]) -> Iterator[SagaFunction]:
    """The saga's own function first. One whose source is not at hand is left out."""
    body = inspect.unwrap(definition._body)
    for function in sorted(functions_named(definition._body), key=lambda one: inspect.unwrap(one) is not body):
        plain: Any = inspect.unwrap(function)
        found = _parsed(plain)
        if found is not None:
            node, file, lines = found
            yield SagaFunction(definition, plain, node, file, lines, plain is body)


def objects_of(definition: SagaDefinition[Any, Any]) -> list[object]:
    """Values that its code names."""
    return [*objects_named(definition._body)]


def _parsed(function: FunctionType) -> tuple[Function, str, Sequence[str]] | None:
    file = function.__code__.co_filename
    try:
        text = Path(file).read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.name == function.__name__:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if first == function.__code__.co_firstlineno:
                return node, file, text.splitlines()
    return None
