"""What a page shows in fences: the kinds of its blocks, what one sees who types its commands or sends its requests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.conditions import blocking_until
from tests.support.processes import clean

ANY = "…"
"""Stands for any text; alone on a line for any lines."""

ENDED_OTHERWISE = re.compile(r"^\S+ is (?:compensated|cancelled|terminated): ", re.MULTILINE)
"""What `start --wait` says with exit code 1."""

LOOKS = re.compile(r"sagabus (?:show|list|dead-letters list) ")
"""Commands that change nothing."""

PATIENCE = 180
"""Seconds that a command may take."""


@dataclass(frozen=True)
class Block:
    """kind: the word after the fence, as GitHub colours it. about: what follows it."""

    kind: str
    about: str
    text: str


@dataclass(frozen=True)
class Exchange:
    """A block `http`: `METHOD PATH`, a JSON body, an empty line, `STATUS WORDS`, a JSON answer."""

    method: str
    path: str
    body: Any
    status: int
    answer: dict[str, Any]

    @classmethod
    def read(cls, block: Block) -> Exchange:
        request, _, answer = block.text.partition("\n\n")
        head, _, body = request.partition("\n")
        method, path = head.split()
        status, _, said = answer.partition("\n")
        return cls(method, path, json.loads(body), int(status.split()[0]), json.loads(said))


def differences(expected: Any, said: Any, at: str = "") -> list[str]:
    """Where an answer is not what a page says. `…` in a text is any text; `"…": "…"` stands for other fields."""
    if isinstance(expected, dict) and isinstance(said, dict):
        names = expected.keys() - {ANY}
        wrong = names ^ said.keys() if ANY not in expected else names - said.keys()
        inner = (differences(expected[name], said[name], f"{at}.{name}") for name in sorted(names & said.keys()))
        return [f"{at}.{name}" for name in sorted(wrong)] + [one for found in inner for one in found]
    is_text = isinstance(expected, str) and isinstance(said, str)
    same = re.fullmatch(_pattern(expected), said, re.DOTALL) if is_text else expected == said
    return [] if same else [f"{at}: {expected!r} is {said!r}"]


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


def assert_typed(transcript: str, folder: Path) -> None:
    """The same with the programs of this environment, without settings, and with errors as they stand in a terminal.

    An exit code is compared where the transcript asks for it.
    """
    environment = with_programs(Path(sys.executable).parent, clean({}))
    for command, expected in commands(transcript):

        def seen(command: str = command, expected: list[str] = expected) -> bool:
            done = _run(f"exec 2>&1; {command}", folder, environment)
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
