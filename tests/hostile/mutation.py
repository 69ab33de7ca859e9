"""Changes a record the way nobody means to: bytes, JSON, headers, keys, ids. All from one seeded source of chance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from tests.hostile.seeds import HUGE, NEARLY_HUGE, Draft, atoms, header_values

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null')
NUMBER = re.compile(rb"\d+")
HUGE_ONE_IN = 3_000

Change = Callable[[Draft, Draft], Draft]


class Mutator:
    """topics: between which records are moved."""

    def __init__(self, random: Random, topics: Sequence[str]) -> None:
        self._random = random
        self._topics = topics
        self._changes: list[Change] = [
            self._flip, self._cut, self._token, self._token, self._tree, self._splice, self._value,
            self._drop_header, self._double_header, self._swap_headers, self._set_header, self._set_header,
            self._set_header, self._number, self._number, self._borrow_header, self._rename_header, self._key,
            self._borrow_key, self._topic, self._identity,
        ]  # fmt: skip

    def mutate(self, draft: Draft, others: Sequence[Draft]) -> Draft:
        """One to four changes; `others` lend their parts."""
        random = self._random
        if random.randrange(HUGE_ONE_IN) == 0:
            return replace(draft, value=random.choice((HUGE, NEARLY_HUGE)))
        for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
            draft = random.choice(self._changes)(draft, random.choice(others))
        return draft

    # The value.

    def _flip(self, draft: Draft, _: Draft) -> Draft:
        data = bytearray(draft.value or b"null")
        for _n in range(self._random.randint(1, 4)):
            if data:
                data[self._random.randrange(len(data))] = self._random.randrange(256)
        return replace(draft, value=bytes(data))

    def _cut(self, draft: Draft, _: Draft) -> Draft:
        data = draft.value or b""
        at, to = sorted((self._random.randint(0, len(data)), self._random.randint(0, len(data))))
        kept = (data[:at], data[at:to], data[:at] + data[to:], data + data[at:])
        return replace(draft, value=self._random.choice(kept))

    def _token(self, draft: Draft, _: Draft) -> Draft:
        """One token of the text becomes another, valid or not."""
        data = draft.value or b"null"
        found = list(TOKEN.finditer(data[:2_000]))
        if not found:
            return replace(draft, value=self._random.choice(atoms()))
        one = self._random.choice(found)
        return replace(draft, value=data[: one.start()] + self._random.choice(atoms()) + data[one.end() :])

    def _tree(self, draft: Draft, other: Draft) -> Draft:
        """A field of the object goes, comes twice, or is that of another record."""
        body, more = _json(draft.value), _json(other.value)
        if not isinstance(body, dict) or not body:
            return replace(draft, value=other.value)
        name = self._random.choice(list(body))
        match self._random.randrange(3):
            case 0:
                del body[name]
            case 1:
                return replace(draft, value=_twice(body, name, self._random.choice(atoms())))
            case _:
                body[name] = more.get(name, more) if isinstance(more, dict) else more
        return replace(draft, value=json.dumps(body).encode())

    def _splice(self, draft: Draft, other: Draft) -> Draft:
        one, two = draft.value or b"", other.value or b""
        at, to = self._random.randint(0, len(one)), self._random.randint(0, len(two))
        return replace(draft, value=one[:at] + two[to:])

    def _value(self, draft: Draft, other: Draft) -> Draft:
        return replace(draft, value=self._random.choice((None, b"", b"null", b"{}", other.value, *atoms()[-20:])))

    # Headers.

    def _drop_header(self, draft: Draft, _: Draft) -> Draft:
        headers = list(draft.headers)
        if headers:
            headers.pop(self._random.randrange(len(headers)))
        return replace(draft, headers=tuple(headers))

    def _double_header(self, draft: Draft, other: Draft) -> Draft:
        if not draft.headers:
            return replace(draft, headers=other.headers)
        name, value = self._random.choice(draft.headers)
        twice = (name, self._random.choice((value, other.header(name), None)))
        first = self._random.random() < 0.5
        return replace(draft, headers=(twice, *draft.headers) if first else (*draft.headers, twice))

    def _swap_headers(self, draft: Draft, _: Draft) -> Draft:
        headers = list(draft.headers)
        if len(headers) < 2:
            return draft
        i, j = self._random.sample(range(len(headers)), 2)
        headers[i], headers[j] = (headers[i][0], headers[j][1]), (headers[j][0], headers[i][1])
        return replace(draft, headers=tuple(headers))

    def _set_header(self, draft: Draft, _: Draft) -> Draft:
        value = self._random.choice((None, *header_values()))
        return self._with(draft, value)

    def _borrow_header(self, draft: Draft, other: Draft) -> Draft:
        if not other.headers:
            return draft
        name, value = self._random.choice(other.headers)
        return replace(draft, headers=(*(each for each in draft.headers if each[0] != name), (name, value)))

    def _rename_header(self, draft: Draft, _: Draft) -> Draft:
        if not draft.headers:
            return draft
        at = self._random.randrange(len(draft.headers))
        name = self._random.choice(("", "\\xff", "ce_type", "ce_id", "CE_ID", "ce_forwarded", "traceparent", "x" * 500))
        return replace(draft, headers=(*draft.headers[:at], (name, draft.headers[at][1]), *draft.headers[at + 1 :]))

    def _number(self, draft: Draft, _: Draft) -> Draft:
        """A number in a header becomes another: steps, attempts, partitions, the numbers within ids."""
        numbered = [each for each in draft.headers if each[1] and NUMBER.search(each[1])]
        if not numbered:
            return draft
        name, value = self._random.choice(numbered)
        found = self._random.choice(list(NUMBER.finditer(value or b"")))
        number = self._random.choice((b"0", b"1", b"2", b"3", b"4", b"7", b"2147483648", b"99999999999999999999"))
        changed = (value or b"")[: found.start()] + number + (value or b"")[found.end() :]
        return replace(draft, headers=tuple((n, changed if n == name else v) for n, v in draft.headers))

    def _with(self, draft: Draft, value: bytes | None) -> Draft:
        if not draft.headers:
            return replace(draft, headers=((self._random.choice(("ce_id", "ce_type", "ce_forwarded")), value),))
        at = self._random.randrange(len(draft.headers))
        return replace(draft, headers=(*draft.headers[:at], (draft.headers[at][0], value), *draft.headers[at + 1 :]))

    # Whose it is.

    def _key(self, draft: Draft, _: Draft) -> Draft:
        return replace(draft, key=self._random.choice((None, *header_values())))

    def _borrow_key(self, draft: Draft, other: Draft) -> Draft:
        return replace(draft, key=other.key)

    def _topic(self, draft: Draft, _: Draft) -> Draft:
        return replace(draft, topic=self._random.choice(self._topics))

    def _identity(self, draft: Draft, other: Draft) -> Draft:
        """The same thing about another saga."""
        if not draft.key or not other.key:
            return draft
        old, new = draft.key, other.key
        headers = tuple((name, None if value is None else value.replace(old, new)) for name, value in draft.headers)
        return replace(draft, key=new, headers=headers)


def _json(data: bytes | None) -> Any:
    try:
        return json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None


def _twice(body: dict[str, Any], name: str, again: bytes) -> bytes:
    return json.dumps(body).encode()[:-1] + b"," + json.dumps(name).encode() + b":" + again + b"}"
