"""What is called and never awaited: a step of which nobody hears whether it fails, a sleep that does not sleep."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Final

from sagabus.commands.check.finding import Finding, error
from sagabus.commands.check.lints.saga_source import SagaFunction

_OF_CONTEXT: Final = frozenset(("call", "child", "event"))
_OF_ASYNCIO: Final = frozenset(("asyncio.tasks.sleep", "asyncio.tasks.wait_for", "asyncio.tasks.wait", "asyncio.sleep",
                                "asyncio.wait_for", "asyncio.wait"))  # fmt: skip


def found(function: SagaFunction) -> Iterator[Finding]:
    for node in function.nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and (shown := _shown(function, node.value)):
            what, cure = _words(function, node.value, shown)
            yield error("not-awaited", what, cure, place=function.place(node), saga=function.saga)


def _shown(function: SagaFunction, call: ast.Call) -> str:
    """How it is written, if what it returns is to be awaited."""
    if function.method_of_context(call) in _OF_CONTEXT or function.name_of(call.func) in _OF_ASYNCIO:
        return ast.unparse(call.func)
    if inspect.iscoroutinefunction(function.value_of(call.func)):
        return ast.unparse(call.func)
    return ""


def _words(function: SagaFunction, call: ast.Call, shown: str) -> tuple[str, str]:
    if function.method_of_context(call) == "call":
        what = f"`{shown}(…)` is never awaited: its command is sent, and nobody hears whether it fails"
    else:
        what = f"`{shown}(…)` is never awaited: nothing of it happens"
    return what, f"write `await {shown}(…)`"
