"""Values of the module that a saga changes: other sagas of the process see them, and a replay changes them again."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator
from typing import Final

from sagabus.commands.check.finding import Finding, error
from sagabus.commands.check.lints.saga_source import SagaFunction

_MUTABLE: Final = (list, dict, set, bytearray, deque)
_CHANGES: Final = frozenset((
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove",
    "reverse", "setdefault", "sort", "update",
))  # fmt: skip


def found(function: SagaFunction) -> Iterator[Finding]:
    declared = {name for one in function.nodes if isinstance(one, ast.Global) for name in one.names}
    for node in function.nodes:
        for target in _changed(node):
            name = _base(target)
            if name is not None and (name.id in declared or _is_of_module(function, name, target)):
                yield error(
                    "global-write",
                    f"`{name.id}` is the module's: all sagas of a process share it, and a replay changes it again",
                    "keep it in a local variable, or in the output of an activity",
                    place=function.place(node), saga=function.saga,
                )  # fmt: skip


def _changed(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Assign | ast.Delete):
        yield from node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        yield node.target
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES:
        yield node.func


def _base(target: ast.expr) -> ast.Name | None:
    while isinstance(target, ast.Attribute | ast.Subscript):
        target = target.value
    return target if isinstance(target, ast.Name) else None


def _is_of_module(function: SagaFunction, name: ast.Name, target: ast.expr) -> bool:
    """What the name stands for is changed, not the name: an element of a list, say."""
    return not isinstance(target, ast.Name) and isinstance(function.value_of(name), _MUTABLE)
