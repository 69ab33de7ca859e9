"""What can be typed, read from the parsers: a shell's script is made from it, so that the two cannot differ."""

from __future__ import annotations

from argparse import Action
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from sagabus.commands.command_parser import CommandParser


class Value(Enum):
    """What a shell can offer for a value of which not all are known."""

    FILE = "file"
    FOLDER = "folder"
    ANY = "any"
    """Nothing: an id, a name, a text."""


@dataclass(frozen=True, slots=True)
class Argument:
    """names: of an option, `--json`; empty for one that has a place. value: None for an option that takes none."""

    names: Sequence[str]
    help: str
    value: Value | Sequence[str] | None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """path: the words that lead to it; none for the whole program. commands: name and line of those below it."""

    path: Sequence[str]
    commands: Sequence[tuple[str, str]]
    options: Sequence[Argument]
    places: Sequence[Argument]


def grammar(parser: CommandParser, path: Sequence[str] = ()) -> Iterator[Command]:
    """The command of this parser, and then all below it."""
    arguments = [_argument(action, parser.prog) for action in parser.arguments]
    yield Command(
        path,
        [*parser.abouts.items()],
        [one for one in arguments if one.names],
        [one for one in arguments if not one.names],
    )
    for name, below in parser.commands.items():
        yield from grammar(below, (*path, name))


def _argument(action: Action, prog: str) -> Argument:
    help = (action.help or action.dest) % {**vars(action), "prog": prog}
    return Argument(action.option_strings, help, _value(action), action.nargs in ("*", "+"))


def _value(action: Action) -> Value | Sequence[str] | None:
    if action.nargs == 0:
        return None
    if action.choices is not None:
        return [str(one) for one in action.choices]
    words = str(action.metavar or "").split("|")
    return Value.FILE if "FILE" in words else Value.FOLDER if "DIR" in words else Value.ANY
