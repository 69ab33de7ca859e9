"""`sagabus …`: reads the command line, runs one subcommand, and tells people what went wrong in one message.

Only the module of the subcommand in question is imported, and what does its work when it runs: Kafka's clients and
SQLAlchemy take a second to import. Exit codes are in `subcommand.Exit`. A traceback is shown for what nobody foresaw,
and for nothing else.
"""

from __future__ import annotations

import os
import sys
import textwrap
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Collection, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final, NoReturn

from sagabus.commands.command_parser import CommandParser
from sagabus.commands.printable import LINES, printable
from sagabus.commands.subcommand import Exit, Failed, Subcommand, complain
from sagabus.contracts.errors import SagabusError

SUBCOMMANDS: Final = {
    "demo": ("demo", "show on a sample shop what sagabus promises"),
    "dev": ("dev", "run sagas and participants in one process, with bus and database"),
    "coordinator": ("services", "run the sagas of these modules"),
    "participant": ("services", "run the participants of these modules"),
    "start": ("sagas", "start a saga"),
    "list": ("sagas", "list sagas"),
    "show": ("sagas", "show one saga"),
    "watch": ("watch", "follow one saga until it has closed"),
    "event": ("events", "send an event to a saga"),
    "cancel": ("verbs", "cancel a saga: what it has done is undone"),
    "retry": ("verbs", "make the next attempt of a step or an undo now"),
    "skip": ("verbs", "count an undo as done"),
    "complete": ("verbs", "give the output of a step whose outcome a person knows"),
    "acknowledge": ("verbs", "remove a saga's attention flag: a person has seen to it"),
    "pause": ("verbs", "pause a saga: it sends nothing new"),
    "resume": ("verbs", "let a paused saga go on"),
    "terminate": ("verbs", "end a saga as it is, without an undo"),
    "check": ("check", "look for what changed code would stop: lints, recorded histories, contracts"),
    "diff": ("check", "say which open sagas a deployment of this code would stop"),
    "dead-letters": ("dead_letters", "messages that were invalid, or could not be sent: look, repair, send again"),
    "migrate": ("setup", "make the tables, or bring them up to date"),
    "topics": ("setup", "make the topics"),
    "doctor": ("doctor", "look for what is wrong here, and say how to cure it"),
    "init": ("init", "begin a project of your own"),
    "health": ("health", "ask a service whether it is ready, for probes"),
    "completion": ("completion", "print what a shell needs to complete these commands"),
}
"""Name, module of this package, and the line in the list."""

ABOUT: Final = "Sagas as plain Python code, over Kafka, with everything that must not be lost in PostgreSQL."

EXAMPLES: Final = {
    "sagabus demo": "see it work: a shop, an order that is undone, two crashes",
    "sagabus dev shop.order_processing shop.inventory shop.payment shop.shipping": "a shop of your own, in one process",
    "sagabus start order_processing --id ORD-1 --input order.json --wait": "an order, from another terminal",
}

EXIT_CODES: Final = """exit codes:
  0 done   1 the saga ended otherwise   2 usage or settings   3 unreachable   4 not found   5 refused
  6 faults were found   74 the output was not written   124 the wait ran out   130 interrupted"""

HELP_WIDTH: Final = 100
"""Characters of a line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code; argparse exits by itself with 0 for --help and 2 for what it does not understand."""
    _tolerate_any_text()
    _import_httpx_without_its_command_line()
    given = [_utf8(word) for word in sys.argv[1:]] if arguments is None else [*arguments]
    try:
        options = parser(given).parse_args(given)
        import asyncio  # it takes longer to import than --help to print
    except KeyboardInterrupt:
        return Exit.INTERRUPTED  # while that is imported
    chosen: Subcommand = options.subcommand
    try:
        return asyncio.run(_run(chosen, options))
    except KeyboardInterrupt:
        return Exit.DONE if chosen.serves else Exit.INTERRUPTED
    except Failed as error:
        complain(str(error))
        return error.exit
    except SagabusError as error:
        complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left; nothing more can be told
        return Exit.DONE
    except Exception:
        import traceback

        print(printable(traceback.format_exc(), but=LINES), file=sys.stderr)
        complain("this is an unexpected error: please report it with the lines above")
        return Exit.OUR_FAULT


def _tolerate_any_text() -> None:
    """What the terminal's encoding lacks is written as an escape. Sagas hold text of all languages."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _utf8(word: str) -> str:
    """An argument as the text that its bytes are, whatever the locale says."""
    return os.fsencode(word).decode(errors="surrogateescape")


def _import_httpx_without_its_command_line() -> None:
    """Where click is installed httpx imports it with rich and pygments, for a sixth of a second, for nobody here."""
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]    # None: importing it is an ImportError


async def _run(chosen: Subcommand, options: Namespace) -> Exit:
    import asyncio

    from sagabus.commands.ending import ended_by_signals

    task = asyncio.ensure_future(chosen.run(options))
    with ended_by_signals(task, serves=chosen.serves):
        try:
            return await task
        except asyncio.CancelledError:
            return Exit.DONE if chosen.serves else Exit.INTERRUPTED


class _Version(Action):
    """Prints it, and ends the process with 0."""

    def __call__(self, parser: ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        parser.exit(message=f"sagabus {version('sagabus')}\n")


def parser(given: Sequence[str]) -> CommandParser:
    """For this command line: of the subcommands that it does not name, it knows the names alone."""
    named = next((word for word in given if not word.startswith("-")), None)
    return parser_of([named] if named else [])


def whole_parser() -> CommandParser:
    """With the arguments of all subcommands, whose modules it imports."""
    return parser_of(SUBCOMMANDS)


def parser_of(known: Collection[str]) -> CommandParser:
    """With the arguments of these subcommands, and with the names of all."""
    whole = CommandParser(prog="sagabus", description=ABOUT, epilog=f"{_examples(EXAMPLES)}\n\n{EXIT_CODES}")
    whole.add_argument("-V", "--version", action=_Version, nargs=0, help="show the version, and exit")
    places = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module, help) in SUBCOMMANDS.items():
        place = places.add_parser(name, help=help)
        if name in known:
            _describe(place, _subcommand(name, module))
    return whole


def _subcommand(name: str, module: str) -> Subcommand:
    subcommands: Sequence[Subcommand] = import_module(f"sagabus.commands.{module}").SUBCOMMANDS
    return next(one for one in subcommands if one.name == name)


def _describe(place: ArgumentParser, one: Subcommand) -> None:
    place.description = textwrap.fill(one.about, HELP_WIDTH)
    place.epilog = _examples(one.examples)
    place.set_defaults(subcommand=one)
    one.arguments(place)


def _examples(examples: dict[str, str]) -> str:
    return "\n".join(["examples:", *(f"  {line}\n      {what}" for line, what in examples.items())])


if __name__ == "__main__":
    sys.exit(main())
