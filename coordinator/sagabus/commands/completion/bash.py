"""The script for bash, from 3.2 on, without the package bash-completion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sagabus.commands.completion.grammar import Command, Value

HEAD: Final = """\
# Completion of sagabus in bash. Made by `sagabus completion bash`: do not edit.
_sagabus() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} path= word words=
    COMPREPLY=()
    # bash takes --option=value as three words
    [[ $previous == "=" ]] && previous=${COMP_WORDS[COMP_CWORD - 2]}
    [[ $current == "=" ]] && current=
    for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
        case "$path $word" in"""

AFTER_PATH: Final = """\
            path="$path $word" ;;
        esac
    done
    case "$path $previous" in"""

AFTER_VALUES: Final = """\
    esac
    case "$path" in"""

TAIL: Final = """\
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
_sagabus_files() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen "$1" -- "$current"))
    compopt -o filenames 2>/dev/null    # from bash 4 on
}
complete -F _sagabus sagabus
"""

OFFERS: Final = {
    Value.FILE: "_sagabus_files -f; return",
    Value.FOLDER: "_sagabus_files -d; return",
    Value.ANY: "return",
}


def script(commands: Sequence[Command]) -> str:
    """Words of commands and options have no blanks and nothing that bash would expand."""
    lines = [HEAD, f"            {_patterns([one.path for one in commands if one.path])})", AFTER_PATH]
    lines += [*_values(commands), AFTER_VALUES, *_words(commands), TAIL]
    return "\n".join(lines)


def _patterns(paths: Sequence[Sequence[str]]) -> str:
    return " | ".join(f'"{_path(path)}"' for path in paths)


def _path(path: Sequence[str]) -> str:
    return "".join(f" {word}" for word in path)


def _values(commands: Sequence[Command]) -> Iterator[str]:
    """What comes after an option that takes a value."""
    for command in commands:
        for option in command.options:
            if option.value is not None:
                after = _patterns([(*command.path, name) for name in option.names])
                yield f"        {after}) {_offer(option.value)} ;;"


def _offer(value: Value | Sequence[str]) -> str:
    if isinstance(value, Value):
        return OFFERS[value]
    return f'COMPREPLY=($(compgen -W "{" ".join(value)}" -- "$current")); return'


def _words(commands: Sequence[Command]) -> Iterator[str]:
    """What has a place there; at a dash, and where nothing is known of the place, the options."""
    for command in commands:
        yield f'        "{_path(command.path)}")'
        yield f'            words="{" ".join(name for option in command.options for name in option.names)}"'
        if offer := _placed(command):
            yield f"            [[ $current == -* ]] || {{ {offer}; }}"
        yield "            ;;"


def _placed(command: Command) -> str:
    if command.commands:
        return f'words="{" ".join(name for name, _ in command.commands)}"'
    offers = [one.value for one in command.places if one.value not in (None, Value.ANY)]
    return _offer(offers[0]) if offers and offers[0] else ""
