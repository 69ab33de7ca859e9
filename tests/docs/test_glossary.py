"""One word for one idea: the glossary's words are used, and the words that it gave up name nothing in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
HOUSES = ("contracts", "messaging", "coordinator", "participants")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()

GIVEN_UP: Final = frozenset((
    "beat", "crew", "desk", "disturbed", "holdings", "intake", "ledger", "objection", "objections", "outlet",
    "prune", "pruning", "pulse", "purge", "purging", "scratch", "side", "sift", "sifted", "taking",
    "trouble", "unheard",
))  # fmt: skip
"""Words that are in no name: not of a file, a class, a function, a parameter, a variable or an attribute."""

ALLOWED: Final = {
    "coordinator/shard": {"intake"},  # what a turn of the coordinator takes in, records and timers
}
"""Part of a path to the words that mean something else there, each with its reason."""


def words_of(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def names_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What a module names itself; names of others, which it only uses, are theirs."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno


@cache
def names() -> list[tuple[str, int, str]]:
    """File, line, name: of all houses."""
    found = []
    for file in sorted(path for house in HOUSES for path in (ROOT / house).rglob("*.py")):
        place = str(file.relative_to(ROOT))
        found.append((place, 1, file.stem))
        found += [(place, line, name) for name, line in names_in(ast.parse(file.read_text()))]
    return found


def terms() -> list[str]:
    tables = GLOSSARY.partition("## Not used")[0]
    first_cells = re.findall(r"^\| (\*\*.*?) \|", tables, re.MULTILINE)
    return [term for cell in first_cells for term in re.findall(r"\*\*(.+?)\*\*", cell)]


def test_a_word_that_was_given_up_names_nothing() -> None:
    wrong = [
        f"{file}:{line}: {name}"
        for file, line, name in names()
        if words_of(name) & GIVEN_UP - {word for part, words in ALLOWED.items() if part in file for word in words}
    ]
    assert wrong == [], "see docs/glossary.md for the word to use"


@pytest.mark.parametrize("place", ALLOWED)
def test_what_is_allowed_is_used(place: str) -> None:
    used = {word for file, _, name in names() if place in file for word in words_of(name)}
    assert ALLOWED[place] <= used


def test_every_term_is_used() -> None:
    known = {word for _, _, name in names() for word in words_of(name)}
    others = [page for page in (ROOT / "docs").rglob("*.md") if page.name != "glossary.md"]
    text = " ".join(page.read_text().lower() for page in [*others, ROOT / "README.md"])
    unused = [
        term for term in terms() if not words_of(term) <= known and not re.search(rf"\b{re.escape(term)}\b", text)
    ]
    assert unused == []
    assert len(terms()) > 50


def test_terms_stand_once() -> None:
    assert sorted(terms()) == sorted(set(terms()))


def test_the_glossary_tells_the_given_up_words() -> None:
    told = words_of(GLOSSARY.partition("## Not used")[2])
    untold = {"crew", "desk", "intake"}  # of tests only, and what has one meaning now
    assert {word for word in GIVEN_UP if not any(word.startswith(each[:4]) for each in told)} == untold
