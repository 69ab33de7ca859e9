"""The word that was meant: by another tool's name for it, by its beginning, by a slip. And no word rather than any."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sagabus.commands.command_parser import CommandParser
from sagabus.commands.dead_letters import VERBS
from sagabus.commands.main import SUBCOMMANDS, whole_parser
from sagabus.commands.nearest import COMMANDS, MOST, OPTIONS, nearest


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("status", "show"), ("describe", "show"), ("logs", "show"), ("ps", "list"), ("ls", "list"),
        ("abort", "cancel"), ("kill", "cancel"), ("run", "start"), ("signal", "event"), ("dlq", "dead-letters"),
        ("STATUS", "show"), ("topcs", "topics"), ("retyr", "retry"), ("coord", "coordinator"), ("lst", "list"),
    ],
)  # fmt: skip
def test_a_word_from_elsewhere_or_a_slip_names_the_command(word: str, meant: str) -> None:
    assert nearest(word, SUBCOMMANDS, COMMANDS)[0] == meant


@pytest.mark.parametrize("word", ["frobnicate", "x", "", "-", "日本"])
def test_a_word_that_is_like_none_names_none(word: str) -> None:
    assert nearest(word, SUBCOMMANDS, COMMANDS) == []


def test_a_dash_is_no_likeness() -> None:
    assert nearest("--inptu", ["--input", "--wait", "--id", "--json"], OPTIONS) == ["--input"]


def test_only_what_there_is_is_named() -> None:
    assert nearest("status", ["list"], COMMANDS) == []
    assert nearest("delete", VERBS, COMMANDS) == ["drop"]


def parsers(one: CommandParser) -> list[CommandParser]:
    return [one, *(below for command in one.commands.values() for below in parsers(command))]


@pytest.mark.parametrize(("synonyms", "named"), [(COMMANDS, "commands"), (OPTIONS, "options")])
def test_each_synonym_has_a_word_that_there_is(synonyms: dict[str, Sequence[str]], named: str) -> None:
    known = {word for one in parsers(whole_parser()) for word in getattr(one, named)} | {"--help", "--version"}
    assert [word for word in synonyms if not nearest(word, known, synonyms)] == []
    assert all(len(nearest(word, known, synonyms)) <= MOST for word in synonyms)
