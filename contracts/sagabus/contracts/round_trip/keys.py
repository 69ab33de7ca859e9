"""Under which key a field is written, and from which it is read."""

from __future__ import annotations

from collections.abc import Mapping

from sagabus.contracts.round_trip.findings import Schema, Unfaithful


def check_keys(fields: Mapping[str, Schema], path: str, config: Schema) -> None:
    """Each field is read from the key under which it is written, and from no other's."""
    by_alias, by_name = config.get("validate_by_alias", True), config.get("validate_by_name", False)
    by_name = by_name or config.get("populate_by_name", False)
    written = {name: field.get("serialization_alias") or name for name, field in fields.items()}
    taken: dict[str, str] = {}
    for name, key in written.items():
        if key in taken:
            raise Unfaithful(
                f"{path}.{name}", f"{taken[key]} is written as {key!r} too", "give each an alias of its own"
            )
        taken[key] = name
    for name, field in fields.items():
        keys = _read_keys(name, field, by_alias=by_alias, by_name=by_name)
        first = next((key for key in keys if key in taken), None)
        if first != written[name]:
            raise Unfaithful(
                f"{path}.{name}",
                f"it is written as {written[name]!r} and read from {', '.join(map(repr, keys)) or 'a path'}",
                "give it one alias= for both, or say ConfigDict(validate_by_name=True)",
            )


def _read_keys(name: str, field: Schema, *, by_alias: bool, by_name: bool) -> list[str]:
    alias = field.get("validation_alias")
    if alias is None:
        return [name]
    paths = [[alias]] if isinstance(alias, str) else [alias] if isinstance(alias[0], str) else alias
    keys = [path[0] for path in paths if len(path) == 1] if by_alias else []
    return [*keys, name] if by_name else keys
