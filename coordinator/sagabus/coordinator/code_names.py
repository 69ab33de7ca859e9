"""What a saga's code names: functions of its own module, and what stands behind its global names.

Found without running it. What comes out of a container, a closure or another module's function is not found.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any


def functions_named(body: Callable[..., Any]) -> list[FunctionType]:
    """The function and, by name, those of its own module that it names, and so on. Defined later is no obstacle."""
    first: Any = body
    found: dict[str, FunctionType] = {first.__qualname__: first}
    waiting = [first]
    while waiting:
        function = inspect.unwrap(waiting.pop())
        for name in _names(function.__code__):
            other = function.__globals__.get(name)
            if isinstance(other, FunctionType) and other.__module__ == first.__module__ and name not in found:
                found[name] = other
                waiting.append(other)
    return [found[name] for name in sorted(found)]


def objects_named(body: Callable[..., Any]) -> Iterator[object]:
    """Values of the global names of these functions; of a module or a class that they name, its attributes too."""
    for function in functions_named(body):
        plain: Any = inspect.unwrap(function)
        yield from _of_names({*_names(plain.__code__)}, plain.__globals__)


def _of_names(names: Iterable[str], within: dict[str, Any]) -> Iterator[object]:
    waiting, seen = [within], {id(within)}
    while waiting:
        holder = waiting.pop()
        for value in (holder[name] for name in names if name in holder):
            yield value
            if isinstance(value, ModuleType | type) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(dict(vars(value)))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
