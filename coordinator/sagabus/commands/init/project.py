"""The files of a new project: a sample with a domain of its own, and what packs, tests and deploys it.

The files for Docker are those of this repository, with other names in them. Nothing here writes.
"""

from __future__ import annotations

import keyword
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from sagabus.commands.init.source import Source

HIDDEN: Final = {"gitignore", "dockerignore"}
"""Templates whose files begin with a dot, which build tools would leave out of the wheel."""

SUFFIX: Final = ".txt"
"""Of templates that are Python: linters and type checkers would take them for ours."""

PACKAGE: Final = "package/"
"""The folder of templates that becomes the package."""

RESERVED: Final = frozenset({"sagabus", "tests", "wheels"})
"""Names that something else in the project has."""

PARTICIPANT: Final = """\
  @service@:
    <<: *participant
    command: [sagabus, participant, --health-file, /tmp/health, @package@.@service@]
"""
"""The part of docker-compose.yml that is there once for each participant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """package: where its modules are imported from. name: the distribution's, in image, container and pyproject.

    saga, services: its modules. database: the role's and the database's name in docker-compose.yml.
    """

    package: str
    name: str
    source: Source
    database: str
    saga: str = "lending"
    services: tuple[str, ...] = ("shelf", "members")

    @classmethod
    def of(cls, package: str, source: Source) -> Project:
        """The sample, a library that lends books; whatever is no part of that domain bears the name of the project."""
        name = package.lower().replace("_", "-").strip("-")
        return cls(package=package, name=name, source=source, database=package.lower())

    def files(self) -> dict[str, str]:
        """Path within the project to content."""
        found = dict(self._templates(files(__package__) / "templates"))
        return found | {f"{self.package}/__init__.py": "", f"{self.package}/py.typed": ""}

    @property
    def modules(self) -> list[str]:
        """What runs: the saga and its participants."""
        return [f"{self.package}.{module}" for module in (self.saga, *self.services)]

    def _templates(self, folder: Traversable, before: str = "") -> Iterator[tuple[str, str]]:
        for entry in folder.iterdir():
            name = before + (f".{entry.name}" if entry.name in HIDDEN else entry.name.removesuffix(SUFFIX))
            if entry.is_dir():
                yield from self._templates(entry, f"{name}/")
            else:
                yield re.sub(f"^{PACKAGE}", f"{self.package}/", name), self._filled(entry.read_text(encoding="utf-8"))

    def _filled(self, template: str) -> str:
        """With the names of this project in their places."""
        modules = self.modules
        values = {
            "package": self.package, "project": self.name, "saga": modules[0], "database": self.database,
            "modules": " ".join(modules), "participants": ", ".join(modules[1:]), "wheel": self.source.wheel,
            "source": shlex.quote(self.source.place),
            "services": "\n".join(self._participant(service) for service in self.services),
        }  # fmt: skip
        return re.sub(r"@(\w+)@", lambda found: values[found[1]], template)

    def _participant(self, service: str) -> str:
        return PARTICIPANT.replace("@service@", service).replace("@package@", self.package)


def fault_of(package: str) -> str:
    """Why a package may not have this name, and the cure; empty if it may."""
    if not package.isidentifier() or not package.isascii() or keyword.iskeyword(package):
        return f"{package!r} cannot be the name of a Python package: choose one, with --name {_better(package)}"
    if package in sys.stdlib_module_names or package in RESERVED:
        return f"a package {package!r} would hide another one: choose another name, with --name my_{package}"
    return ""


def _better(package: str) -> str:
    words = "_".join(re.findall(r"[a-z0-9]+", package.lower()))
    return words if words.isidentifier() and not keyword.iskeyword(words) else f"my_{words}".rstrip("_")
