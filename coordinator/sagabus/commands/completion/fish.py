"""The script for fish: one line for each word that can be completed, with where it can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sagabus.commands.completion.grammar import Argument, Command, Value

HEAD: Final = """\
# Completion of sagabus in fish. Made by `sagabus completion fish`: do not edit.
function __sagabus_at --description 'Whether these are the commands typed so far'
    set -l path
    for word in (commandline -opc)[2..-1]
        if contains -- "$path/$word" {paths}
            set path "$path/$word"
        end
    end
    test "$path" = "$argv[1]"
end
complete -c sagabus -f
"""

OFFERS: Final = {Value.FILE: "-F", Value.FOLDER: "-a '(__fish_complete_directories)'", Value.ANY: ""}


def script(commands: Sequence[Command]) -> str:
    paths = " ".join(_path(one.path) for one in commands if one.path)
    return HEAD.replace("{paths}", paths) + "".join(f"{line}\n" for one in commands for line in _lines(one))


def _path(path: Sequence[str]) -> str:
    return "".join(f"/{word}" for word in path)


def _lines(command: Command) -> Iterator[str]:
    here = f"complete -c sagabus -n {_quoted(f'__sagabus_at {_quoted(_path(command.path))}')}"
    for name, about in command.commands:
        yield f"{here} -a {name} -d {_quoted(about)}"
    for option in command.options:
        yield f"{here} {_option(option)} -d {_quoted(option.help)}"
    for place in command.places:
        if offer := _offer(place.value or Value.ANY):
            yield f"{here} {offer}"


def _option(option: Argument) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    return " ".join([*names, *([] if option.value is None else ["-r", _offer(option.value)])]).rstrip()


def _offer(value: Value | Sequence[str]) -> str:
    return OFFERS[value] if isinstance(value, Value) else f"-a {_quoted(' '.join(value))}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
