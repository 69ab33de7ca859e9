"""Every verb that was sent has one answer, in history and on the topic, and the two agree (U8)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sagabus.contracts.envelope import unpack_headers
from sagabus.contracts.names import requests_topic
from sagabus.coordinator.core.saga.history import REFUSED
from tests.simulation.bus import LoggedRecord

if TYPE_CHECKING:
    from tests.simulation.world import World

TOLD: Final = {
    "sagabus.request.applied": "applied",
    "sagabus.request.refused": "refused",
    "sagabus.cancel.rejected": "refused",
}
_NO_VERBS: Final = ("start", "event")


def check(world: World, namespace: str) -> Iterator[str]:
    """What reached no saga is a dead letter; a later copy of it may have reached one. What nobody has read yet, or what
    is kept, has no answer."""
    tables = {name: world.server.table((namespace, name)).values() for name in ("history", "dead_letter")}
    rows, told = _rows(tables["history"]), _told(world.bus.published)
    dead = {_id(unpack_headers(letter["headers"])) for letter in tables["dead_letter"]}
    kept = {_id(unpack_headers(one["headers"])) for one in world.server.table((namespace, "early_request")).values()}
    for id in dict.fromkeys(_id(record.headers) for record in _read(world, namespace) if _is_verb(record)):
        found, said = rows.get(id, []), told.get(id, set())
        if len(found) != 1 and (found or not (id in dead or id in kept)):
            yield f"the request {id} has {len(found)} outcomes in history: {found}"
        elif said != set(found):
            yield f"the request {id} has the outcomes {found}, and the world was told {sorted(said)}"


def _read(world: World, namespace: str) -> Iterator[LoggedRecord]:
    """The requests that the owners of their shards have taken in."""
    topic = requests_topic(namespace)
    for shard in world.server.table((namespace, "shard")).values():
        read = shard["topics"].get(topic, {}).get("next", 0)
        yield from world.bus.topics[topic].logs[shard["shard"]][:read]


def _is_verb(record: LoggedRecord) -> bool:
    return json.loads(record.value or b"{}").get("type") not in _NO_VERBS


def _rows(history: Iterable[Mapping[str, Any]]) -> Mapping[str, Sequence[str]]:
    """What each request became. One that was kept has a row of its own, and then that of its refusal, which counts."""
    applied: defaultdict[str, list[str]] = defaultdict(list)
    refused: defaultdict[str, list[str]] = defaultdict(list)
    for row in history:
        if row["kind"] in ("cancel", "operator"):
            applied[row["ref"]].append("applied")
        elif (row["kind"], row["name"]) == ("notice", REFUSED):
            refused[row["ref"]].append("refused")
    return {**applied, **refused}


def _told(published: Iterable[LoggedRecord]) -> Mapping[str, set[str]]:
    told: defaultdict[str, set[str]] = defaultdict(set)
    for record in published:
        headers = dict(record.headers)
        answer = TOLD.get(headers.get("ce_type", b"").decode())
        if answer is not None:
            told[headers["ce_causationid"].decode()].add(answer)
    return told


def _id(headers: Iterable[tuple[str, bytes]]) -> str:
    return dict(headers).get("ce_id", b"").decode()
