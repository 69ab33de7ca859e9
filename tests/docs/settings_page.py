"""docs/reference/settings.md, made from the settings class: names, types, defaults and the words under each field."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from sagabus.messaging.setting_misfits import MECHANISMS
from sagabus.messaging.setting_texts import DAY
from sagabus.messaging.settings import OFF, SERVICES, Settings, variable

HEAD: Final = f"""\
# Settings

Made from `sagabus.messaging.settings` by `python -m tests.docs.pages`; a test compares them.

Settings are environment variables. There is no file of settings. A variable that is empty counts as not set. A process
that starts with wrong settings ends at once with exit code 2, and names all faults in one message. Passwords and tokens
are never shown. `sagabus doctor` names variables `SAGABUS_…` that are no setting.

A coordinator and a participant need {" and ".join(f"`{variable(field)}`" for field in SERVICES)}.
`sagabus migrate` needs the database, `sagabus topics` needs Kafka. Commands such as `sagabus start` need neither. They
use `{variable("url")}`; without it, the coordinator of `sagabus dev` in the current directory.

A time is a whole number with its unit: `45s`, `90m`, `12h`, `30d`. A number without a unit is refused.
"""

TAIL: Final = f"""\
## What belongs together

- `plaintext`: no other variable `SAGABUS_KAFKA_…` of this table may be set. The embedded bus knows nothing else.
- `tls`: log in by certificate, with both `SAGABUS_KAFKA_CERT_FILE` and `SAGABUS_KAFKA_KEY_FILE`, or not at all.
- `sasl_tls`: `SAGABUS_KAFKA_SASL_MECHANISM` ({", ".join(MECHANISMS)}), `SAGABUS_KAFKA_USERNAME` and
  `SAGABUS_KAFKA_PASSWORD` are needed.
- An API that other machines reach needs `SAGABUS_TOKEN`.
- What a service remembers must outlast what its topic holds: [kafka.md](../kafka.md).

## Variables of others

| variable | meaning |
|---|---|
| `PGSSLROOTCERT`, `PGSSLCERT`, `PGSSLKEY` | Certificates for PostgreSQL, as for libpq. |
| `PYTHONHASHSEED` | Only to free a saga that iterates a set of strings: [deployment.md](../deployment.md). |
"""

GROUPS: Final = {"Services": "", "Security of Kafka": "kafka_", "Retention": "retention_"}
"""Titles, and how the fields begin; the first one takes what the others leave."""

EXAMPLES: Final = {
    "kafka": "kafka-1:9092,kafka-2:9092",
    "database": "postgresql://shop:secret@db:5432/shop",
    "namespace": "shop",
    "http": "0.0.0.0:8080",
    "instance": "coordinator-0",
    "partitions": "48",
    "replication": "3",
    "kafka_ca_file": "/etc/kafka/ca.pem",
    "kafka_cert_file": "/etc/kafka/client.pem",
    "kafka_key_file": "/etc/kafka/client.key",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_username": "sagabus",
    "kafka_password": "secret",
    "url": "http://coordinator:8080",
    "token": "a-long-random-text",
    "retention_sagas": "90d",
    "retention_started_ids": "30d",
    "retention_inbox": "30d",
    "retention_dead_letters": "90d",
    "retention_parked": OFF,
}
"""By field. One that has a list of values needs none."""

TIME: Final = f"time with its unit; `{OFF}` keeps for ever"


def page() -> str:
    return "\n".join((HEAD, *(_group(title) for title in GROUPS), TAIL))


def fields(title: str) -> list[str]:
    """Of a group, in the order of the class."""
    starts = [start for start in GROUPS.values() if start]
    mine = GROUPS[title]
    return [
        name
        for name in Settings.model_fields
        if (name.startswith(mine) if mine else not name.startswith(tuple(starts)))
    ]


def example(name: str) -> str:
    default = Settings.model_fields[name].default
    others = [str(value) for value in type(default) if value is not default] if isinstance(default, StrEnum) else []
    found = EXAMPLES.get(name, others[-1] if others else None)
    assert found is not None, f"give an example of {variable(name)} in EXAMPLES of tests/docs/settings_page.py"
    return found


def _group(title: str) -> str:
    rows = [f"## {title}\n", "| variable | type | default | meaning | example |", "|---|---|---|---|---|"]
    words = _words()
    for name in fields(title):
        assert name in words, f"say what {name} means, in a string under the field of Settings"
        info = Settings.model_fields[name]
        cells = (f"`{variable(name)}`", _type(info), _default(info.default), words[name], f"`{example(name)}`")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, ""])


def _words() -> dict[str, str]:
    """By field, what stands under it."""
    (made,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(made, ast.ClassDef)
    return {
        field.target.id: re.sub(r"\s+", " ", below.value.value)
        for field, below in zip(made.body, made.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }  # fmt: skip


def _type(info: FieldInfo) -> str:
    if isinstance(info.default, StrEnum):
        return " or ".join(f"`{value}`" for value in type(info.default))
    if isinstance(info.default, SecretStr):
        return "text, never shown"
    if isinstance(info.default, float):
        return TIME
    if isinstance(info.default, int):
        return f"whole number, {_bound(info.metadata, Ge, 'ge')} to {_bound(info.metadata, Le, 'le')}"
    return "text"


def _bound(metadata: Iterable[Any], kind: type[Any], name: str) -> int:
    return next(int(getattr(one, name)) for one in metadata if isinstance(one, kind))


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, float):
        value = f"{value / DAY:g}d"
    return "–" if value == "" else f"`{value}`"
