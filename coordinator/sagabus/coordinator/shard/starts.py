"""Start requests: every accepted start becomes one saga, and its copies change nothing (H2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from sagabus.contracts import canonical
from sagabus.contracts.envelope import Record, microseconds
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.lifecycle import LifecycleType
from sagabus.contracts.names import RunId
from sagabus.contracts.requests import Request
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.shard.decisions import APPLIED, Decisions
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.present import Present
from sagabus.messaging.shards.tenure import Tenure

SAME_START: Final = "start.same"
OTHER_INPUT: Final = "start.other_input"
START_EXPIRED: Final = "start.expired"
_EXPIRED: Final = (
    "this start is older than what is remembered of started ids, so it may be a copy of one that was carried out; "
    "look for its effects, then start it under another id"
)


@dataclass(slots=True)
class Starts:
    """Of one turn. ids: gives each run its own (S13).

    until: for how long an id is remembered that is started again now, in microseconds since 1970.
    """

    decisions: Decisions
    present: Present
    loading: Loading
    ids: Callable[[], UUID]
    until: int = 0

    def take(self, memory: ShardMemory, request: Request, record: Record) -> None:
        """An equal start is the same saga; another input for the same id is refused visibly."""
        definition = self.loading.definitions.newest(request.name)
        try:
            digest = _input_hash(definition, request)
        except MessageInvalid as error:
            self._reject(memory, request, record, error.reason, error.message)
            return
        before = self.present.input_hash(memory, request.saga_id)
        removed = self.present.removed.get(request.saga_id) if before is None else None
        if removed is not None:
            before = removed.input_hash
        if before is None and may_be_forgotten(memory.tenure, record):
            self._reject(memory, request, record, START_EXPIRED, _EXPIRED)
        elif before is None:
            self.decisions.counts[APPLIED] += 1
            self._begin(memory, request, definition, digest)
        elif canonical.same_input(before, digest):
            self.decisions.counts[SAME_START] += 1
            if removed and removed.until < self.until:  # so that this copy is known again as long as it can be read
                self.decisions.writes.started_ids.append(replace(removed, until=self.until))
        else:
            self._reject(memory, request, record, OTHER_INPUT, other_input(request.saga_id))

    def _begin(
        self, memory: ShardMemory, request: Request, definition: SagaDefinition[Any, Any] | None, digest: bytes
    ) -> None:
        state = self.loading.state(
            request.saga_id, RunId(self.ids().hex[:12]), memory.tenure.shard, definition=request.name,
            version=definition.version if definition else 0, trace=request.trace,
        )  # fmt: skip
        state.input_hash = digest
        saga = Saga(state, definition)
        self.present.know(saga)
        self.decisions.made(saga, memory)
        self.decisions.take(saga, memory, Input(
            request.saga_id, state.run, Kind.STARTED, name=request.name, ref=request.message_id, payload=request.body,
            cause=request.message_id,
        ))  # fmt: skip

    def _reject(self, memory: ShardMemory, request: Request, record: Record, reason: str, message: str) -> None:
        self.decisions.dead_letter(memory.tenure, record, reason, message)
        self.decisions.reject(
            memory.tenure, LifecycleType.START_REJECTED, request.saga_id, cause=request.message_id, code=reason,
            message=message,
        )  # fmt: skip


def other_input(id: str) -> str:
    return f"saga {id} was started with another input; choose another id"


def may_be_forgotten(tenure: Tenure, record: Record) -> bool:
    """H2. An unknown start from before that may be a copy of one whose id was forgotten. 0: its time is not known."""
    known_from = tenure.pruned_before
    return known_from is not None and 0 < record.timestamp * 1_000 < microseconds(known_from)


def _input_hash(definition: SagaDefinition[Any, Any] | None, request: Request) -> bytes:
    if definition is None:  # it waits on attention; its input is read when a coordinator has the definition
        return canonical.digests(request.body, None)
    return definition.input_hash(request.body, checked_before=True)  # by `read_request`
