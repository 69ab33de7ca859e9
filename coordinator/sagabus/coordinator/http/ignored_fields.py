"""Which fields of an input its model does not have: they are ignored, so that old and new understand each other.

From a person such a field is most often a slip of the pen.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from pydantic import AliasChoices, AliasPath, BaseModel, JsonValue, RootModel

MOST_IGNORED: Final = 5
"""Fields that are named."""

LONGEST_PATH: Final = 100
"""Characters that are told of one."""


def ignored_fields(given: JsonValue, read: BaseModel) -> list[str]:
    """Their paths, `items.0.price`, at most MOST_IGNORED, and cut. read: what the model made of it."""
    return [path[:LONGEST_PATH] for path in islice(_ignored(given, read, ""), MOST_IGNORED)]


def _ignored(given: Any, read: Any, path: str) -> Iterator[str]:
    if isinstance(read, RootModel):
        yield from _ignored(given, read.root, path)
    elif isinstance(read, BaseModel) and isinstance(given, dict):
        model = type(read)
        if model.__pydantic_decorators__.model_validators or model.model_config.get("extra") == "allow":
            return  # it reads more than its fields
        keys = {name: _keys(model, name) for name in model.model_fields}
        yield from (path + name for name in given if name not in set[str]().union(*keys.values()))
        for name, its_keys in keys.items():
            for key in its_keys & given.keys():
                yield from _ignored(given[key], getattr(read, name, None), f"{path}{key}.")
    elif isinstance(read, list | tuple) and isinstance(given, list) and len(read) == len(given):
        for number, (one, its) in enumerate(zip(given, read, strict=True)):
            yield from _ignored(one, its, f"{path}{number}.")


def _keys(model: type[BaseModel], name: str) -> set[str]:
    """By which this field may be given."""
    alias, config = model.model_fields[name].validation_alias, model.model_config
    aliases = alias.choices if isinstance(alias, AliasChoices) else [alias]
    keys = {str(one.path[0]) if isinstance(one, AliasPath) else one for one in aliases if one is not None}
    by_name = not keys or config.get("validate_by_name") or config.get("populate_by_name")
    return {*keys, name} if by_name else keys
