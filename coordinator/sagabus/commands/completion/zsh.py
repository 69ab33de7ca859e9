"""The script for zsh: one function for each command, by `_arguments`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sagabus.commands.completion.grammar import Argument, Command, Value

HEAD: Final = """\
#compdef sagabus
# Completion of sagabus in zsh. Made by `sagabus completion zsh`: do not edit.
"""

TAIL: Final = """
if [[ $funcstack[1] == _sagabus ]]; then
    _sagabus "$@"
else
    compdef _sagabus sagabus
fi
"""

OFFERS: Final = {Value.FILE: "_files", Value.FOLDER: "_files -/", Value.ANY: " "}


def script(commands: Sequence[Command]) -> str:
    """It works from a folder of `fpath`, and when it is sourced."""
    return "\n".join([HEAD, *(line for one in commands for line in _function(one)), TAIL])


def _name(path: Sequence[str]) -> str:
    return "_".join(["_sagabus", *path]).replace("-", "_")


def _function(command: Command) -> Iterator[str]:
    yield f"{_name(command.path)}() {{"
    if command.commands:
        yield from _with_commands(command)
    else:
        yield "    _arguments -s \\"
        yield from (f"        {spec} \\" for spec in _specs(command))
        yield "        && return"
    yield "}"


def _with_commands(command: Command) -> Iterator[str]:
    yield "    local context state line"
    yield "    local -a commands"
    yield "    typeset -A opt_args"
    yield "    _arguments -C \\"
    yield from (f"        {spec} \\" for spec in _specs(command))
    yield "        '1: :->command' '*:: :->rest' && return"
    yield "    case $state in"
    yield "        command)"
    yield "            commands=("
    yield from (f"                {_quoted(f'{name}:{about}')}" for name, about in command.commands)
    yield "            )"
    yield "            _describe command commands ;;"
    yield "        rest)"
    yield "            case $words[1] in"
    yield from (f"                {name}) {_name((*command.path, name))} ;;" for name, _ in command.commands)
    yield "            esac ;;"
    yield "    esac"


def _specs(command: Command) -> Iterator[str]:
    for option in command.options:
        for name in option.names:
            value = "" if option.value is None else f":{_escaped(option.names[-1].lstrip('-'))}:{_offer(option.value)}"
            yield _quoted(f"*{name}[{_escaped(option.help)}]{value}")
    for place in command.places:
        yield _quoted(f"{_where(place)}:{_escaped(place.help)}:{_offer(place.value or Value.ANY)}")


def _where(place: Argument) -> str:
    return "*" if place.repeated else ""


def _offer(value: Value | Sequence[str]) -> str:
    return OFFERS[value] if isinstance(value, Value) else f"({' '.join(value)})"


def _escaped(text: str) -> str:
    """What `_arguments` reads as its own."""
    return "".join(f"\\{one}" if one in "\\[]:" else one for one in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
