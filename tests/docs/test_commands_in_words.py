"""Commands that people are told to type are commands: each one in a sentence of ours can be parsed."""

from __future__ import annotations

import ast
import re
import shlex
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sagabus.commands.main import SUBCOMMANDS, parser
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.cure import cure_of

ROOT: Final = Path(__file__).parents[2]
HOUSES: Final = ("contracts", "messaging", "coordinator", "participants")
COMMAND: Final = re.compile(r"`sagabus ([^`]*)`")
FIELD: Final = re.compile(r"\{\w+\}")
"""Of a text that is filled in later, by `format`."""
FILLED_IN: Final = "1"
"""What stands where the value of an f-string does."""


def sentences() -> Iterator[tuple[str, str]]:
    """Of every string in the code that is no documentation: where, and the whole of it."""
    for house in HOUSES:
        for path in sorted((ROOT / house).rglob("*.py")):
            tree = ast.parse(path.read_text())
            nodes = list(ast.walk(tree))
            left_out = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            left_out |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
            for node in nodes:
                if isinstance(node, ast.JoinedStr):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", whole(node)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def whole(node: ast.JoinedStr) -> str:
    """A value that is joined to a word is an option that may be missing."""
    text = ""
    for part in node.values:
        text += str(part.value) if isinstance(part, ast.Constant) else FILLED_IN if text.endswith(" ") else ""
    return text


def commands() -> list[tuple[str, str]]:
    """With arguments; a bare name is a pointer to what the command's own help tells."""
    found = [(where, FIELD.sub(FILLED_IN, command)) for where, text in sentences() for command in COMMAND.findall(text)]
    return [(where, command) for where, command in found if command.split()[0] in SUBCOMMANDS and " " in command]


def assert_is_read(command: str) -> Namespace:
    words = shlex.split(command)
    try:
        return parser(words).parse_args(words)
    except SystemExit:
        pytest.fail(f"no command: sagabus {command}")


@pytest.mark.parametrize(("where", "command"), commands())
def test_a_command_in_a_sentence_can_be_typed(where: str, command: str) -> None:
    assert_is_read(command)


@pytest.mark.parametrize("kind", ConcernKind)
@pytest.mark.parametrize("id", ["O-1", "~@:-_.9"])
def test_what_a_cure_says_can_be_typed(kind: ConcernKind, id: str) -> None:
    for command in COMMAND.findall(cure_of(Concern(kind, 7), id=id)):
        options = vars(assert_is_read(command))
        assert id in (options.get("id"), *options.get("sagas", ()))
        assert options.get("step") == (7 if "--step" in command else None)
