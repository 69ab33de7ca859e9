"""argparse with answers that help: what was perhaps meant, and the usage of the command at hand.

Wrong usage ends with exit code 2, as argparse has it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from argparse import Action, ArgumentParser
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from sagabus.commands.nearest import COMMANDS, OPTIONS, did_you_mean, nearest
from sagabus.commands.printable import LINES, printable

ANSWERED_FIRST: Final = frozenset({"-h", "--help", "-V", "--version"})
"""Whatever comes after them."""


class CommandParser(ArgumentParser):
    """Of the whole command line, and of each command in it. A command is read by a parser of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **options)
        self.commands: Mapping[str, CommandParser] = {}
        """By name; empty for a command that has none of its own."""
        self._words: Sequence[str] = ()
        self._places: Any = None

    def add_subparsers(self, **options: Any) -> Any:
        places = super().add_subparsers(**options)
        self.commands, self._places = places.choices, places
        return places

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Unlike argparse's, it knows all: a command answers for its own words, and not the whole command line."""
        self._words = sys.argv[1:] if args is None else [*args]
        self._check_command()
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def _check_value(self, action: Action, value: Any) -> None:
        """argparse's, with the choice that was perhaps meant."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            meant = did_you_mean(nearest(str(value), [str(one) for one in action.choices or ()], {}))
            raise argparse.ArgumentError(action, f"{error.message}{meant}") from None

    def error(self, message: str) -> NoReturn:
        """The usage of this command, what is wrong, and what was perhaps meant. Ends the process with 2."""
        unknown = [*self._unknown_options()]
        words = "; ".join(self._answer(word) for word in unknown) if unknown else message
        super().error(printable(words, but=LINES))

    @property
    def options(self) -> Collection[str]:
        """As they are written: `--json`, `-h`."""
        return [text for action in self._actions for text in action.option_strings]

    @property
    def arguments(self) -> Sequence[Action]:
        """Options and what has a place, without the commands."""
        return [action for action in self._actions if action is not self._places]

    @property
    def abouts(self) -> Mapping[str, str]:
        """Of each command the line in the list."""
        return {} if self._places is None else {one.dest: one.help or "" for one in self._places._get_subactions()}

    def _check_command(self) -> None:
        """Before argparse, which would list all commands there are."""
        before, word = _command_in(self._words)
        if self.commands and word and word not in self.commands and not ANSWERED_FIRST.intersection(before):
            meant = [f"`{self.prog} {one}`" for one in nearest(word, {*self.commands, *self.options}, COMMANDS)]
            self.error(f"there is no command {word!r}{did_you_mean(meant) or f': `{self.prog} --help` lists all'}")

    def _unknown_options(self) -> Iterator[str]:
        """Of the words of this command itself. An option may be written in part, as long as one only begins so."""
        command = _command_in(self._words)[0] if self.commands else self._words
        for word in itertools.takewhile(lambda word: word != "--", command):
            name = word.partition("=")[0]
            if _may_be_option(word) and not any(one.startswith(name) for one in self.options):
                yield name

    def _answer(self, option: str) -> str:
        of = next((name for name, one in self.commands.items() if option in one.options), None)
        if of:
            return f"{option} stands after its command: {self.prog} {of} {option}"
        return f"there is no option {option}{did_you_mean(nearest(option, self.options, OPTIONS))}"


def _may_be_option(word: str) -> bool:
    """By argparse's own rule: not a negative number, and nothing with a space in it."""
    number = word.removeprefix("-").replace(".", "", 1).isdigit()
    return word.startswith("-") and word != "-" and " " not in word and not number


def _command_in(words: Sequence[str]) -> tuple[Sequence[str], str]:
    """The words before the command, and the command; empty without one."""
    for place, word in enumerate(words):
        if not word.startswith("-"):
            return words[:place], word
    return words, ""
