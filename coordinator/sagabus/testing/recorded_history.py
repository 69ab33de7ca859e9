"""A recorded history against the code as it is now: what a deployment would do to this open saga."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sagabus.contracts import declared
from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import source_of
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.concern import Concerns
from sagabus.coordinator.core.saga.recorded import Head, Recorded, read
from sagabus.coordinator.core.saga.replay import restore
from sagabus.coordinator.core.saga.standing import Standing
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.definition import SagaDefinition


class HistoryDiffers(AssertionError):
    """The code does something else than the history says: a coordinator would stop this saga. In its words."""

    def __init__(self, saga_id: str, words: str) -> None:
        super().__init__(f"saga {saga_id} cannot go on with this code: {words}")


def replays(history: Path | str | Iterable[bytes] | Recorded, /, *definitions: SagaDefinition[Any, Any]) -> None:
    """Replay a history that `sagabus show ID --export FILE` has written. Nothing is sent, and nothing is changed.

    history: the file, its lines, or what `read` has made of them. definitions: the saga's code; of several, the one
    whose name and version the history has. Raises HistoryDiffers, HistoryUnreadable; LookupError if none fits.
    """
    recorded = _recorded(history)
    head = recorded.head
    definition = next((one for one in definitions if (one.name, one.version) == (head.saga, head.version)), None)
    if definition is None:
        given = ", ".join(map(repr, definitions)) or "none"
        raise LookupError(f"the history is of saga {head.saga} version {head.version}; given: {given}")
    saga = restore(
        _state(head), definition, recorded.rows, status=head.status, now=recorded.rows[-1].at,
        contracts=declared.activities,
    )  # fmt: skip
    try:
        if saga.stopped is not None:
            raise HistoryDiffers(head.id, saga.stopped.stop.words)
    finally:
        saga.evict()


def _recorded(history: Path | str | Iterable[bytes] | Recorded) -> Recorded:
    if isinstance(history, Recorded):
        return history
    if isinstance(history, str | Path):
        return read(Path(history).read_bytes().splitlines(), what=str(history))
    return read(history)


def _state(head: Head) -> SagaState:
    addresses = Addresses("sagabus", source_of("sagabus"), SagaId(head.id), RunId(head.run), 0)
    state = SagaState(addresses, definition=head.saga, version=head.version)
    state.standing = Standing(Concerns(), status=head.status, fingerprint=head.fingerprint)
    return state
