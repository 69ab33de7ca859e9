"""Whether what one JSON schema allows is read by another one: how far it was narrowed, in words.

Knows what pydantic writes of models. What it does not know, a keyword of an author's own, it leaves alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Schema = Mapping[str, Any]
Narrowing = tuple[str, str]
"""The path of a field, and what is wrong there."""

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME: Final = ("pattern", "format", "multipleOf", "uniqueItems")
_TYPES: Final = ("string", "number", "integer", "boolean", "object", "array", "null")


def narrowings(written: Schema, read: Schema, *, whole: bool = False) -> list[Narrowing]:
    """written: what may be there. read: what is accepted. Empty if all of the one is accepted by the other. whole:
    whoever writes leaves no field out."""
    return [*_Comparison(written, read, whole).narrowed("", written, read)]


class _Comparison:
    def __init__(self, written: Schema, read: Schema, whole: bool) -> None:
        self._written = written
        self._read = read
        self._whole = whole
        self._under_way: set[tuple[str, str]] = set()
        """Pairs of references that are being compared: a model may hold itself."""

    def narrowed(self, path: str, written: Schema, read: Schema) -> Iterator[Narrowing]:
        pair = str(written.get("$ref", "")), str(read.get("$ref", ""))
        if all(pair):
            if pair in self._under_way:
                return
            self._under_way.add(pair)
        try:
            yield from self._compared(path, _resolved(written, self._written), _resolved(read, self._read))
        finally:
            self._under_way.discard(pair)

    def _compared(self, path: str, written: Schema, read: Schema) -> Iterator[Narrowing]:
        may_be, may_read = _alternatives(written), _alternatives(read)
        if len(may_be) > 1 or len(may_read) > 1:
            yield from self._each(path, may_be, may_read)
            return
        if "enum" in read or "const" in read:
            yield from _values(path, written, read)
            return
        if (fault := _type_fault(written, read)) is not None:
            yield path, fault
            return
        yield from _bounds(path, written, read)
        yield from self._object(path, written, read)
        yield from self._array(path, written, read)

    def _each(self, path: str, may_be: Sequence[Schema], may_read: Sequence[Schema]) -> Iterator[Narrowing]:
        """Each that may be there has to be read by one."""
        for one in may_be:
            found = [[*self.narrowed(path, one, other)] for other in may_read]
            if all(found):
                alike = [faults for faults, other in zip(found, may_read, strict=True) if self._are_alike(one, other)]
                if len(alike) == 1:
                    yield from alike[0]
                else:
                    yield path, f"{self._shown(one)} is accepted no longer"

    def _are_alike(self, written: Schema, read: Schema) -> bool:
        a, b = _resolved(written, self._written), _resolved(read, self._read)
        return a.get("title") == b.get("title") and a.get("type") == b.get("type")

    def _shown(self, schema: Schema) -> str:
        found = _resolved(schema, self._written)
        return str(found.get("title") or found.get("type") or found.get("const") or "a value")

    def _object(self, path: str, written: Schema, read: Schema) -> Iterator[Narrowing]:
        had, has = written.get("properties", {}), read.get("properties", {})
        must_have = set(written.get("required", ()))
        for name in read.get("required", ()):
            if name not in had:
                yield _under(path, name), "it is a new field, and required"
            elif name not in must_have and not self._whole:
                yield _under(path, name), "it is required now, and could be left out"
        for name, schema in had.items():
            if name in has:
                yield from self.narrowed(_under(path, name), schema, has[name])
            elif read.get("additionalProperties") is False:
                yield _under(path, name), "it was removed, and the model forbids fields that it does not have"
        others, are_read = written.get("additionalProperties"), read.get("additionalProperties")
        if isinstance(others, Mapping) and isinstance(are_read, Mapping):
            yield from self.narrowed(_under(path, "*"), others, are_read)

    def _array(self, path: str, written: Schema, read: Schema) -> Iterator[Narrowing]:
        items, are_read = written.get("items"), read.get("items")
        if isinstance(items, Mapping) and isinstance(are_read, Mapping):
            yield from self.narrowed(f"{path}[]", items, are_read)
        places = zip(written.get("prefixItems", ()), read.get("prefixItems", ()), strict=False)
        for number, (one, other) in enumerate(places):
            yield from self.narrowed(f"{path}[{number}]", one, other)


def _resolved(schema: Schema, whole: Schema) -> Schema:
    """Behind its `$ref`. What stands beside that, such as a default, changes nothing."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    found: Any = whole
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {})
    return _resolved(found, whole) if isinstance(found, Mapping) else {}


def _alternatives(schema: Schema) -> Sequence[Schema]:
    for word in ("anyOf", "oneOf"):
        if schema.get(word):
            return [*schema[word]]
    return [schema]


def _values(path: str, written: Schema, read: Schema) -> Iterator[Narrowing]:
    accepted = [*read["enum"]] if "enum" in read else [read["const"]]
    if "enum" not in written and "const" not in written:
        yield path, f"only {_listed(accepted)} is accepted now"
        return
    were = [*written["enum"]] if "enum" in written else [written["const"]]
    lost = [value for value in were if value not in accepted]
    if lost:
        yield path, f"{_listed(lost)} is accepted no longer"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(repr, values))


def _type_fault(written: Schema, read: Schema) -> str | None:
    wanted = read.get("type")
    if wanted is None:
        return None
    was = written.get("type")
    if was is None and ("enum" in written or "const" in written):
        return None
    if was == wanted or (was, wanted) == ("integer", "number"):
        return None
    return f"it is {_article(wanted)} now, and was {_article(was) if was in _TYPES else 'anything'}"


def _article(word: object) -> str:
    return f"an {word}" if str(word).startswith(("a", "i", "o")) else "null" if word == "null" else f"a {word}"


def _bounds(path: str, written: Schema, read: Schema) -> Iterator[Narrowing]:
    for word in _LOWER:
        if word in read and (word not in written or written[word] < read[word]):
            yield path, f"{word} is {read[word]} now, and was {written.get(word, 'not set')}"
    for word in _UPPER:
        if word in read and (word not in written or written[word] > read[word]):
            yield path, f"{word} is {read[word]} now, and was {written.get(word, 'not set')}"
    for word in _SAME:
        if read.get(word) and read[word] != written.get(word):
            yield path, f"{word} is {read[word]} now, and was {written.get(word, 'not set')}"


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
