"""What the doctor says of the coordinators of one namespace: each should run the sagas that the others run (B15)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from sagabus.commands.doctor.finding import Report
from sagabus.coordinator.store.rows import ShardOwner

Sagas = frozenset[tuple[str, int]]
"""Names and versions."""

CURE: Final = (
    "start every coordinator of a namespace with the same modules: a saga's shard may be any process's. While a new "
    "version is rolled out this passes by itself"
)


def compare(owners: Iterable[ShardOwner], report: Report) -> None:
    """owners: of the shards that are worked on now."""
    processes = {_name(owner): _sagas(owner) for owner in owners}
    known = frozenset[tuple[str, int]]().union(*processes.values())
    lacking = {name: known - sagas for name, sagas in processes.items() if known - sagas}
    report.figures["coordinators"] = len(processes)
    if lacking:
        each = "; ".join(f"{name} lacks {_listed(sagas)}" for name, sagas in sorted(lacking.items()))
        what = f"coordinators of one namespace run different sagas, and those of the shards of each wait there: {each}"
        report.found("definitions.differ", what, CURE)


def _name(owner: ShardOwner) -> str:
    instance = f" ({owner.instance})" if owner.instance else ""
    return f"process {owner.process} on {owner.host}{instance}"


def _sagas(owner: ShardOwner) -> Sagas:
    return frozenset((str(one["name"]), int(one["version"])) for one in json.loads(owner.definitions))


def _listed(sagas: Sagas) -> str:
    return ", ".join(f"{name} version {version}" for name, version in sorted(sagas))
