"""What a page shows in fences: the kinds of its blocks, and what one sees who types its commands."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.conditions import blocking_until

ANY = "…"
"""Stands for any text; alone on a line for any lines."""

ENDED_OTHERWISE = re.compile(r"^\S+ is (?:compensated|cancelled|terminated): ", re.MULTILINE)
"""What `start --wait` says with exit code 1."""

LOOKS = re.compile(r"sagabus (?:show|list) ")
"""Commands that change nothing."""

PATIENCE = 180
"""Seconds that a command may take."""


@dataclass(frozen=True)
class Block:
    """kind: the word after the fence, as GitHub colours it. about: what follows it."""

    kind: str
    about: str
    text: str


class Page:
    """A page in Markdown."""

    def __init__(self, text: str) -> None:
        self.text = text
        found = re.findall(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
        self.blocks = [Block(*one) for one in found]

    def of(self, kind: str) -> list[Block]:
        return [one for one in self.blocks if one.kind == kind]

    def block(self, kind: str, about: str) -> str:
        """The text of the first one."""
        return next(one.text for one in self.blocks if (one.kind, one.about) == (kind, about))

    @property
    def kinds(self) -> set[tuple[str, str]]:
        """Kind and what follows it, of all that is not Python. All fences of the page need a kind."""
        assert self.text.count("```") == 2 * len(self.blocks), "a fence without a kind"
        return {(one.kind, one.about) for one in self.blocks if one.kind != "python"}

    @property
    def links(self) -> list[str]:
        """To other files; without the place in them."""
        return [link for link in re.findall(r"\]\(([^)#\s]+)", self.text) if "://" not in link]


def assert_seen(transcript: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Each command of a transcript is run in this folder, and says what stands below it.

    A command that only looks is run until it does: a saga goes on while it is looked at.
    """
    for command, expected in commands(transcript):

        def seen(command: str = command, expected: list[str] = expected) -> bool:
            done = _run(command, folder, environment)
            otherwise = "start" in command and ENDED_OTHERWISE.search("\n".join(expected))
            assert done.returncode == (1 if otherwise else 0), (command, done.stdout, done.stderr)
            assert missing(expected, done.stdout) == [], (command, done.stdout)
            return True

        blocking_until(seen, what=command) if LOOKS.match(command) else seen()


def _run(command: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip


def commands(transcript: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that it is said to answer."""
    for part in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        command, *expected = part.rstrip("\n").splitlines()
        yield command, expected


def missing(expected: list[str], said: str) -> list[str]:
    """Lines that do not come, in this order."""
    lines = iter(said.splitlines())
    return [
        line
        for line in expected
        if line != ANY and not any(re.fullmatch(_pattern(line), one.rstrip()) for one in lines)
    ]


def with_programs(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment; the programs of this folder are found first."""
    return {**environment, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def _pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.split(ANY)))
