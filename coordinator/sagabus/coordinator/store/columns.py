"""The columns of the coordinator's tables in the order of their dataclass's fields, and how the value of each travels.

`tables` says what the columns are, `rows` what they mean; tests hold the three together.
"""

from __future__ import annotations

from typing import Final

from sagabus.coordinator.store.wire import BIGINT, BOOLEAN, BYTES, INTEGER, JSON, TEXT, TIME, WORDS, Columns

SAGA: Final[Columns] = {
    "id": TEXT, "run": TEXT, "definition": WORDS, "version": INTEGER, "fingerprint": TEXT, "status": TEXT,
    "shard": INTEGER, "sequence": INTEGER, "last_now": TIME, "input_hash": BYTES, "started_at": TIME, "result": BYTES,
    "error": BYTES, "attributes": JSON, "parent_id": TEXT, "parent_run": TEXT, "parent_step": INTEGER,
    "parent_shard": INTEGER, "attention": WORDS, "concerns": JSON, "decided": INTEGER, "paused": BOOLEAN,
    "trace": BYTES, "closed_at": TIME, "events": JSON,
}  # fmt: skip
FIXED: Final = frozenset((
    "definition", "shard", "input_hash", "started_at", "parent_id", "parent_run", "parent_step", "parent_shard",
    "trace",
))  # fmt: skip
"""Never changed once the saga is there."""
CHANGED: Final[Columns] = {name: wire for name, wire in SAGA.items() if name not in FIXED}
CHANGES: Final[Columns] = {name: wire for name, wire in CHANGED.items() if name not in ("id", "run")}
TIMER: Final[Columns] = {"shard": INTEGER, "id": TEXT, "run": TEXT, "kind": TEXT, "number": INTEGER, "due": TIME}
TIMER_KEY: Final[Columns] = {name: wire for name, wire in TIMER.items() if name != "due"}
SAGA_REF: Final[Columns] = {name: TIMER[name] for name in ("shard", "id", "run")}
EARLY: Final[Columns] = {
    "shard": INTEGER, "saga_id": TEXT, "number": BIGINT, "at": TIME, "topic": TEXT, "partition": INTEGER,
    "offset": BIGINT, "timestamp": BIGINT, "key": BYTES, "headers": BYTES, "value": BYTES,
}  # fmt: skip
EARLY_KEY: Final[Columns] = {name: EARLY[name] for name in ("shard", "saga_id", "number")}
OWNER: Final[Columns] = {
    "shard": INTEGER, "host": WORDS, "process": INTEGER, "instance": WORDS, "definitions": JSON,
}  # fmt: skip
STARTED: Final[Columns] = {"id": TEXT, "run": TEXT, "input_hash": BYTES, "until": TIME, "shard": INTEGER}
HISTORY: Final[Columns] = {
    "seq": INTEGER, "at": TIME, "kind": TEXT, "step": INTEGER, "attempt": BIGINT, "name": TEXT, "ref": TEXT,
    "payload": BYTES, "sequence": INTEGER,
}  # fmt: skip
"""As it is read. It is written by `copy_format`."""
