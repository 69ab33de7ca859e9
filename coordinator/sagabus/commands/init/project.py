"""The files of a new project: the shop's own, read where they are installed, and the small ones around them.

There is no second copy of the shop: what the demonstration runs is what a project begins with. Nothing here writes.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from typing import Final

SHOP: Final = "sagabus.shop"

MODULES: Final = ("contracts", "order_processing", "inventory", "payment", "shipping")
"""Of the shop. The last four are what `sagabus dev` is given."""

HIDDEN: Final = {"gitignore", "dockerignore"}
"""Templates whose files begin with a dot, which build tools would leave out of the wheel."""

SUFFIX: Final = ".txt"
"""Of templates that are Python: linters and type checkers would take them for ours."""


@dataclass(frozen=True, slots=True)
class Project:
    """package: where its modules are imported from. name: the distribution's, in image, container and pyproject."""

    package: str
    name: str

    @classmethod
    def of(cls, package: str) -> Project:
        return cls(package, package.lower().replace("_", "-").strip("-"))

    def files(self) -> dict[str, str]:
        """Path within the project to content."""
        found = dict(self._templates(files(__package__) / "templates"))
        found |= {f"{self.package}/{module}.py": self._module(module) for module in MODULES}
        return found | {f"{self.package}/__init__.py": "", f"{self.package}/py.typed": ""}

    def filled(self, template: str) -> str:
        """With the names of this project in their places."""
        values = {"package": self.package, "project": self.name, "version": version("sagabus")}
        return re.sub(r"@(\w+)@", lambda found: values[found[1]], template)

    @property
    def modules(self) -> list[str]:
        """What runs: the saga and its participants."""
        return [f"{self.package}.{module}" for module in MODULES[1:]]

    def _templates(self, folder: Traversable, before: str = "") -> Iterator[tuple[str, str]]:
        for entry in folder.iterdir():
            name = before + (f".{entry.name}" if entry.name in HIDDEN else entry.name.removesuffix(SUFFIX))
            if entry.is_dir():
                yield from self._templates(entry, f"{name}/")
            else:
                yield name, self.filled(entry.read_text(encoding="utf-8"))

    def _module(self, name: str) -> str:
        return re.sub(rf"\b{re.escape(SHOP)}\b", self.package, source_of(f"{SHOP}.{name}"))


def source_of(module: str) -> str:
    """As it is installed, without importing it."""
    spec = find_spec(module)
    assert isinstance(spec, ModuleSpec)
    source: str | None = spec.loader.get_source(module)  # type: ignore[union-attr]    # a loader of files has it
    assert source is not None, module
    return source


def fault_of(package: str) -> str:
    """Why a package may not have this name, and the cure; empty if it may."""
    if not package.isidentifier() or not package.isascii() or keyword.iskeyword(package):
        return f"{package!r} is no name for a Python package: name one with --name {_better(package)}"
    if package in sys.stdlib_module_names or package in {"sagabus", "tests"}:
        return f"a package {package!r} would hide another one: name yours otherwise, with --name my_{package}"
    return ""


def _better(package: str) -> str:
    words = "_".join(re.findall(r"[a-z0-9]+", package.lower()))
    return words if words.isidentifier() and not keyword.iskeyword(words) else f"my_{words}".rstrip("_")
