"""Bugs put in on purpose: each takes one named function of the product away and puts a wrong one in its place.

A simulation that finds nothing proves nothing until it has been seen to find these. A mutant whose function is gone
fails loudly: it has to be thought about again. `must` and `without` say which faults its runs have for sure, or never:
a bug that only a restored database shows is not looked for where none is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sagabus.contracts.replies import ReplyKind
from sagabus.coordinator.core.saga.admission import LATE
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.messaging.shards.shard_row import Fenced
from sagabus.participants.inbox.decision import Act, Answer, State, _stored

Make = Callable[[Any], Any]
"""From the function as it is to the one that takes its place."""


class MutantGone(AssertionError):
    """The function that a mutant replaces is not there any more."""


@dataclass(frozen=True)
class Mutant:
    """rule: that it breaks; empty for a bug of our own invention. targets: `module:name` or `module:class.name`."""

    name: str
    rule: str
    changes: Mapping[str, Make]
    must: tuple[str, ...] = ()


@contextmanager
def infected(mutant: Mutant) -> Iterator[None]:
    """With the bug inside, within the block."""
    undo: list[tuple[Any, str, Any]] = []
    try:
        for target, make in mutant.changes.items():
            owner, name = _found(mutant, target)
            original = owner.__dict__[name]
            undo.append((owner, name, original))
            setattr(owner, name, make(original))
        yield
    finally:
        for owner, name, original in reversed(undo):
            setattr(owner, name, original)


def _found(mutant: Mutant, target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each, None)
    if owner is None or name not in vars(owner):
        raise MutantGone(f"the mutant {mutant.name!r} replaces {target}, which is not there")
    return owner, name


def _always(value: Any) -> Make:
    return lambda original: lambda *args, **options: value


def _nothing(original: Any) -> Any:
    return lambda *args, **options: None


def _nothing_to_await(original: Any) -> Any:
    async def nothing(*args: Any, **options: Any) -> None: ...

    return nothing


# What the mutants do.


def _failures_forgotten(original: Any) -> Any:
    def conclude(self: Any, tenure: Any, command: Any, outcome: Any, attempt: int) -> None:
        if outcome.kind is ReplyKind.COMPLETED:
            original(self, tenure, command, outcome, attempt)
        else:
            self._reply(tenure, command.head, outcome, attempt)

    return conclude


def _one_answer_for_all_attempts(original: Any) -> Any:
    def repeated(head: Any, row: Any) -> Any:
        return Act.WAIT if row.state is State.STARTED else Answer(_stored(row), head.attempt)

    return repeated


def _resend_raises_attempt(original: Any) -> Any:
    def resend(state: Any, step: Any) -> None:
        step.attempt += 1
        original(state, step)

    return resend


def _old_failures_count(original: Any) -> Any:
    def objection(step: Any, arrival: Any) -> Any:
        found = original(step, arrival)
        return None if found == "old_attempt" else found

    return objection


def _late_success_ignored(original: Any) -> Any:
    def objection(step: Any, arrival: Any) -> Any:
        return LATE if step.outcome is Outcome.FAILED else original(step, arrival)

    return objection


def _published_before_commit(original: Any) -> Any:
    async def write(self: Any, connection: Any) -> None:
        await original(self, connection)
        for tenure, share in self._shares.items():
            messages, share.messages = share.messages, []
            tenure.relay.push(messages)
            share.messages = messages

    return write


def _commit_believed(original: Any) -> Any:
    """The outcome of a commit is taken for good whatever it was."""

    async def commit(self: Any, deciding: Any, work: Any) -> None:
        try:
            await original(self, deciding, work)
        except Fenced:
            raise
        except Exception:
            deciding.turn.committed()

    return commit


def _fence_ignored(original: Any) -> Any:
    async def advance(connection: Any, schema: str, advances: Any) -> None:
        try:
            await original(connection, schema, advances)
        except Fenced:
            for one in sorted(advances, key=lambda one: int(one.tenure.shard)):
                row = connection.tx.get((schema, "shard"), (one.tenure.shard,))
                if row is not None:
                    one.tenure.token, one.tenure.turn = row["token"], row["turn"]
            await original(connection, schema, [one for one in advances if not one.tenure.ended])

    return advance


def _turn_not_compared(original: Any) -> Any:
    async def advance(connection: Any, schema: str, advances: Any) -> None:
        for one in advances:
            row = connection.tx.get((schema, "shard"), (one.tenure.shard,))
            if row is not None and row["token"] == one.tenure.token:
                one.tenure.turn = row["turn"]
        await original(connection, schema, advances)

    return advance


def _memory_kept(original: Any) -> Any:
    """A failed turn ends nothing: memory, queue and positions stay."""

    async def turn(self: Any, work: Any) -> None:
        try:
            await self._side.turn(work)
        except Exception:
            return
        self._succeeded(work)

    return turn


def _any_generation(original: Any) -> Any:
    return lambda row, claim: None


def _never_again(original: Any) -> Any:
    async def retake(self: Any) -> None:
        await self._look.wait()
        self._look.clear()
        await self._holdings.drop([tenure for tenure in self.tenures.values() if tenure.relay.ended])

    return retake


def _positions_from_rows(original: Any) -> Any:
    async def take(self: Any, shard: int) -> Any:
        tenure = await original(self, shard)
        tenure.next_position = max((at for at, _ in tenure.relay._queue), default=0) + 1
        return tenure

    return take


def _logs_not_compared(original: Any) -> Any:
    def locate(self: Any, logs: Any) -> None:
        places = dict(self._places)
        original(self, logs)
        self.new_logs = ()
        self.offsets |= {topic: place["next"] for topic, place in places.items() if topic in logs}

    return locate


def _same_run(original: Any) -> Any:
    def begin(self: Any, *args: Any) -> None:
        self.ids = lambda: UUID(int=0)
        original(self, *args)

    return begin


def _exhausted_is_failed(original: Any) -> Any:
    def exhausted(state: Any, program: Any, step: Any, failure: Any) -> None:
        def becomes(outcome: Any) -> None:
            step.outcome = Outcome.FAILED

        original(state, program, _Shadow(step, becomes=becomes), failure)

    return exhausted


class _Shadow:
    """A step, but for one method."""

    def __init__(self, step: Any, **instead: Any) -> None:
        object.__setattr__(self, "_step", step)
        object.__setattr__(self, "_instead", instead)

    def __getattr__(self, name: str) -> Any:
        return self._instead.get(name) or getattr(self._step, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._step, name, value)


def _never_settled(original: Any) -> Any:
    def start(state: Any, step: Any) -> None:
        if step.outcome is Outcome.UNKNOWN:
            step.undoing = Undoing.DONE
        else:
            original(state, step)

    return start


def _undo_asks_the_inbox(original: Any) -> Any:
    """An undo whose step is not in the inbox is taken for done."""

    async def take_in(self: Any, received: Any) -> None:
        command = received.command
        target = getattr(getattr(command, "head", None), "target", None)
        if target is not None and command.head.kind == "undo":
            rows = self._handling._transaction.driver.tx
            schema = f"sagabus_{command.head.activity.partition('.')[0]}"
            if rows.get((schema, "inbox"), (command.head.source, target)) is None:
                self._reply(received.tenure, command.head, _DONE, command.head.attempt)
                return
        await original(self, received)

    return take_in


def _closes_at_once(original: Any) -> Any:
    def close_if_done(state: Any) -> None:
        busy = [step for step in state.steps.values() if step.is_being_undone]
        kept = [(step, step.undoing) for step in busy if state.ending is SagaStatus.COMPLETED]
        for step, _ in kept:
            step.undoing = Undoing.DONE
        original(state)
        for step, undoing in kept:
            step.undoing = undoing

    return close_if_done


def _not_held(original: Any) -> Any:
    def called(state: Any, call: Any) -> None:
        steps, state.steps = state.steps, {}
        try:
            original(state, call)
        finally:
            state.steps = {**steps, **state.steps}

    return called


def _order_of_calling(original: Any) -> Any:
    def begin(state: Any, ending: Any) -> None:
        state.completions.sort(reverse=True)
        original(state, ending)

    return begin


def _offset_too_far(original: Any) -> Any:
    def places_after(self: Any, offsets: Any) -> Any:
        return original(self, {topic: offset + 1 for topic, offset in offsets.items()})

    return places_after


def _nobody_released(original: Any) -> Any:
    async def release(self: Any, connection: Any) -> Mapping[Any, Any]:
        return {}

    return release


def _no_rows(original: Any) -> Any:
    async def none(*args: Any) -> Sequence[Any]:
        return []

    return none


_CORE: Final = "sagabus.coordinator.core.saga"
_COORDINATOR: Final = "sagabus.coordinator.shard"
_SHARDS: Final = "sagabus.messaging.shards"
_PUBLISHING: Final = "sagabus.messaging.publishing"
_SERVICE: Final = "sagabus.participants"


def _done() -> Any:
    from sagabus.participants.handlers.outcome import Outcome as Reply

    return Reply(ReplyKind.COMPLETED, b"null")


_DONE: Final = _done()

RULES: Final = (
    Mutant("failures are not stored", "P1", {f"{_SERVICE}.inbox.batch:Page._conclude": _failures_forgotten}),
    Mutant(
        "one stored answer for all attempts",
        "P1",
        {f"{_SERVICE}.inbox.decision:_repeated": _one_answer_for_all_attempts},
    ),
    Mutant(
        "what was started is not run once more",
        "P1",
        {f"{_SERVICE}.command_processor:CommandProcessor._resume": _nothing},
        ("kill",),
    ),
    Mutant("a resend is a new attempt", "P2", {f"{_CORE}.undo:resend": _resend_raises_attempt}, ("lose",)),
    Mutant(
        "failures of old attempts count, late successes do not",
        "P2",
        {
            f"{_CORE}.admission:_to_step_reply": lambda original: _late_success_ignored(_old_failures_count(original)),
            f"{_CORE}.forward:_exhausted": _exhausted_is_failed,
        },
        ("delay", "copy"),
    ),
    Mutant(
        "messages leave before their rows are committed",
        "P3",
        {f"{_SHARDS}.turn:Turn.write": _published_before_commit},
        ("commit_never",),
    ),
    Mutant(
        "what is older than the inbox is carried out",
        "P5",
        {f"{_SERVICE}.inbox.decision:_unknown": lambda original: lambda head, pruned: original(head, None)},
        ("prune",),
    ),
    Mutant(
        "an id is not compared with what it was first, and runs repeat",
        "P6",
        {
            f"{_SERVICE}.inbox.decision:_reused": lambda original: lambda head, row: _stored(row),
            f"{_COORDINATOR}.deciding:Deciding._begin": _same_run,
        },
        ("reuse",),
    ),
    Mutant(
        "the fence lets everybody pass",
        "S1",
        {f"{_SHARDS}.shard_row:advance": _fence_ignored},
        ("stop", "rebalance"),
    ),
    Mutant("the token alone, no turn", "S1", {f"{_SHARDS}.shard_row:advance": _turn_not_compared}, ("restore",)),
    Mutant(
        "a failed turn ends nothing",
        "S2",
        {f"{_SHARDS}.tenures:Tenures.turn": _memory_kept},
        ("commit_really",),
    ),
    Mutant(
        "a commit is believed",
        "S2",
        {f"{_COORDINATOR}.saga_processor:SagaProcessor._commit": _commit_believed},
        ("commit_never",),
    ),
    Mutant(
        "any generation may take, and nobody takes again",
        "S3",
        {
            f"{_SHARDS}.shard_row:_check": _any_generation,
            f"{_SHARDS}.ownership:Ownership._retake": _never_again,
        },
        ("rebalance",),
    ),
    Mutant(
        "positions are counted from the rows",
        "S5",
        {f"{_SHARDS}.tenures:Tenures._take": _positions_from_rows},
        ("kill",),
    ),
    Mutant(
        "a new log is not noticed",
        "S6",
        {f"{_SHARDS}.tenure:Tenure.locate": _logs_not_compared},
        ("remake_topic",),
    ),
    Mutant("all runs have one id", "S13", {f"{_COORDINATOR}.deciding:Deciding._begin": _same_run}, ("reuse",)),
    Mutant("steps of unknown outcome are not settled", "U1", {f"{_CORE}.undo:start": _never_settled}),
    Mutant(
        "an undo asks the inbox for its step",
        "U2",
        {f"{_SERVICE}.inbox.batch:Page.take_in": _undo_asks_the_inbox},
        ("prune",),
    ),
    Mutant("a saga closes before its undos are done", "U3", {f"{_CORE}.undo:close_if_done": _closes_at_once}),
    Mutant("commands pass an undo under way", "U4", {f"{_CORE}.forward:called": _not_held}),
    Mutant(
        "replies to what was never sent are dropped",
        "U9",
        {
            f"{_CORE}.admission:answers_nothing": _always(False),
            f"{_CORE}.admission:_to_reply": lambda original: (
                lambda state, step, arrival: LATE if step is None else original(state, step, arrival)
            ),
        },
        ("restore",),
    ),
)
"""One for each rule that a model has shown to be needed, some with two."""

OWN: Final = (
    Mutant(
        "unpublished rows are not read at a take",
        "",
        {f"{_PUBLISHING}.outbox:unpublished": _no_rows},
        ("kill",),
    ),
    Mutant("nothing is sent again", "", {f"{_CORE}.undo:resend": _nothing}, ("lose",)),
    Mutant(
        "sagas nobody hears of are not loaded",
        "",
        {f"{_COORDINATOR}.unloaded:UnloadedSagas.portion": _always([])},
        ("lose", "kill"),
    ),
    Mutant("undone in the order of completion", "", {f"{_CORE}.undo:begin": _order_of_calling}),
    Mutant("no tombstone", "", {f"{_SERVICE}.inbox.batch:Page._bury": _nothing}, ("delay",)),
    Mutant("timers are forgotten at a take", "", {"sagabus.coordinator.store.read:Reads.timers": _no_rows}, ("kill",)),
    Mutant("what is astray is not forwarded", "", {f"{_COORDINATOR}.saga_processor:SagaProcessor._forward": _nothing}),
    Mutant(
        "an offset too many is skipped",
        "",
        {f"{_SHARDS}.tenure:Tenure.places_after": _offset_too_far},
        ("kill",),
    ),
    Mutant("the last outbox row is deleted unpublished", "", {f"{_PUBLISHING}.relay:Relay.push": _nothing}),
    Mutant(
        "a fenced participant goes on",
        "",
        {f"{_SHARDS}.shard_row:hold": _nothing_to_await, f"{_SHARDS}.shard_row:advance": _fence_ignored},
        ("stop",),
    ),
    Mutant("the second cancel is another one", "", {f"{_CORE}.admission:_to_cancel": _always(None)}),
    Mutant(
        "a new owner does not know who is parked",
        "S8",
        {f"{_PUBLISHING}.relay:Relay.park": _nothing},
        ("refuse", "rebalance"),
    ),
    Mutant("what is released is not sent", "S8", {f"{_SHARDS}.turn:Turn.release": _nobody_released}, ("refuse",)),
    Mutant("starts are not compared with those before", "", {f"{_COORDINATOR}.deciding:Deciding.known": _nothing}),
)
"""Found by asking what somebody might get wrong in here."""

ALL: Final = RULES + OWN

QUICK: Final = ("S1", "P3", "U1", "U4", "S6")
"""Rules whose mutants run in every test run."""
