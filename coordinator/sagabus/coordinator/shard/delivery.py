"""An input on its last steps to its saga: which may be in memory, on its way back, not started yet, or gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sagabus.contracts.envelope import Record
from sagabus.contracts.lifecycle import LifecycleType
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, CLOSED, DUPLICATE, FOREIGN, UNREADABLE
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.coordinator.shard.decisions import APPLIED, Decisions
from sagabus.coordinator.shard.early_requests import EARLY_LIMIT
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.present import Present
from sagabus.coordinator.store.rows import EarlyRequest
from sagabus.messaging.shards.tenure import Tenure

NO_SAGA: Final = "reply.no_saga"
REQUEST_NO_SAGA: Final = "request.no_saga"
PURGED: Final = "reply.purged"
EARLY_KEPT: Final = "early.kept"
EARLY_TOO_MANY: Final = "early.too_many"
EARLY_EXPIRED: Final = "early.expired"
REPLAYED: Final = "saga.replayed"
REQUEST_REFUSED: Final = "request.refused"
_DEAD: Final = {
    CLOSED: "the saga has ended",
    UNREADABLE: "it cannot be read; while its step is open, the saga's attention says why, and it is asked for again",
    FOREIGN: "the reply came on another service's topic; only a step's own service may answer for it",
}


@dataclass(slots=True)
class Delivery:
    """Of one turn."""

    decisions: Decisions
    present: Present

    def deliver(self, memory: ShardMemory, input: Input, record: Record | None) -> None:
        """To its saga, or to wherever else it belongs. record: that it came in; a timer or a notice has none."""
        present = self.present
        denied = present.denied.get(id(input)) if present.denied else None
        if denied is None and memory.lets_wait and self._has_to_wait(memory, input, record):
            return
        if isinstance(record, EarlyRequest):
            self.decisions.unkeep(memory, record)
        if denied is not None and record is not None:
            self._account(memory.tenure, input, record, denied)
            return
        saga = present.find(input.saga_id, input.run)
        if saga is None:
            if record is not None:  # a timer, or a notice, of a saga that is gone is of no use
                self._without_saga(memory, input, record)
            return
        reason = self.decisions.take(saga, memory, input)
        if record is not None:
            self._account(memory.tenure, input, record, reason)

    def _has_to_wait(self, memory: ShardMemory, input: Input, record: Record | None) -> bool:
        """Whether its saga is on its way back, or has older records to take in first.

        A record is kept; what is kept already stays so. A timer is a row, and waits in memory.
        """
        under_way = memory.replays.of(input.saga_id)
        if record is None:
            if under_way is not None:
                under_way.timers.append(input)
            return under_way is not None
        if isinstance(record, EarlyRequest):
            return under_way is not None or self._has_lost_its_saga(memory, input)
        if under_way is None and not (memory.early.count(input.saga_id) and input.saga_id in self.present.by_id):
            return False
        self.decisions.keep(memory, input.saga_id, record, REPLAYED, started=True)
        return True

    def _has_lost_its_saga(self, memory: ShardMemory, input: Input) -> bool:
        """A saga that was there is not, after a restored backup: what is kept waits for a start again."""
        if input.saga_id in self.present.by_id or input.saga_id in self.present.removed:
            return False
        memory.early.is_gone(input.saga_id)
        return True

    def _account(self, tenure: Tenure, input: Input, record: Record, reason: str | None) -> None:
        """What became of it. A verb that a saga refuses is answered by the saga: it is no dead letter."""
        if reason is None:
            self.decisions.count(record, APPLIED)
        elif reason != DUPLICATE and input.kind is Kind.OPERATOR:
            self.decisions.count(record, REQUEST_REFUSED)
        elif reason in _DEAD:
            self.decisions.dead_letter(tenure, record, reason, _DEAD[reason])
        else:
            self.decisions.count(record, reason)

    def _without_saga(self, memory: ShardMemory, input: Input, record: Record) -> None:
        id, kind = input.saga_id, input.kind
        removed = self.present.removed.get(id)
        if removed is not None and input.run in (None, removed.run):
            self._after_removal(memory.tenure, input, record)
        elif kind in (Kind.EVENT, Kind.CANCEL) and input.run is None:
            self._keep_early(memory, input, record)
        elif kind in (Kind.OPERATOR, Kind.CANCEL):
            which = id if input.run is None else f"{id} with run {input.run}"
            self.decisions.dead_letter(memory.tenure, record, REQUEST_NO_SAGA, f"no saga {which} is known here")
        else:
            message = f"no saga {id} with run {input.run} is known here"
            self.decisions.dead_letter(memory.tenure, record, NO_SAGA, message)

    def _after_removal(self, tenure: Tenure, input: Input, record: Record) -> None:
        """Retention has removed this saga. No history is lost, so nobody is called (U9).

        Nobody can tell any more whether a reply is a harmless copy, or says that a step has succeeded after its undo,
        which an operator should see. So every reply is kept as a dead letter.
        """
        if input.kind in (Kind.EVENT, Kind.OPERATOR):
            self.decisions.dead_letter(tenure, record, CLOSED, _DEAD[CLOSED])
        elif input.kind is Kind.CANCEL:
            self._reject_cancel(tenure, input, record)
        else:
            message = f"saga {input.saga_id} ended, and was removed by retention (SAGABUS_RETENTION_SAGAS)"
            self.decisions.dead_letter(tenure, record, PURGED, message)

    def _reject_cancel(self, tenure: Tenure, input: Input, record: Record) -> None:
        self.decisions.count(record, CANCEL_REJECTED)
        self.decisions.reject(
            tenure, LifecycleType.CANCEL_REJECTED, input.saga_id, cause=input.cause, code=CANCEL_REJECTED,
            message="the saga has ended, or is being undone already",
        )  # fmt: skip

    def _keep_early(self, memory: ShardMemory, input: Input, record: Record) -> None:
        if memory.early.are_full(input.saga_id):
            message = f"{EARLY_LIMIT} requests are kept for {input.saga_id} already, and nobody has started it"
            self.decisions.dead_letter(memory.tenure, record, EARLY_TOO_MANY, message)
        else:
            self.decisions.keep(memory, input.saga_id, record, EARLY_KEPT)
