"""What a saga of a test waits for, in words."""

from __future__ import annotations

from sagabus.testing.saga_in_memory import SagaInMemory


def waits(saga: SagaInMemory) -> str:
    """`it waits for event payment.confirmed; step 2 (bank.charge) has no answer`."""
    state = saga.state
    said = [f"it needs an operator: {state.attention}"] if state.attention else []
    if state.paused:
        said.append("it is paused")
    events = state.standing.events
    said += [f"it waits for event {one.name}" for one in (events.awaited if events else ())]
    for step in saga.steps():
        if step.outcome in ("sent", "paused"):
            said.append(f"step {step.number} ({step.activity}) has no answer")
        if step.undo in ("settling", "sent", "paused", "blocked"):
            said.append(f"the undo of step {step.number} ({step.activity}) is {step.undo}")
    return "; ".join(said) or f"it is {state.status.value}, and nothing is under way"
