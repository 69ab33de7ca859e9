"""`simulate`: a saga among crashes, duplicates, lost and late messages, from seeds; what fails is shrunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from pydantic import BaseModel
from pydantic_core import from_json

from sagabus.contracts import Event, codec
from sagabus.coordinator.definition import SagaDefinition
from sagabus.testing.asked import Asked, PublishedEvent, TestedStep
from sagabus.testing.moves import Answers, Move, World, random_moves
from sagabus.testing.words import NoAnswer

I = TypeVar("I", bound=BaseModel)  # noqa: E741
O = TypeVar("O", bound=BaseModel | None)  # noqa: E741

MOST_MOVES: Final = 60
MOST_TRIES: Final = 1_000
"""Of shrinking."""


@dataclass(frozen=True, slots=True)
class Ending(Generic[O]):
    """How a saga of a simulation has ended. result: of a completed one. error: the code of what ended another one.
    done, undone: what participants did, in order; they compare with filled-in commands. published: by `ctx.publish`."""

    seed: int
    status: str
    result: O | None
    error: str
    steps: Sequence[TestedStep]
    done: Sequence[Asked]
    undone: Sequence[Asked]
    published: Sequence[PublishedEvent]


@dataclass(frozen=True, slots=True)
class Simulated:
    """endings: how many sagas have ended how: `{"completed": 311, "compensated": 189}`."""

    endings: dict[str, int]


class SimulationFailed(AssertionError):
    """A seed has failed. schedule: the shortest one found that fails, in words, one sentence a move."""

    def __init__(self, seed: int, reason: str, schedule: Sequence[str]) -> None:
        moves = [f"  {number}. {words}" for number, words in enumerate(schedule, 1)]
        said = ["What happened:", *moves, "After that no more faults."] if moves else ["It fails without any fault."]
        super().__init__("\n".join([f"seed {seed}: {reason}", *said, f"To run it again: simulate(…, seeds=[{seed}])"]))
        self.seed = seed
        self.reason = reason
        self.schedule = schedule


def simulate(
    definition: SagaDefinition[I, O],
    input: I,
    /,
    *,
    answers: Answers | Callable[[], Answers],
    events: Sequence[Event[Any]] = (),
    check: Callable[[Ending[O]], object] | None = None,
    seeds: int | Iterable[int] = 500,
    cancels: bool = True,
) -> Simulated:
    """Run the saga once for each seed, each time among other faults. A seed always gives the same run.

    Faults: the coordinator is killed and goes on from history; commands and replies are lost, come twice, late, in any
    order; attempts fail; activities refuse with a code that they declare; time passes; the saga is cancelled (not with
    cancels=False). Then the faults end, and the saga must end too.

    answers: by activity, an output or a function as `SagaTest.answers` takes it; a function without parameters that
    makes them is called for each run, so that handlers may have a state of their own. An undo, and what has no output,
    completes by itself. events: come to the saga in this order, at some time. check: your invariant, asked when the
    saga has ended; it fails by raising AssertionError, or by returning False.

    Always checked: the saga ends, is the same in a replay after each crash and at the end, and what it believes is what
    participants did, each once. Raises SimulationFailed with the shortest schedule that fails; NoAnswer, TypeError,
    ValueError for a mistake of the test's.
    """
    run = _Run(definition, input, answers, events, check, cancels)
    endings: Counter[str] = Counter()
    for seed in range(seeds) if isinstance(seeds, int) else seeds:
        moves = random_moves(seed, MOST_MOVES)
        failure = run.failure(seed, moves)
        if failure is not None:
            shortest = _shrunk(moves, partial(run.fails, seed))
            reason, told = run.failure(seed, shortest) or failure
            raise SimulationFailed(seed, reason, told)
        endings[run.status] += 1
    return Simulated(dict(endings))


class _Run(Generic[I, O]):
    """status: of the last saga that has ended."""

    def __init__(
        self, definition: SagaDefinition[I, O], input: I, answers: Answers | Callable[[], Answers],
        events: Sequence[Event[Any]], check: Callable[[Ending[O]], object] | None, cancels: bool,
    ) -> None:  # fmt: skip
        self.status = ""
        self._definition = definition
        self._input = input
        self._answers = answers
        self._events = events
        self._check = check
        self._cancels = cancels

    def fails(self, seed: int, moves: Sequence[Move]) -> bool:
        return self.failure(seed, moves) is not None

    def failure(self, seed: int, moves: Sequence[Move]) -> tuple[str, list[str]] | None:
        """Why, and what has happened; None if all is well."""
        answers = self._answers() if callable(self._answers) else self._answers
        world = World(self._definition, f"saga-{seed}", answers, self._events, cancels=self._cancels)
        try:
            world.start(self._input)
            for move in moves:
                world.happens(move)
            world.end()
            self._judge(self._ending(seed, world))
        except NoAnswer:
            raise
        except AssertionError as error:
            return str(error) or f"{type(error).__name__} in check", world.told
        finally:
            world.saga.evict()
        return None

    def _judge(self, ending: Ending[O]) -> None:
        self.status = ending.status
        if self._check is not None and self._check(ending) is False:
            raise AssertionError(f"check returned False for a saga that is {ending.status}")

    def _ending(self, seed: int, world: World) -> Ending[O]:
        state = world.saga.state
        model: Any = self._definition.contract.output_model
        result = None
        if state.status == "completed" and model is not None:
            result = codec.decode(model, state.result, what="the result")
        error = "" if state.error is None else str(from_json(state.error)["code"])
        return Ending(
            seed, state.status.value, cast("O | None", result), error, world.saga.steps(), world.inbox.done,
            world.inbox.undone, world.saga.published,
        )  # fmt: skip


def _shrunk(moves: Sequence[Move], fails: Callable[[Sequence[Move]], bool]) -> list[Move]:
    """As few of them as still fail: pieces are left out, ever smaller ones, until no single one can be."""
    left, size, tries = list(moves), max(1, len(moves) // 2), 0
    while tries < MOST_TRIES:
        at, before = 0, len(left)
        while at < len(left) and tries < MOST_TRIES:
            fewer = left[:at] + left[at + size :]
            tries += 1
            if fails(fewer):
                left = fewer
            else:
                at += size
        if size == 1 and len(left) == before:
            break
        size = max(1, size // 2)
    return left
