"""A step that nothing undoes, before one that may be refused: what it has done stays."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from sagabus.commands.check.finding import Finding, warning
from sagabus.commands.check.lints.saga_source import SagaFunction
from sagabus.contracts.activity import Activity, Compensation


def found(function: SagaFunction) -> Iterator[Finding]:
    steps = sorted(_steps(function), key=lambda step: (step[0].lineno, step[0].col_offset))
    for number, (call, activity) in enumerate(steps):
        if activity.compensation is not None or isinstance(activity, Compensation):
            continue
        later = next((one for _, one in steps[number + 1 :] if one.refusals), None)
        if later is not None:
            codes = ", ".join(later.refusals)
            yield warning(
                "no-undo",
                f"nothing undoes {activity.name}, and {later.name} after it may be refused ({codes})",
                "declare a compensation for it, or call it after what may be refused",
                place=function.place(call), saga=function.saga,
            )  # fmt: skip


def _steps(function: SagaFunction) -> Iterator[tuple[ast.Call, Activity[..., Any, Any]]]:
    for node in function.nodes:
        if isinstance(node, ast.Call) and function.method_of_context(node) == "call" and node.args:
            activity = activity_of(function, node.args[0])
            if activity is not None:
                yield node, activity


def activity_of(function: SagaFunction, command: ast.expr) -> Activity[..., Any, Any] | None:
    """Of `activity(…)` or `activity.of(…)`."""
    if not isinstance(command, ast.Call):
        return None
    at = command.func
    if isinstance(at, ast.Attribute) and at.attr == "of":
        at = at.value
    value = function.value_of(at)
    return value if isinstance(value, Activity) else None
