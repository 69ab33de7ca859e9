"""The beginning of a saga's code: its definition and its input, as they are read for good."""

from __future__ import annotations

from functools import partial

from sagabus.contracts import canonical
from sagabus.contracts.attributes import defaults
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.retry import as_microseconds
from sagabus.coordinator.core.saga import reading
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.program import Blocked, Code, Program
from sagabus.coordinator.core.saga.state import SagaState


def begin(state: SagaState, code: Code | None, row: Row) -> Program:
    """row: the request. Raises Blocked where there is no code, or where it does not read the request."""
    if code is None:
        version = f" version {state.version}" if state.version else ""  # 0: nobody has known the name at its start
        raise Blocked(f"no definition {state.definition!r}{version} in this coordinator", "no_definition")
    try:
        program = _program(state, code, row)
    except MessageInvalid as error:
        raise Blocked(f"{error.message}; deploy a definition that reads it", "start_unreadable") from error
    program.quiet = state.journal.replaying
    if code.attributes is not None:
        state.stands(attributes=defaults(code.attributes, code.name))
    if code.timeout is not None:
        state.set_timer(TimerKind.SAGA, 0, row.at + as_microseconds(code.timeout))
    return program


def _program(state: SagaState, code: Code, row: Row) -> Program:
    """Raises MessageInvalid."""
    request = row.payload or b""
    reads = partial(reading.read, state.journal)
    if not canonical.reads_alike(code.request):
        _, kept = reads(reading.INPUT, 0, code.request, request, f"start of {code.name}")
        if kept is not None:
            request = state.decide(Kind.READ, name=reading.INPUT, payload=kept).payload or kept
    return Program(code, request, id=state.id, run=state.run, started_at=row.at, read=reads, journal=state.journal)
