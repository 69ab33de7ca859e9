"""When two inputs are the same one, and when the same bytes may be read as another value the next time.

A model with a default factory (`uuid4`, the time of day), or with a validator of its author's, may read the same bytes
as another value in another process. What was read once is therefore kept in a form that reads the same for ever: that
of the value, with all that was filled in. It is decided once for each model whether that can be needed at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from sagabus.contracts import codec
from sagabus.contracts.errors import MessageInvalid

M = TypeVar("M", bound=BaseModel)

_DIGEST: Final = hashlib.sha256().digest_size
_NOT_READ: Final = frozenset(("serialization", "metadata", "config", "cls"))
"""Parts of a core schema that say nothing of how a value is read."""


@lru_cache(maxsize=1_000)
def reads_alike(model: type[BaseModel]) -> bool:
    """Whether the same bytes are the same value each time: nothing in its core schema computes."""
    schema: Any = model.__pydantic_core_schema__
    return isinstance(schema, dict) and not any(map(_computes, _nodes(schema)))


def _computes(node: dict[str, Any]) -> bool:
    kind = node.get("type")
    by_function = isinstance(kind, str) and kind.startswith("function-")
    return by_function or bool(node.get("default_factory") or node.get("post_init") or node.get("custom_init"))


def _nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += [value for key, value in node.items() if key not in _NOT_READ]
        elif isinstance(node, list | tuple):
            waiting += node


def read_for_good(model: type[M], raw: bytes | None, *, what: str) -> tuple[M, bytes | None]:
    """The value, and the bytes that will be read as that very value at any time; None where `raw` will.

    Raises MessageInvalid, also for a model that never reads the same value twice.
    """
    value = codec.decode(model, raw, what=what)
    if reads_alike(model):
        return value, None
    kept = codec.encode(value)
    if _says_all(raw, kept):
        return value, None
    again = codec.decode(model, kept, what=what)
    if _canonical(again) != _canonical(value):
        raise MessageInvalid(
            "payload.invalid",
            f"{what}: {model.__name__} reads another value each time, even of what it has written itself; "
            "let its validators leave a valid value as it is",
        )
    return again, kept


def _says_all(raw: bytes | None, kept: bytes) -> bool:
    """Nothing was filled in or changed. What the model does not know may stand beside it."""
    said, all = from_json(raw or b"null"), from_json(kept)
    if isinstance(said, dict) and isinstance(all, dict):
        return all.keys() <= said.keys() and all == {key: said[key] for key in all}
    return bool(said == all)


def writes(value: BaseModel, data: bytes) -> bool:
    """Whether these bytes are what the value writes now. Cheap, and False where it cannot be written any more."""
    try:
        return _written(value) == data
    except ValueError:
        return False


def _written(value: BaseModel) -> bytes:
    """As `codec.encode` writes it, which also looks whether it can be read: this one has been read."""
    return value.__pydantic_serializer__.to_json(value, by_alias=True, round_trip=True, warnings=False)


def digests(request: bytes, input: BaseModel | None) -> bytes:
    """To know an input again (H2): of the bytes that asked for it, and of what they say; the latter if it is known."""
    asked = hashlib.sha256(request).digest()
    return asked if input is None else asked + hashlib.sha256(_canonical(input)).digest()


def same_input(one: bytes, other: bytes) -> bool:
    """Of two results of `digests`: equal bytes are the same input, and so are equal values.

    Older releases stored one digest, of whichever they had.
    """
    return not _parts(one).isdisjoint(_parts(other))


def _parts(digests: bytes) -> set[bytes]:
    return {digests[at : at + _DIGEST] for at in range(0, len(digests), _DIGEST)}


def _canonical(value: BaseModel) -> bytes:
    """Equal for equal values in every process, though sets are walked in another order in each."""
    if not _has_sets(type(value)):
        return _written(value)
    return _json(_sorted(value.model_dump(by_alias=True, round_trip=True)))


@lru_cache(maxsize=1_000)
def _has_sets(model: type[BaseModel]) -> bool:
    schema: Any = model.__pydantic_core_schema__
    open = ("set", "frozenset", "any")
    return not isinstance(schema, dict) or any(node.get("type") in open for node in _nodes(schema))


def _json(value: Any) -> bytes:
    return to_json(value, bytes_mode="hex", fallback=repr)


def _sorted(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(_json(_sorted(one)).decode() for one in value)
    if isinstance(value, dict):
        return {key: _sorted(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_sorted(one) for one in value]
    return value
