"""Which module makes the participant of a service, by the text of the modules beside those that were given.

Nothing is imported for it. What is not found is not named, and nothing more.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from sagabus.contracts.activity import Service

MOST_FILES: Final = 2_000
"""That are looked at: a folder may be somebody's home."""


def participant_of(service: str, modules: Sequence[str]) -> str | None:
    """A module with `Participant(SERVICE)` in it. modules: MODULE or MODULE:OBJECT, which are imported already."""
    spoken = {service.replace("-", "_"), *_variables(service)}
    found = (name for name, file in islice(_beside(modules), MOST_FILES) if _makes_participant(file, spoken))
    return next(found, None)


def _variables(service: str) -> set[str]:
    """What loaded modules call it."""
    holders = [getattr(module, "__dict__", {}) for module in [*sys.modules.values()]]
    named = (item for holder in holders for item in [*holder.items()])
    return {name for name, value in named if type(value) is Service and value.name == service}


def _beside(modules: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Name and file of all modules of the same packages; of a module without a package, of its folder."""
    for first in dict.fromkeys(name.partition(":")[0].partition(".")[0] for name in modules):
        places = getattr(sys.modules.get(first), "__path__", None)
        if places is None:
            yield from ((file.stem, file) for file in sorted(Path.cwd().glob("*.py")))
        for place in map(Path, places or ()):
            for file in sorted(place.rglob("*.py")):
                parts = file.relative_to(place).with_suffix("").parts
                yield ".".join((first, *(part for part in parts if part != "__init__"))), file


def _makes_participant(file: Path, spoken: Collection[str]) -> bool:
    try:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text) if "Participant(" in text else None
    except (OSError, ValueError, SyntaxError):
        return False
    return tree is not None and any(_is_participant(node, spoken) for node in ast.walk(tree))


def _is_participant(node: ast.AST, spoken: Collection[str]) -> bool:
    return (
        isinstance(node, ast.Call) and _last(node.func) == "Participant" and bool(node.args)
        and _last(node.args[0]) in spoken
    )  # fmt: skip


def _last(node: ast.expr) -> str:
    """Of `contracts.shelf` and of `shelf`: shelf."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
