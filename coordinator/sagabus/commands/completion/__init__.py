"""`completion`: a script that has a shell complete commands, options and values. It is static: it runs nothing."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from sagabus.commands.subcommand import Exit, Subcommand, say

SHELLS: Final = ("bash", "zsh", "fish")


async def run(options: Namespace) -> Exit:
    from sagabus.commands.completion.scripts import script
    from sagabus.commands.main import whole_parser

    for line in script(options.shell, whole_parser()).splitlines():
        say(line)
    return Exit.DONE


def _arguments(place: ArgumentParser) -> None:
    place.add_argument("shell", choices=SHELLS, metavar="SHELL", help="the shell that you use")


SUBCOMMANDS: Final = (
    Subcommand(
        name="completion",
        about=(
            "Prints a script for your shell: it completes commands, options and the values that an option may have. "
            "Save it where the shell looks for such scripts, and print it again after an upgrade."
        ),
        examples={
            "sagabus completion bash": "save it as ~/.local/share/bash-completion/completions/sagabus",
            "sagabus completion zsh": "save it as _sagabus in a folder of $fpath, before compinit runs",
            "sagabus completion fish": "save it as ~/.config/fish/completions/sagabus.fish",
        },
        arguments=_arguments,
        run=run,
    ),
)
