"""Which shell's script is made where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sagabus.commands.command_parser import CommandParser
from sagabus.commands.completion import bash, fish, zsh
from sagabus.commands.completion.grammar import Command, grammar

SCRIPTS: Final[Mapping[str, Callable[[Sequence[Command]], str]]] = {
    "bash": bash.script,
    "zsh": zsh.script,
    "fish": fish.script,
}


def script(shell: str, parser: CommandParser) -> str:
    """shell: one of `SCRIPTS`. The whole text, with a line's end."""
    return SCRIPTS[shell]([*grammar(parser)])
