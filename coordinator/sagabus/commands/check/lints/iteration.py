"""A set that is iterated: texts and coroutines stand in it in another order in each process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from sagabus.commands.check.finding import Finding, error
from sagabus.commands.check.lints.saga_source import SagaFunction

_SETS: Final = frozenset(("set", "frozenset"))
_ORDERED: Final = frozenset(("sorted", "sum", "len", "min", "max", "any", "all", "set", "frozenset"))
"""What makes the same of a set in whatever order."""

_IN_ORDER: Final = frozenset(("list", "tuple", "enumerate", "zip", "map", "filter", "iter", "next", "reversed"))
_ALGEBRA: Final = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
_METHODS: Final = frozenset(("union", "intersection", "difference", "symmetric_difference", "copy"))


def found(function: SagaFunction) -> Iterator[Finding]:
    sets = _names_of_sets(function)
    settled = _settled(function)
    for node in function.nodes:
        for walked in _iterated(node):
            if _is_set(function, walked, sets) and id(node) not in settled:
                yield error(
                    "set-order", f"`{ast.unparse(walked)}` is a set: each process has another order of it",
                    "write `for one in sorted(…)`, or keep a list", place=function.place(walked), saga=function.saga,
                )  # fmt: skip


def _iterated(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.For | ast.AsyncFor):
        yield node.iter
    elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
        yield from (one.iter for one in node.generators)
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in _IN_ORDER:
            yield from node.args
        yield from (one.value for one in node.args if isinstance(one, ast.Starred))
    elif isinstance(node, ast.List | ast.Tuple):
        yield from (one.value for one in node.elts if isinstance(one, ast.Starred))


def _settled(function: SagaFunction) -> set[int]:
    """Comprehensions and calls of which the order does not count, as `sorted(x for x in s)`."""
    return {
        id(argument)
        for node in function.nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ORDERED
        for argument in node.args
    }


def _names_of_sets(function: SagaFunction) -> set[str]:
    """Local names to which nothing but sets is assigned, and parameters that are annotated as sets."""
    sets, others = set[str](), set[str]()
    arguments = function.node.args
    for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if one.annotation is not None and _is_set_annotation(one.annotation):
            sets.add(one.arg)
    for node in function.nodes:
        for name, value, annotation in _assigned(node):
            is_set = _is_set(function, value, sets) if value is not None else False
            (sets if is_set or (annotation is not None and _is_set_annotation(annotation)) else others).add(name)
    return sets - others


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        yield from ((one.id, node.value, None) for one in node.targets if isinstance(one, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, node.value, node.annotation
    elif isinstance(node, ast.NamedExpr):
        yield node.target.id, node.value, None


def _is_set_annotation(node: ast.expr) -> bool:
    base = node.value if isinstance(node, ast.Subscript) else node
    return isinstance(base, ast.Name) and base.id in {"set", "frozenset", "Set", "AbstractSet", "FrozenSet"}


def _is_set(function: SagaFunction, node: ast.expr, sets: set[str]) -> bool:
    """Whose order is another one in each process. Numbers hash to themselves."""
    if isinstance(node, ast.Set):
        return not all(isinstance(one, ast.Constant) and isinstance(one.value, int | float) for one in node.elts)
    if isinstance(node, ast.Name):
        return node.id in sets or isinstance(function.value_of(node), set | frozenset)
    if isinstance(node, ast.BinOp) and isinstance(node.op, _ALGEBRA):
        return _is_set(function, node.left, sets) or _is_set(function, node.right, sets)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id in _SETS
        is_method = isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS
        return is_method and isinstance(node.func, ast.Attribute) and _is_set(function, node.func.value, sets)
    return isinstance(node, ast.SetComp)
