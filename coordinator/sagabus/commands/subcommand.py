"""What a subcommand is to the command line: its words, its arguments, its work, and the ways in which it can end."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from sagabus.commands.printable import LINES, printable, printable_json
from sagabus.contracts.errors import ExitCode, SagabusError


class Exit(IntEnum):
    """Exit codes, for scripts."""

    DONE = 0
    ENDED_OTHERWISE = 1
    """The saga ended, but not completed; the demonstration did not end as it should."""
    USAGE = ExitCode.USAGE
    """Wrong arguments or settings."""
    UNREACHABLE = ExitCode.UNREACHABLE
    """Kafka, the database or the coordinator."""
    NOT_FOUND = ExitCode.NOT_FOUND
    REFUSED = ExitCode.REFUSED
    FOUND = 6
    """A command that looks for faults has found some."""
    OUR_FAULT = 70
    """What nobody foresaw (EX_SOFTWARE of sysexits.h)."""
    NOT_WRITTEN = 74
    """The output could not be written: a full disk (EX_IOERR of sysexits.h)."""
    WAITED = 124
    """The wait ran out, as with timeout(1): for a saga, or for a process that was told to end."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM, as with a shell."""


class Failed(SagabusError):
    """A subcommand that cannot do its work: the sentence for people, the exit code for scripts."""

    def __init__(self, exit: Exit, sentence: str) -> None:
        super().__init__(sentence)
        self.exit = exit


@dataclass(frozen=True, slots=True, kw_only=True)
class Subcommand:
    """examples: whole command lines and what they do, shown by --help. serves: runs until it is told to stop."""

    name: str
    about: str
    examples: dict[str, str]
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Coroutine[Any, Any, Exit]]
    serves: bool = False


def say(sentence: str) -> None:
    """One line for people and pipes, at once: somebody may be waiting for it. What is not printable is escaped.

    Raises BrokenPipeError where the reader has left, Failed where nothing can be written.
    """
    try:
        print(printable(sentence), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        with suppress(OSError):
            sys.stdout.close()  # else the interpreter would try again at its end, and say so
        raise Failed(Exit.NOT_WRITTEN, f"the output cannot be written: {error.strerror}") from error


def say_json(value: Any) -> None:
    """One JSON value in one line; escaped where the output is not UTF-8."""
    say(printable_json(value, ascii=(getattr(sys.stdout, "encoding", None) or "utf-8").lower() != "utf-8"))


def complain(sentence: str) -> None:
    """An error for people. It may have lines of its own; a value in it has passed `printable`."""
    print(f"sagabus: {printable(sentence, but=LINES)}", file=sys.stderr, flush=True)
