"""`init`: writes a project of the user's own, into a folder that holds nothing yet."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sagabus.commands.init.next_commands import to_run, to_use
from sagabus.commands.init.project import Project, fault_of
from sagabus.commands.init.source import Source, SourceUnusable, installed_source, source_at
from sagabus.commands.subcommand import Exit, Failed, Subcommand, say, say_json


async def run_init(options: Namespace) -> Exit:
    folder = Path(options.folder)
    package = options.name or _own_name(folder)
    if fault := fault_of(package):
        raise Failed(Exit.USAGE, fault)
    project = Project.of(package, _source(options.source))
    files = project.files()
    try:
        _refuse_full(folder)
        _write(folder, files)
    except OSError as error:
        raise Failed(Exit.REFUSED, f"{error.filename or folder}: {error.strerror}; name another folder") from error
    first, then = to_run(folder, project), to_use(folder)
    if options.json:
        told = {"folder": str(folder), "package": package, "files": sorted(files)}
        say_json({**told, "next": first, "from_another_terminal": then})
    else:
        _say_commands(f"{folder} is made, with the package {package}. To install, test and run it:", first)
        _say_commands("Then, from another terminal:", then)
        say(f"{folder / 'README.md'} says what the files are, and what to try next.")
    return Exit.DONE


def _say_commands(head: str, commands: list[str]) -> None:
    say(head)
    for command in commands:
        say(f"  {command}")


def _own_name(folder: Path) -> str:
    """Of `.` too."""
    return folder.resolve().name


def _source(place: str | None) -> Source:
    """Raises Failed."""
    try:
        return installed_source() if place is None else source_at(place)
    except SourceUnusable as error:
        cure = "name a checkout or a wheel of sagabus, which the project is installed with: --from PATH"
        raise Failed(Exit.REFUSED, f"{error}; {cure}") from error


def _refuse_full(folder: Path) -> None:
    """Raises Failed: nothing of the user's is ever written over."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Failed(Exit.REFUSED, f"{folder} exists and is not empty: name a new folder, or an empty one")


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")


def _arguments(place: ArgumentParser) -> None:
    place.add_argument("folder", metavar="DIR", help="a new folder, or an empty one")
    place.add_argument("--name", metavar="NAME", help="of the Python package; without it, the folder's")
    place.add_argument(
        "--from", dest="source", metavar="PATH",
        help="a checkout or a wheel of sagabus, or a URL that pip takes; without it, where this one was installed from",
    )  # fmt: skip
    place.add_argument("--json", action="store_true", help="one JSON object")


SUBCOMMANDS: Final = (
    Subcommand(
        name="init",
        about=(
            "Writes a project of your own into DIR: a library that lends books, with a saga, two participants, their "
            "tests, pyproject.toml, docker-compose.yml, Dockerfile and README. Nothing is installed, and nothing is "
            "ever overwritten: it prints the commands that come next."
        ),
        examples={
            "sagabus init library": "a folder library with the package library",
            "sagabus init my-library --name library": "where the folder's name cannot be a package's",
        },
        arguments=_arguments,
        run=run_init,
    ),
)  # fmt: skip
