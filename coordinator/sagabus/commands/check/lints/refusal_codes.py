"""A refusal's code that the saga looks for, and that no activity which it names declares."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from sagabus.commands.check.finding import Finding, error, warning
from sagabus.commands.check.lints.saga_source import SagaFunction, objects_of
from sagabus.commands.nearest import did_you_mean, nearest
from sagabus.contracts import names
from sagabus.contracts.activity import Activity


def found(function: SagaFunction) -> Iterator[Finding]:
    activities = [one for one in objects_of(function.definition) if isinstance(one, Activity)]
    declared = {code for one in activities for code in one.refusals}
    tells_all = all(one.refusals for one in activities)
    for node, code in _codes(function):
        if code not in declared and not names.is_own_code(code):
            meant = did_you_mean(nearest(code, declared, {}))
            what = f"no activity that this saga names declares the refusal {code!r}{meant}"
            cure = "declare it: `refusals=(…)` of the activity, or look at its spelling"
            made = error if tells_all else warning
            yield made("unknown-refusal", what, cure, place=function.place(node), saga=function.saga)


def _codes(function: SagaFunction) -> Iterator[tuple[ast.AST, str]]:
    """Texts that the `code` of a caught error is compared with."""
    caught = {one.name for one in function.nodes if isinstance(one, ast.ExceptHandler) and one.name}
    for node in function.nodes:
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
            if any(_is_code(one, caught) for one in compared):
                yield from ((node, code) for one in compared for code in _texts(one))
        elif isinstance(node, ast.Match) and _is_code(node.subject, caught):
            values = (one for case in node.cases for one in ast.walk(case.pattern) if isinstance(one, ast.MatchValue))
            yield from ((one, code) for one in values for code in _texts(one.value))


def _is_code(node: ast.AST, caught: set[str]) -> bool:
    return (
        isinstance(node, ast.Attribute) and node.attr == "code" and isinstance(node.value, ast.Name)
        and node.value.id in caught
    )  # fmt: skip


def _texts(node: ast.AST) -> Iterator[str]:
    found = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    yield from (one.value for one in found if isinstance(one, ast.Constant) and isinstance(one.value, str))
