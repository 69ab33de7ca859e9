"""The inbox's rules as a table: every row that can be found, every kind of command, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sagabus.contracts.commands import CommandHead
from sagabus.contracts.names import CommandId, CommandKind, RunId, SagaId
from sagabus.contracts.replies import ReplyKind
from sagabus.participants.inbox.decision import Act, Answer, Decision, InboxRow, State, judge

HEAD = CommandHead(
    id=CommandId("A:r:1"), kind=CommandKind.DO, activity="shop.take", source="/sagabus/sagabus", saga_id=SagaId("A"),
    run=RunId("r"), step=1, attempt=2, issued=1000, reply_topic="sagabus.replies.shop", reply_partition=0,
)  # fmt: skip
DIGEST = b"digest"
SETTLE = replace(
    HEAD, id=CommandId("A:r:1:settle"), kind=CommandKind.SETTLE, activity="sagabus.settle", target=CommandId("A:r:1")
)
UNDO = replace(HEAD, id=CommandId("A:r:1:undo"), kind=CommandKind.UNDO, target=CommandId("A:r:1"))


def row(state: State, attempt: int) -> InboxRow:
    return InboxRow(HEAD.source, HEAD.id, HEAD.activity, state, attempt, DIGEST, b"reply")


def shown(decision: Decision) -> str | tuple[ReplyKind, int]:
    return (decision.outcome.kind, decision.attempt) if isinstance(decision, Answer) else decision.value


COMPLETED, REFUSED, FAILED, NEVER = ReplyKind.COMPLETED, ReplyKind.REFUSED, ReplyKind.FAILED, ReplyKind.NEVER


@pytest.mark.parametrize("head", [HEAD, UNDO])
@pytest.mark.parametrize(
    ("state", "lower", "same", "higher"),
    [
        (State.COMPLETED, (COMPLETED, 2), (COMPLETED, 2), (COMPLETED, 2)),
        (State.REFUSED, (REFUSED, 2), (REFUSED, 2), Act.RUN),
        (State.FAILED, (FAILED, 2), (FAILED, 2), Act.RUN),
        (State.STARTED, Act.WAIT, Act.WAIT, Act.WAIT),
        (State.TOMBSTONE, (REFUSED, 1), (REFUSED, 2), (REFUSED, 3)),
    ],
)
def test_p1_a_row_answers_by_state_and_attempt(
    head: CommandHead, state: State, lower: object, same: object, higher: object
) -> None:
    found = row(state, 2)
    got = [shown(judge(replace(head, attempt=n), DIGEST, found, pruned_before=None)) for n in (1, 2, 3)]
    assert got == [lower, same, higher]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.COMPLETED, (COMPLETED, 2)), (State.TOMBSTONE, (NEVER, 2)), (State.STARTED, Act.WAIT),
        (State.FAILED, Act.BURY), (State.REFUSED, Act.BURY),
    ],
)  # fmt: skip
@pytest.mark.parametrize("attempt", [1, 2, 9])
def test_p4_a_settle_ends_every_doubt(state: State, expected: object, attempt: int) -> None:
    assert shown(judge(SETTLE, b"", row(state, attempt), pruned_before=None)) == expected


@pytest.mark.parametrize(("head", "fresh"), [(HEAD, Act.RUN), (UNDO, Act.RUN), (SETTLE, Act.BURY)])
def test_p5_what_is_unknown_runs_unless_it_may_be_forgotten(head: CommandHead, fresh: Act) -> None:
    assert judge(head, DIGEST, None, pruned_before=None) == fresh
    assert judge(head, DIGEST, None, pruned_before=1000) == fresh
    assert shown(judge(head, DIGEST, None, pruned_before=1001)) == (FAILED, 2)


@pytest.mark.parametrize("state", [State.STARTED, State.COMPLETED, State.REFUSED, State.FAILED])
def test_p6_another_input_or_activity_is_never_answered_from_the_row(state: State) -> None:
    found = row(state, 1)
    assert shown(judge(HEAD, b"other", found, pruned_before=None)) == (FAILED, 2)
    assert shown(judge(replace(HEAD, activity="shop.give"), DIGEST, found, pruned_before=None)) == (FAILED, 2)


def test_p6_a_tombstone_has_no_input_and_is_exempt() -> None:
    tombstone = InboxRow(HEAD.source, HEAD.id, "", State.TOMBSTONE, 1)
    assert shown(judge(HEAD, DIGEST, tombstone, pruned_before=None)) == (REFUSED, 2)
