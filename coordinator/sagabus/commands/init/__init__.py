"""`init`: writes a project of the user's own, into a folder that holds nothing yet."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sagabus.commands.init.project import Project, fault_of
from sagabus.commands.subcommand import Exit, Failed, Subcommand, say, say_json


async def run_init(options: Namespace) -> Exit:
    folder = Path(options.folder)
    project = _project(options.name or _own_name(folder))
    files = project.files()
    try:
        _refuse_full(folder)
        _write(folder, files)
    except OSError as error:
        raise Failed(Exit.REFUSED, f"{error.filename or folder}: {error.strerror}; name another folder") from error
    commands = next_commands(folder, project)
    if options.json:
        say_json({"folder": str(folder), "package": project.package, "files": sorted(files), "next": commands})
    else:
        say(f"made {folder} with the package {project.package}. Next, the last of them from another terminal:")
        for command in commands:
            say(f"  {command}")
    return Exit.DONE


def next_commands(folder: Path, project: Project) -> list[str]:
    return [
        f"cd {shlex.quote(str(folder))}",
        f"sagabus dev {' '.join(project.modules)}",
        "sagabus start order_processing --id ORD-1 --input order.json --wait",
    ]


def _own_name(folder: Path) -> str:
    """Of `.` too."""
    return folder.resolve().name


def _project(package: str) -> Project:
    """Raises Failed."""
    if fault := fault_of(package):
        raise Failed(Exit.USAGE, fault)
    return Project.of(package)


def _refuse_full(folder: Path) -> None:
    """Raises Failed: nothing of the user's is ever written over."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Failed(Exit.REFUSED, f"{folder} is there and not empty: name a new folder, or an empty one")


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")


def _arguments(place: ArgumentParser) -> None:
    place.add_argument("folder", metavar="DIR", help="a new folder, or an empty one")
    place.add_argument("--name", metavar="NAME", help="of the Python package; without it, the folder's")
    place.add_argument("--json", action="store_true", help="one JSON object")


SUBCOMMANDS: Final = (
    Subcommand(
        name="init",
        about=(
            "Writes a project of your own into DIR: the shop's contracts, saga and participants under your package's "
            "name, with tests, pyproject.toml, docker-compose.yml, Dockerfile and README. Nothing is installed, and "
            "nothing is ever written over."
        ),
        examples={
            "sagabus init bookshop": "a folder bookshop with the package bookshop",
            "sagabus init book-shop --name bookshop": "where the folder's name is none for a package",
        },
        arguments=_arguments,
        run=run_init,
    ),
)  # fmt: skip
