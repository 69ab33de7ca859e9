"""docs/reference/commands.md, made from the parsers of the command line: the words of `--help`, and its examples.

Laid out here, and not by argparse, whose layout differs from one Python to the next.
"""

from __future__ import annotations

import re
import textwrap
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sagabus.commands.main import ABOUT, EXIT_CODES, SUBCOMMANDS, parser

WIDTH: Final = 120
"""Characters of a line."""

HEAD: Final = f"""\
# Commands

Made from the command line by `python -m tests.docs.pages`; a test compares them. `sagabus COMMAND --help` says the
same.

{ABOUT}
"""

TAIL: Final = f"""\
## Exit codes

```text
{textwrap.dedent(EXIT_CODES.partition(chr(10))[2])}
```
"""


def page() -> str:
    return "\n".join((HEAD, *_index(), "", *(line for name in SUBCOMMANDS for line in _command(_place(name))), TAIL))


def _index() -> Iterator[str]:
    yield from ("| command | what it does |", "|---|---|")
    for name, place in SUBCOMMANDS.items():
        yield f"| [`{name}`](#sagabus-{name}) | {place[1]} |"


def _place(name: str) -> ArgumentParser:
    return _verbs(parser([name]))[name]


def _verbs(place: ArgumentParser) -> Mapping[str, ArgumentParser]:
    """The parsers below this one; none for most."""
    choices: Any = next((action.choices for action in place._actions if isinstance(action.choices, Mapping)), {})
    found: Mapping[str, ArgumentParser] = choices
    return found


def _command(place: ArgumentParser, level: str = "##") -> Iterator[str]:
    verbs = _verbs(place)
    actions = [
        action for action in place._actions if action.help != SUPPRESS and not isinstance(action.choices, Mapping)
    ]
    shown = [action for action in actions if "--help" not in action.option_strings]
    words = "VERB …" if verbs else " ".join(map(_usage, sorted(shown, key=lambda one: bool(one.option_strings))))
    yield f"{level} `{place.prog}`\n"
    yield textwrap.fill(re.sub(r"\s+", " ", place.description or ""), WIDTH, break_on_hyphens=False) + "\n"
    usage = textwrap.fill(f"{place.prog} {words}", WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    yield f"```text\n{usage}\n```\n"
    if shown:
        yield from ("| argument | meaning |", "|---|---|", *map(_row, shown), "")
    if verbs:
        for verb in verbs.values():
            yield from _command(verb, f"{level}#")
    else:
        yield from ("```sh", *_examples(place.epilog or ""), "```\n")


def _usage(action: Action) -> str:
    words = _words(action)
    if action.nargs in ("*", "?"):
        return f"[{words} …]" if action.nargs == "*" else f"[{words}]"
    if action.nargs == "+":
        return f"{words} …"
    return words if action.required else f"[{words}]"


def _words(action: Action) -> str:
    """`--limit LIMIT`, or `ID`."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    name = action.option_strings[-1]
    if action.nargs == 0:
        return name
    return f"{name} {action.metavar or action.dest.upper()}"


def _row(action: Action) -> str:
    meaning = (action.help or "") % {**vars(action), "prog": ""}
    if action.choices is not None:
        meaning += f": {', '.join(f'`{choice}`' for choice in action.choices)}"
    name = "`, `".join([*action.option_strings[:-1], _words(action)]).replace("|", "\\|")
    return f"| `{name}` | {meaning.strip().replace('|', chr(92) + '|') or '–'} |"


def _examples(epilog: str) -> Iterator[str]:
    """Each command below what it does."""
    lines = epilog.splitlines()[1:]
    for command, what in zip(lines[::2], lines[1::2], strict=True):
        yield from (f"# {what.strip()}", command.strip())
