"""The page of states in the reference, made from the tables that the core obeys.

python -m tests.core.states_page        writes docs/reference/states.md
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from sagabus.coordinator.core.saga.status import (
    BUSY_UNDOING,
    CLOSED,
    OUTCOME,
    SAGA,
    UNDOING,
    Outcome,
    SagaStatus,
    Undoing,
)
from sagabus.coordinator.http.saga_views import ROWS_IN_LIST, ROWS_OF_ONE
from sagabus.coordinator.http.waits import WaitKind
from sagabus.coordinator.store.older_rows import MOST_STEPS

T = TypeVar("T", bound=StrEnum)

PAGE = Path(__file__).parents[2] / "docs/reference/states.md"

HEAD = """\
# States

Made from the tables in `sagabus.coordinator.core.saga.status` by `python -m tests.core.states_page`; a test compares
them.
A change that is in no table is a fault of sagabus: that saga stops, and is flagged for attention.
"""

OF_A_SAGA = f"""\
## Of a saga

Open while it is `{SagaStatus.RUNNING}` or `{SagaStatus.COMPENSATING}`. Attention, a block and a pause are marks beside
the status; attention in any state, the others while it is open. `{SagaStatus.TERMINATED}`: ended by an operator,
without undo; what it leaves behind stands in its error. A completed saga is reopened only as the child of a saga that
is undone.
"""

OF_A_STEP = f"""\
## Of a step

`{Outcome.PAUSED}`: between two attempts. `{Outcome.FAILED}`: refused, so known not to have happened; should it have
happened all the same, it is undone. `{Outcome.UNKNOWN}`: given up, timed out or out of attempts; its participant is
asked once and for all, after which it is `{Outcome.COMPLETED}` or `{Outcome.NEVER}`.
"""

OF_AN_UNDO = f"""\
## Of the undo of a step

While it is {", ".join(f"`{each}`" for each in Undoing if each in BUSY_UNDOING)}, the saga sends nothing new to the
service of the step and does not close. `{Undoing.PLANNED}`: the code has asked for it, and other steps of the
same scope come first. `{Undoing.BLOCKED}`: the input of the undo could not be made; a person has to look.
"""


WAITS: Mapping[WaitKind, str] = {
    WaitKind.OPERATOR: "Nothing goes on until an operator acts, or something is deployed. The words say what.",
    WaitKind.ANSWER: "A service has not answered a command: to do a step, to undo it, or to settle it. `since`: when "
    "it was sent; copies do not count. `due`: the time limit of the step.",
    WaitKind.RETRY: "A command has failed and is tried again at `due`. The words hold the last failure.",
    WaitKind.HELD: "A step is sent only when an undo at its service is done.",
    WaitKind.TIMER: "A sleep, or a time limit that the code has set, ends at `due`.",
    WaitKind.TIMEOUT: "The time limit of the whole saga ends at `due`.",
    WaitKind.EVENT: "The code waits for the event `event`. `since`: when it began to wait. `event` is null if a process"
    " of an older release, which does not store the name, was the last to run the saga.",
}

OF_WAITS = f"""\
## What an open saga waits for

`sagabus show`, `sagabus list`, `sagabus watch` and the API tell it from the saga's row, the rows of history and the
timers. The code of the saga is not run for it. A list reads the latest {ROWS_IN_LIST} rows of each saga, a look at one
saga the latest {ROWS_OF_ONE}. Of the steps that these rows name, at most {MOST_STEPS}, the rows in which they began are
looked for too: so a step that keeps failing is told, however often it has failed. Of a longer history `waits_complete`
is false, and an older step may be missing; its steps are complete: `GET /api/v1/sagas/{{id}}/steps`. In a list such a
saga is marked `…`, and `sagabus list --service` shows it with a word of warning, whatever service it is.

| kind | means |
|---|---|
"""


def waits() -> str:
    return OF_WAITS + "".join(f"| `{kind}` | {WAITS[kind]} |\n" for kind in WaitKind)


def page() -> str:
    return "\n".join((
        HEAD,
        OF_A_SAGA, diagram(SAGA, SagaStatus.RUNNING, CLOSED),
        OF_A_STEP, diagram(OUTCOME, Outcome.SENT, (Outcome.COMPLETED, Outcome.NEVER)),
        OF_AN_UNDO, diagram(UNDOING, Undoing.NONE, (Undoing.DONE, Undoing.SKIPPED)),
        waits(),
    ))  # fmt: skip


def diagram(table: Mapping[T, frozenset[T]], first: T, last: Collection[T]) -> str:
    return "\n".join(("```mermaid", "stateDiagram-v2", *_arrows(table, first, last), "```", ""))


def _arrows(table: Mapping[T, frozenset[T]], first: T, last: Collection[T]) -> Iterator[str]:
    yield f"    [*] --> {first}"
    order = list(table)
    for old, changes in table.items():
        yield from (f"    {old} --> {new}" for new in sorted(changes, key=order.index))
    yield from (f"    {each} --> [*]" for each in order if each in last)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
