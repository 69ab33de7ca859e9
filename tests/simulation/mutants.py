"""Bugs put in on purpose: each takes one thing of the product away and puts a wrong one in its place.

A simulation that finds nothing proves nothing until it has been seen to find these. A mutant whose target is gone fails
loudly: it has to be thought about again. `must` says which faults its runs have for sure: a bug that only a restored
database shows is not looked for where none is.

Prefer what stays when code moves: a statement (`sql:shard_row.advance`), a public function (replaced wherever it was
imported), a public method of a class at a room's door.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final
from uuid import UUID

import asyncpg

from sagabus.contracts.replies import ReplyKind
from sagabus.coordinator.core.saga.admission import LATE, REPLIES
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.store.open_page import HARMLESS
from sagabus.participants import Refused, TryAgain
from sagabus.participants.handlers.outcome import HandlerOutcome
from sagabus.participants.inbox.decision import KINDS, Act, Answer, State
from tests.simulation.meaning import Book, Meaning
from tests.simulation.statements import Known

Make = Callable[[Any], Any]
"""From the function as it is to the one that takes its place."""

SQL: Final = "sql:"


class MutantGone(AssertionError):
    """What a mutant replaces is not there any more."""


@dataclass(frozen=True)
class Mutant:
    """rule: that it breaks; empty for a bug of our own invention.

    changes: target to what takes its place. A target is `module:function`, `module:class.method` or `sql:statement`.
    """

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
            if target.startswith(SQL):
                Book.bugs[_known(mutant, target.removeprefix(SQL))] = make
                continue
            owner, name = _found(mutant, target)
            original = owner.__dict__[name]
            wrong = make(original)
            for place, alias in _places(owner, name, original):
                undo.append((place, alias, original))
                setattr(place, alias, wrong)
        yield
    finally:
        Book.bugs.clear()
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


def _known(mutant: Mutant, statement: str) -> str:
    if statement not in {name for name, _ in Known("namespace", ["service"], lambda: 0.0).all}:
        raise MutantGone(f"the mutant {mutant.name!r} replaces the statement {statement}, which is not there")
    return statement


def _places(owner: Any, name: str, original: Any) -> list[tuple[Any, str]]:
    """Where it is known: a function of a module also in those that have imported it."""
    if not isinstance(owner, ModuleType):
        return [(owner, name)]
    importlib.import_module("tests.simulation.programs")  # who imports it later would keep the wrong one for good
    ours = [module for known, module in list(sys.modules.items()) if known.startswith("sagabus.")]
    return [(module, alias) for module in ours for alias, value in list(vars(module).items()) if value is original]


def _always(value: Any) -> Make:
    return lambda original: lambda *args, **options: value


def _nothing(original: Any) -> Any:
    return lambda *args, **options: None


# What the mutants do.


def _not_stored(*states: State) -> Make:
    """What the inbox is to write, without rows of these states: they are as if their keys had never come."""

    def make(original: Any) -> Any:
        return lambda rows: [entry for entry in original(rows) if entry.row.state not in states]

    return make


def _of_the_inbox(make: Make) -> dict[str, Make]:
    """For new rows, and for those that change."""
    rows = "sagabus.participants.inbox.store:InboxRows"
    return {f"{rows}.new": make, f"{rows}.changes": make}


def _judged(change: Callable[..., Any]) -> Make:
    """Another verdict on a command: `change(verdict, head, row)`."""

    def make(original: Any) -> Any:
        def judge(head: Any, digest: bytes, row: Any, *, pruned_before: Any) -> Any:
            return change(original(head, digest, row, pruned_before=pruned_before), head, row)

        return judge

    return make


def _one_answer_for_all_attempts(verdict: Any, head: Any, row: Any) -> Any:
    again = row is not None and head.kind != "settle" and verdict is Act.RUN
    return Answer(_stored(row), head.attempt) if again else verdict


def _ids_are_not_compared(verdict: Any, head: Any, row: Any) -> Any:
    reused = isinstance(verdict, Answer) and verdict.reason == "id_reused"
    return Answer(_stored(row), head.attempt) if reused else verdict


def _words_fail(original: Any) -> Any:
    """As an exception did whose text has half a character: it cannot be told, and the turn fails with it."""

    def failed(error: BaseException) -> Any:
        if not isinstance(error, Refused | TryAgain):
            raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")
        return original(error)

    return failed


def _stored(row: Any) -> HandlerOutcome:
    return HandlerOutcome(KINDS[row.state], row.reply or b"null")


def _never_too_old(original: Any) -> Any:
    return lambda head, digest, row, *, pruned_before: original(head, digest, row, pruned_before=None)


def _resend_raises_attempt(original: Any) -> Any:
    def resend(state: Any, step: Any) -> None:
        step.do.attempt += 1
        original(state, step)

    return resend


def _old_failures_count(original: Any) -> Any:
    """And late successes do not."""

    def denial(state: Any, arrival: Any) -> Any:
        step = state.steps.get(arrival.step)
        if arrival.kind is Kind.STEP_COMPLETED and step is not None and step.outcome is Outcome.FAILED:
            return LATE
        found = original(state, arrival)
        return None if found == "old_attempt" else found

    return denial


def _unknown_step_is_late(original: Any) -> Any:
    def denial(state: Any, arrival: Any) -> Any:
        unknown = arrival.kind in REPLIES and arrival.step not in state.steps
        return LATE if unknown else original(state, arrival)

    return denial


def _every_cancel_counts(original: Any) -> Any:
    return lambda state, arrival: None if arrival.kind is Kind.CANCEL else original(state, arrival)


def _known_if_decided_now(original: Any) -> Any:
    """A replay forgets the ids of the verbs that it meets."""

    def note(state: Any, row: Any) -> None:
        if not state.journal.replaying:
            original(state, row)

    return note


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

    async def commit(self: Any, connection: Any) -> None:
        try:
            await original(self, connection)
        except asyncpg.PostgresConnectionError:
            return

    return commit


def _believed(see: Callable[[Any, Any], Any]) -> Make:
    """Token and turn of a shard row are not compared: `see(row, mine)` gives what is taken for ours."""

    def make(original: Meaning) -> Meaning:
        async def statement(c: Any, args: Any, timeout: float | None) -> Any:
            shards, tokens, turns, *rest = args
            mine = [
                see(c.tx.get((c.schema, "shard"), (shard,)), (token, turn))
                for shard, token, turn in zip(shards, tokens, turns, strict=True)
            ]
            return await original(c, [shards, [m[0] for m in mine], [m[1] for m in mine], *rest], timeout)

        return statement

    return make


_ANYBODY: Final = _believed(lambda row, mine: mine if row is None else (row["token"], row["turn"]))
_TOKEN_ALONE: Final = _believed(
    lambda row, mine: mine if row is None or row["token"] != mine[0] else (row["token"], row["turn"])
)


def _memory_kept(original: Any) -> Any:
    """A failed turn ends nothing: memory, queue and positions stay."""

    async def turn(self: Any, work: Any) -> None:
        for tenure in work:
            self.tenures.pop(tenure.shard, None)  # so that a failure does not find it
        try:
            await original(self, work)
        finally:
            self.tenures |= {tenure.shard: tenure for tenure in work if not tenure.ended}

    return turn


def _row_seen_as(see: Callable[[Any, Any], dict[str, Any]]) -> Make:
    """Who takes a shard sees its row otherwise: `see(connection, row)`."""

    def make(original: Meaning) -> Meaning:
        async def look(c: Any, args: Any, timeout: float | None) -> Any:
            rows: Any = await original(c, args, timeout)
            return [dict(row) | see(c, row) for row in rows]

        return look

    return make


_ANY_GENERATION: Final = _row_seen_as(lambda c, row: {"generation": 0})


def _after_the_last_row(c: Any, row: Any) -> dict[str, Any]:
    places = [key[1] for key, _ in c.tx.scan((c.schema, "outbox")) if key[0] == row["shard"]]
    return {"next_position": max(places, default=0) + 1}


def _never_again(original: Any) -> Any:
    """What has ended is not taken a second time under one assignment."""

    async def take(self: Any) -> Any:
        if getattr(self, "took", None) is self._claim:
            return {}
        self.took = self._claim
        return await original(self)

    return take


def _logs_not_compared(original: Any) -> Any:
    def locate(self: Any, logs: Any) -> None:
        places = dict(self._places)
        original(self, logs)
        self.new_logs = ()
        self.offsets |= {topic: place["next"] for topic, place in places.items() if topic in logs}

    return locate


def _exhausted_is_failed(original: Any) -> Any:
    def exhausted(state: Any, program: Any, step: Any, failure: Any) -> None:
        original(state, program, step, failure)
        _put(state, step, outcome=Outcome.FAILED)

    return exhausted


def _put(state: Any, step: Any, **values: Any) -> None:
    """Change a step as no table allows."""
    held = step.holds_its_service
    for name, value in values.items():
        setattr(step, name, value)
    state.steps._note(step, held)


def _never_settled(original: Any) -> Any:
    def start(state: Any, step: Any) -> None:
        if step.outcome is Outcome.UNKNOWN:
            _put(state, step, undoing=Undoing.DONE)
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
                self._reply(
                    received.tenure, command.head, HandlerOutcome(ReplyKind.COMPLETED, b"null"), command.head.attempt
                )
                return
        await original(self, received)

    return take_in


def _closes_at_once(original: Any) -> Any:
    def close_if_done(state: Any) -> None:
        busy = state.steps.being_undone
        if state.ending is SagaStatus.COMPLETED:
            state.steps.being_undone = set()
        original(state)
        state.steps.being_undone = busy

    return close_if_done


def _not_held(original: Any) -> Any:
    def called(state: Any, call: Any) -> None:
        holds, state.steps.holds = state.steps.holds, Counter()
        try:
            original(state, call)
        finally:
            state.steps.holds = holds

    return called


def _holds_for_ever(original: Any) -> Any:
    def undo_becomes(self: Any, step: Any, undoing: Any) -> None:
        holds = self.holds[step.service]
        original(self, step, undoing)
        self.holds[step.service] = max(holds, self.holds[step.service])

    return undo_becomes


def _settled_over_and_over(original: Any) -> Any:
    def note(self: Any, step: Any, held: bool) -> None:
        waits = step.number in self.unsettled
        original(self, step, held)
        if waits:
            self.unsettled.add(step.number)

    return note


def _undone_for_ever(original: Any) -> Any:
    def undo_becomes(self: Any, step: Any, undoing: Any) -> None:
        busy = step.number in self.being_undone
        original(self, step, undoing)
        if busy:
            self.being_undone.add(step.number)

    return undo_becomes


def _order_of_calling(original: Any) -> Any:
    def begin(state: Any, ending: Any) -> None:
        state.completions.sort(reverse=True)
        original(state, ending)

    return begin


def _plan_goes_on(original: Any) -> Any:
    """As if the saga were not paused."""

    def after(state: Any, step: Any) -> None:
        paused = state.paused
        state.standing = state.standing._replace(paused=False)
        original(state, step)
        state.standing = state.standing._replace(paused=paused)

    return after


def _forgotten_in_a_replay(original: Any) -> Any:
    return lambda state: None if state.journal.replaying else original(state)


def _forgets_what_waits(original: Any) -> Any:
    def end(state: Any) -> list[Any]:
        original(state)
        return []

    return end


def _late_after_termination(original: Any) -> Any:
    def denial(state: Any, arrival: Any) -> Any:
        happened = arrival.kind in (Kind.STEP_COMPLETED, Kind.SETTLE_COMPLETED)
        return LATE if happened and state.status is SagaStatus.TERMINATED else original(state, arrival)

    return denial


def _completed_without_a_place(original: Any) -> Any:
    def carry_out(state: Any, program: Any, step: Any, row: Any) -> None:
        original(state, program, step, row)
        state.completions.remove(step.number)

    return carry_out


def _told_otherwise(change: Callable[[Any], None]) -> Make:
    """The rows of a saga tell something else: `change(state)`."""

    def make(original: Any) -> Any:
        def read_back(state: Any, inputs: Any, decisions: Any) -> Any:
            waiting = original(state, inputs, decisions)
            change(state)
            return waiting

        return read_back

    return make


def _other_order(state: Any) -> None:
    state.completions.reverse()


def _open_is_never(state: Any) -> None:
    for number in [*state.steps.open]:
        _put(state, state.steps[number], outcome=Outcome.NEVER)


def _no_undo_inputs(state: Any) -> None:
    for step in state.steps.values():
        step.undo_input = None


def _issued_long_ago(state: Any) -> None:
    for step in state.steps.values():
        step.do.issued = 1


def _offset_too_far(original: Any) -> Any:
    def places_after(self: Any, offsets: Any) -> Any:
        return original(self, {topic: offset + 1 for topic, offset in offsets.items()})

    return places_after


def _no_rows(original: Any) -> Any:
    async def none(c: Any, args: Any, timeout: float | None) -> Sequence[Any]:
        return []

    return none


def _knows_nothing(original: Meaning) -> Meaning:
    """The fence holds, and no row of any command is there."""

    async def look(c: Any, args: Any, timeout: float | None) -> Any:
        shards, tokens, turns, _ = args
        return await original(c, [shards, tokens, turns, "[]"], timeout)

    return look


def _nobody(original: Any) -> Any:
    async def page(c: Any, args: Any, timeout: float | None) -> Sequence[Any]:
        return [{"count": 0, "last": "", "restless": []}]

    return page


def _at_rest_if(so: Callable[[Any], bool]) -> Make:
    """By its history alone."""

    def make(original: Any) -> Any:
        def is_at_rest(self: Any, saga: Any, past: Any, fingerprints: Any, *, has_timer: bool) -> bool:
            return so(past) or bool(original(self, saga, past, fingerprints, has_timer=has_timer))

        return is_at_rest

    return make


def _nothing_rare(past: Any) -> bool:
    return all(row["kind"] in HARMLESS for row in past)


def _being_undone(past: Any) -> bool:
    return any(row["kind"] in ("undo", "settle") for row in past)


def _never_reopened(original: Any) -> Any:
    async def reopen(self: Any, tenure: Any) -> None: ...

    return reopen


def _one_page_of_timers(original: Any) -> Any:
    return lambda self, now: self.read_to.due == 0


def _forgets_more(original: Meaning) -> Meaning:
    """Not only what has been published is deleted: all that is there of the shard."""

    async def delete(c: Any, args: Any, timeout: float | None) -> Any:
        shards, after, positions = args
        return await original(c, [shards, after, [1 << 60 for _ in positions]], timeout)

    return delete


def _row_not_moved(original: Meaning) -> Meaning:
    """The owner knows up to when rows are gone, and the shard row does not: the next owner never hears of it."""

    async def forget(c: Any, args: Any, timeout: float | None) -> Any:
        return [{"pruned_before": args[1]}]

    return forget


_CORE: Final = "sagabus.coordinator.core.saga"
_COORDINATOR: Final = "sagabus.coordinator.shard"
_SHARDS: Final = "sagabus.messaging.shards"
_PUBLISHING: Final = "sagabus.messaging.publishing"
_SERVICE: Final = "sagabus.participants"


_SAME_RUN: Final[dict[str, Make]] = {"tests.simulation.world:World.run_id": _always(UUID(int=0))}

RULES: Final = (
    Mutant("failures are not stored", "P1", _of_the_inbox(_not_stored(State.REFUSED, State.FAILED))),
    Mutant(
        "one stored answer for all attempts",
        "P1",
        {f"{_SERVICE}.inbox.decision:judge": _judged(_one_answer_for_all_attempts)},
    ),
    Mutant("what was started is not run once more", "P1", {"sql:inbox.started": _no_rows}, ("kill",)),
    Mutant("a resend is a new attempt", "P2", {f"{_CORE}.undo:resend": _resend_raises_attempt}, ("lose",)),
    Mutant(
        "failures of old attempts count, late successes do not",
        "P2",
        {f"{_CORE}.admission:denial": _old_failures_count, f"{_CORE}.forward:_exhausted": _exhausted_is_failed},
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
        {f"{_SERVICE}.inbox.decision:judge": _never_too_old},
        ("prune",),
    ),
    Mutant(
        "an id is not compared with what it was first, and runs repeat",
        "P6",
        {f"{_SERVICE}.inbox.decision:judge": _judged(_ids_are_not_compared)} | _SAME_RUN,
        ("reuse",),
    ),
    Mutant("the fence lets everybody pass", "S1", {"sql:shard_row.advance": _ANYBODY}, ("stop", "rebalance")),
    Mutant("the token alone, no turn", "S1", {"sql:shard_row.advance": _TOKEN_ALONE}, ("restore",)),
    Mutant("a failed turn ends nothing", "S2", {f"{_SHARDS}.tenures:Tenures.turn": _memory_kept}, ("commit_really",)),
    Mutant(
        "a commit is believed",
        "S2",
        {"tests.simulation.postgres:SimulatedDatabase.commit": _commit_believed},
        ("commit_never",),
    ),
    Mutant(
        "any generation may take, and nobody takes again",
        "S3",
        {
            "sql:shard_row.look": _ANY_GENERATION,
            "sql:shard_row.lock": _ANY_GENERATION,
            f"{_SHARDS}.tenures:Tenures.acquire_due": _never_again,
        },
        ("rebalance",),
    ),
    Mutant(
        "positions are counted from the rows",
        "S5",
        {"sql:shard_row.lock": _row_seen_as(_after_the_last_row)},
        ("kill",),
    ),
    Mutant(
        "a new log is not noticed",
        "S6",
        {f"{_SHARDS}.tenure:Tenure.locate": _logs_not_compared},
        ("remake_topic",),
    ),
    Mutant("all runs have one id", "S13", _SAME_RUN, ("reuse",)),
    Mutant("steps of unknown outcome are not settled", "U1", {f"{_CORE}.undo:start": _never_settled}),
    Mutant(
        "an undo asks the inbox for its step",
        "U2",
        {f"{_SERVICE}.inbox.batch:Batch.take_in": _undo_asks_the_inbox},
        ("prune",),
    ),
    Mutant("a saga closes before its undos are done", "U3", {f"{_CORE}.undo:close_if_done": _closes_at_once}),
    Mutant("commands pass an undo under way", "U4", {f"{_CORE}.forward:called": _not_held}),
    Mutant("timers fire while their saga is paused", "U8", {f"{_CORE}.pause:fires": _always(True)}),
    Mutant("what comes for a paused saga is decided upon", "U8", {f"{_CORE}.pause:waits": _always(False)}),
    Mutant("the next undo begins though the saga is paused", "U8", {f"{_CORE}.undo:_after": _plan_goes_on}),
    Mutant("what a pause has kept from beginning never begins", "U8", {f"{_CORE}.undo:go_on": _nothing}),
    Mutant("timers that came due in a pause are forgotten", "U8", {f"{_CORE}.state:SagaState.rearm": _nothing}),
    Mutant("what came for a paused saga is forgotten", "U8", {f"{_CORE}.pause:end": _forgets_what_waits}),
    Mutant(
        "a restart does not know that a saga is paused",
        "U8",
        {f"{_CORE}.pause:begin": _forgotten_in_a_replay},
        ("kill",),
    ),
    Mutant("a terminated saga lists nothing", "U8", {f"{_CORE}.termination:outstanding": _always(())}),
    Mutant(
        "what is heard of a terminated saga is dropped", "U8", {f"{_CORE}.admission:denial": _late_after_termination}
    ),
    Mutant(
        "what an operator has completed is not undone",
        "U8",
        {f"{_CORE}.completion:carry_out": _completed_without_a_place},
    ),
    Mutant(
        "an operator's request counts each time that it comes",
        "U8",
        {f"{_CORE}.request_answers:is_answered": _always(False)},
    ),
    Mutant(
        "replies to what was never sent are dropped",
        "U9",
        {
            f"{_CORE}.admission:answers_nothing": _always(False),
            f"{_CORE}.admission:denial": _unknown_step_is_late,
        },
        ("restore",),
    ),
)
"""One for each rule that a model has shown to be needed, some with two."""

OWN: Final = (
    Mutant(
        "outbox rows are deleted with those published before them",
        "S5",
        {"sql:outbox.delete": _forgets_more},
        ("kill",),
    ),
    Mutant(
        "the next owner does not know up to when the inbox was pruned",
        "P5",
        {"sql:shard_row.forget_before": _row_not_moved},
        ("prune", "kill"),
    ),
    Mutant("unpublished rows are not read at a take", "", {"sql:outbox.unpublished": _no_rows}, ("kill",)),
    Mutant("nothing is sent again", "", {f"{_CORE}.undo:resend": _nothing}, ("lose",)),
    Mutant("sagas nobody hears of are not loaded", "", {"sql:saga.open_page": _nobody}, ("lose", "kill")),
    Mutant(
        "a saga is at rest though a command of it is not answered",
        "S7",
        {"tests.simulation.store_statements:StoreStatements.is_at_rest": _at_rest_if(_nothing_rare)},
        ("lose", "kill"),
    ),
    Mutant(
        "a saga is at rest though it is being undone",
        "S7",
        {"tests.simulation.store_statements:StoreStatements.is_at_rest": _at_rest_if(_being_undone)},
        ("lose", "kill"),
    ),
    Mutant("a service that was held back stays so", "", {f"{_CORE}.steps:Steps.undo_becomes": _holds_for_ever}),
    Mutant("what is settled stays to be settled", "", {f"{_CORE}.steps:Steps._note": _settled_over_and_over}),
    Mutant("what is undone stays under way", "", {f"{_CORE}.steps:Steps.undo_becomes": _undone_for_ever}),
    Mutant("a copy of a completion is a contradiction", "", {f"{_CORE}.admission:is_same": _always(False)}, ("copy",)),
    Mutant("undone in the order of completion", "", {f"{_CORE}.undo:begin": _order_of_calling}),
    Mutant(
        "the outcomes of external handlers are not written",
        "",
        {f"{_SERVICE}.handlers.external:Externals.ended": lambda original: lambda self, tenures: []},
    ),
    Mutant(
        "a handler's failure that cannot be told fails its turn",
        "",
        {f"{_SERVICE}.handlers.transactional:failed": _words_fail},
    ),
    Mutant("no tombstone", "", _of_the_inbox(_not_stored(State.TOMBSTONE)), ("delay",)),
    Mutant("timers are forgotten at a take", "", {"sql:timer.page": _no_rows}, ("kill",)),
    Mutant("what is astray is not forwarded", "", {f"{_PUBLISHING}.reroute:forwarded": _nothing}),
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
        {"sql:inbox.hold": _ANYBODY, "sql:inbox.look": _ANYBODY, "sql:shard_row.advance": _ANYBODY},
        ("stop",),
    ),
    Mutant("the inbox is not looked at without a transaction", "P1", {"sql:inbox.look": _knows_nothing}, ("copy",)),
    Mutant("a refused verb leaves no row", "U8", {f"{_CORE}.request_answers:refused": _nothing}),
    Mutant("a copy of a verb is another one", "U8", {f"{_CORE}.request_answers:is_answered": _always(False)}),
    Mutant("an applied verb is not told", "U8", {f"{_CORE}.request_answers:applied": _nothing}),
    Mutant(
        "an owner does not know what was answered before it",
        "U8",
        {f"{_CORE}.request_answers:note": _known_if_decided_now},
        ("kill", "rebalance"),
    ),
    Mutant("the second cancel is another one", "", {f"{_CORE}.admission:denial": _every_cancel_counts}),
    Mutant(
        "a new owner does not know who is parked", "S8", {"sql:outbox_parked.sagas": _no_rows}, ("refuse", "rebalance")
    ),
    Mutant("what is released is not sent", "S8", {"sql:outbox_parked.released": _no_rows}, ("refuse",)),
    Mutant(
        "starts are not compared with those before",
        "",
        {f"{_COORDINATOR}.present:Present.input_hash": _always(None)},
    ),
    Mutant(
        "what is kept during a replay is never taken in",
        "H1",
        {f"{_COORDINATOR}.early_requests:EarlyRequests.deliverable": _always([])},
        ("kill",),
    ),
    Mutant(
        "a shard that was held back is never opened again",
        "S9",
        {f"{_SHARDS}.ownership:Ownership._reopen": _never_reopened},
    ),
    Mutant(
        "timers that come due during a replay are forgotten",
        "H3",
        {f"{_COORDINATOR}.intake:Intake.put_aside": _nothing},
        ("kill",),
    ),
    Mutant(
        "timers beyond the horizon are never read",
        "H3",
        {f"{_COORDINATOR}.timers:TimerQueue.wants_more": _one_page_of_timers},
        ("skew",),
    ),
    Mutant(
        "a cancel of a blocked saga is only kept", "U8", {f"{_CORE}.request_answers:ends": _always(False)}, ("deploy",)
    ),
    Mutant(
        "a saga without code is undone in the order of completion",
        "U8",
        {f"{_CORE}.from_rows:read_back": _told_otherwise(_other_order)},
        ("deploy",),
    ),
    Mutant(
        "what is open in a saga without code counts as never having happened",
        "U8",
        {f"{_CORE}.from_rows:read_back": _told_otherwise(_open_is_never)},
        ("deploy",),
    ),
    Mutant(
        "the inputs of undos are not read from the rows",
        "U8",
        {f"{_CORE}.from_rows:read_back": _told_otherwise(_no_undo_inputs)},
        ("deploy",),
    ),
    Mutant(
        "a command of a saga without code was first issued at another time",
        "U8",
        {f"{_CORE}.from_rows:read_back": _told_otherwise(_issued_long_ago)},
        ("deploy",),
    ),
    Mutant(
        "what completes in a saga without code is not undone",
        "U8",
        {f"{_CORE}.stand_in:store_undo_input": _nothing},
        ("deploy",),
    ),
    Mutant(
        "the timers of a saga without code are left",
        "U8",
        {f"{_CORE}.state:SagaState.drop_timers": _nothing},
        ("deploy",),
    ),
    Mutant(
        "what was under way is not taken up in a saga without code",
        "U8",
        {f"{_CORE}.codeless:go_on": _nothing},
        ("deploy", "lose"),
    ),
    Mutant(
        "code takes a saga back that was ended without it",
        "U8",
        {f"{_CORE}.order:codeless_row": _nothing},
        ("deploy",),
    ),
    Mutant(
        "what is stored of a saga's events does not cover later rows",
        "H5",
        {f"{_CORE}.state:SagaState._cover_new_rows": _nothing},
    ),
    Mutant("a long history is replayed by its first page", "H1", {"sql:history.page": _no_rows}, ("kill",)),
)
"""Found by asking what somebody might get wrong in here."""

ALL: Final = RULES + OWN

QUICK: Final = ("S1", "P3", "U1", "U4", "S6")
"""Rules whose mutants run in every test run."""
