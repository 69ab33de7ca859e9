"""What the doctor says of coordinators: is the one that it can ask ready, and does each run the same sagas (B15)?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from sagabus.commands import health
from sagabus.commands.doctor.finding import Report
from sagabus.commands.subcommand import Failed
from sagabus.coordinator.store.rows import ShardOwner

Sagas = frozenset[tuple[str, int]]
"""Names and versions."""

CURE: Final = (
    "start every coordinator of a namespace with the same modules: any process may own a saga's shard. While a new "
    "version is rolled out this passes by itself"
)


async def look(report: Report) -> None:
    """Whether the coordinator at SAGABUS_URL, else SAGABUS_HTTP, is ready. Where nobody answers, nothing is found."""
    with suppress(Failed):
        answer = await health.asked_coordinator()
        if not answer.is_success and (reason := health.reason_in(answer.text)):
            what = f"the coordinator at {answer.url.copy_with(path='/')} is not ready: {reason}"
            cure = "it tries again by itself; if this stays, look at its log for what the reason names"
            report.found("coordinator.not_ready", what, cure)


def compare(owners: Iterable[ShardOwner], report: Report) -> None:
    """owners: of the shards that are worked on now."""
    processes = {_name(owner): _sagas(owner) for owner in owners}
    known = frozenset[tuple[str, int]]().union(*processes.values())
    lacking = {name: known - sagas for name, sagas in processes.items() if known - sagas}
    report.figures["coordinators"] = len(processes)
    if lacking:
        each = "; ".join(f"{name} lacks {_listed(sagas)}" for name, sagas in sorted(lacking.items()))
        what = (
            f"coordinators of one namespace run different sagas; a saga waits where its definition is missing: {each}"
        )
        report.found("definitions.differ", what, CURE)


def _name(owner: ShardOwner) -> str:
    instance = f" ({owner.instance})" if owner.instance else ""
    return f"process {owner.process} on {owner.host}{instance}"


def _sagas(owner: ShardOwner) -> Sagas:
    return frozenset((str(one["name"]), int(one["version"])) for one in json.loads(owner.definitions))


def _listed(sagas: Sagas) -> str:
    return ", ".join(f"{name} version {version}" for name, version in sorted(sagas))
