"""The corpus: what mutations are made from. Text files, so that whoever finds a new trap adds a line."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sagabus.contracts.envelope import MAX_PAYLOAD

CORPUS = Path(__file__).parent / "corpus"

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before it has a place in a log."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    def header(self, name: str) -> bytes | None:
        return dict(self.headers).get(name)


HUGE = b'{"type":"event","name":"x","data":"' + b"x" * (2 * 1024 * 1024) + b'"}'
"""Two megabytes: more than is read."""

NEARLY_HUGE = b'{"type":"event","name":"x","data":"' + b"x" * (MAX_PAYLOAD - 100) + b'"}'


@cache
def atoms() -> tuple[bytes, ...]:
    """JSON tokens, good and bad."""
    return tuple(_grown(line) for line in _lines("atoms.txt"))


@cache
def header_values() -> tuple[bytes, ...]:
    return tuple(_grown(line) if line.startswith("@") else ast.literal_eval(line) for line in _lines("headers.txt"))


@cache
def records() -> tuple[Draft, ...]:
    """Whole bad records, most of them for a coordinator."""
    return tuple(
        Draft(one["topic"], _bytes(one["key"]), _bytes(one["value"]), tuple((n, _bytes(v)) for n, v in one["headers"]))
        for one in json.loads((CORPUS / "records.json").read_text())
    )


def _lines(name: str) -> list[str]:
    return [line for line in (CORPUS / name).read_text().split("\n") if line and not line.startswith("#")]


def _grown(line: str) -> bytes:
    kind, _, size = line.partition(":")
    match kind:
        case "@digits":
            return b"9" * int(size)
        case "@nest":
            return b"[" * int(size) + b"]" * int(size)
        case "@text":
            return b'"' + b"x" * int(size) + b'"'
    return line.encode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("latin-1")
