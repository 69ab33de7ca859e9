"""Finds in a module what depends on more than its arguments: clock, chance, environment, files.

import-linter sees modules only; `datetime`, `uuid`, `random` and `asyncio` have a pure half that core needs and another
that it must never touch. Names are followed through imports and their aliases, not through assignments: this is for
mistakes, not for malice.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

FORBIDDEN = {
    "asyncio.get_event_loop", "asyncio.new_event_loop", "asyncio.run", "asyncio.Runner", "asyncio.sleep",
    "asyncio.to_thread", "asyncio.open_connection", "asyncio.create_subprocess_exec",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
    "importlib", "io", "locale", "multiprocessing", "os", "pathlib", "platform", "secrets", "select", "selectors",
    "shutil", "socket", "subprocess", "tempfile", "threading", "time",
    "random.betavariate", "random.choice", "random.choices", "random.gauss", "random.getrandbits", "random.randbytes",
    "random.randint", "random.random", "random.randrange", "random.sample", "random.seed", "random.shuffle",
    "random.uniform", "random.SystemRandom",
    "uuid.getnode", "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7",
}  # fmt: skip
BUILTINS = {"__import__", "breakpoint", "input", "open", "print"}


def impurities(source: str) -> list[str]:
    """`line: what` of each."""
    tree = ast.parse(source)
    origins = dict(_origins(tree))
    found = [*_imported(tree), *_used(tree, origins), *_unseeded(tree, origins)]
    return [f"{line}: {what}" for line, what in sorted(set(found))]


def uses(source: str, names: set[str]) -> list[str]:
    """`line: what` of each use of one of these dotted names."""
    tree = ast.parse(source)
    origins = dict(_origins(tree))
    wanted = (ast.Attribute, ast.Name)
    found = ((node.lineno, _dotted(node, origins)) for node in ast.walk(tree) if isinstance(node, wanted))
    return [f"{line}: {name}" for line, name in sorted(found) if name in names]


def _origins(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Local name → what it is, from the imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if _forbidden(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from ((node.lineno, name) for name in names if _forbidden(name))


def _used(tree: ast.AST, origins: dict[str, str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _forbidden(name := _dotted(node, origins)):
            yield node.lineno, name
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILTINS:
            yield node.lineno, f"{node.func.id}()"


def _unseeded(tree: ast.AST, origins: dict[str, str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not node.args and _dotted(node.func, origins) == "random.Random":
            yield node.lineno, "random.Random() without a seed"


def _dotted(node: ast.expr, origins: dict[str, str]) -> str:
    """The full name behind `a.b.c`, or nothing where `a` was not imported."""
    if isinstance(node, ast.Name):
        return origins.get(node.id, "")
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value, origins)):
        return f"{base}.{node.attr}"
    return ""


def _forbidden(name: str) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:count]) in FORBIDDEN for count in range(1, len(parts) + 1))
