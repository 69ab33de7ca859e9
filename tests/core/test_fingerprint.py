"""H7: the fingerprint says what has changed under a saga, and refuses nothing. The replay decides.

Up to Python 3.11 `asyncio.wait_for` makes a task of what it waits for, which begins a little later than in 3.12: the
order of steps differs. Real Pythons are tried where they are installed; the switched order is tried always.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field

from sagabus.contracts import Service
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga import fingerprint as prints
from sagabus.coordinator.core.saga.admission import STALE
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.fingerprint import ANOTHER_ORDER, UNCHANGED, what_changed
from sagabus.coordinator.core.saga.history import Kind
from tests.core import restarted
from tests.core.kit import Definition, Drive
from tests.core.other_pythons import OWN, PYTHONS, NotThere, environment, python
from tests.core.restored import count_all, forget_all
from tests.core.services import Order, Result, charge, reserve, ship, stock
from tests.core.shapes import gathered, sequential
from tests.core.situations import of
from tests.core.wire import an_input

OLD, NEW = "saga-v1-py3.11-0123456789abcdef", "saga-v1-py3.12-fedcba9876543210"


# The words.


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (OLD, OLD, UNCHANGED),
        (OLD, OLD.replace("3.11", "3.13"), "Python has changed (3.11 → 3.13)"),
        (OLD, OLD.replace("-v1-", "-v2-"), "its version has changed (1 → 2)"),
        (OLD, OLD.replace("0123", "3210"), "its code has changed (0123456789abcdef → 3210456789abcdef)"),
        (
            OLD, NEW,
            "its code has changed (0123456789abcdef → fedcba9876543210) and Python has changed (3.11 → 3.12)",
        ),
        ("", NEW, ""), (OLD, "", ""),
        ("3.11:abc", NEW, f"its fingerprint has changed (3.11:abc → {NEW})"),
    ],
)  # fmt: skip
def test_h7_what_has_changed_is_said_in_words(old: str, new: str, words: str) -> None:
    assert what_changed(old, new) == words


def test_h7_a_fingerprint_holds_name_version_python_and_code() -> None:
    def made(name: str = "saga", version: int = 1, python: str = "3.11", sources: tuple[str, ...] = ("a", "b")) -> str:
        return prints.fingerprint(name, version, python, sources)

    others = [made("saga-2"), made(version=2), made(python="3.12"), made(sources=("ab",)), made(sources=("b", "a"))]
    assert len({made(), *others}) == 6
    assert made().startswith("saga-v1-py3.11-")
    assert made() == made()


# What the code of a saga is.


def compiled(folder: Path, source: str) -> Definition:
    """From a file of its own, as a deployment has it."""
    file = folder / "module.py"
    file.write_text(
        f"from sagabus.coordinator import SagaContext, saga\nfrom tests.core.services import Order, Result\n{source}"
    )
    names: dict[str, Any] = {"__name__": "module"}
    exec(compile(file.read_text(), str(file), "exec"), names)
    definition = names["definition"]
    assert definition.fingerprint
    return definition  # type: ignore[no-any-return]


CODE = """
@saga("saga")
async def definition(ctx: SagaContext, order: Order) -> Result:
    async def inner():
        return helper(order)
    return await inner()

def helper(order):
    return deeper(order)

def deeper(order):
    return Result(refs=[])

def unused():
    return 1
"""


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("unused():\n    return 1", "unused():\n    return 2", True),
        ("await inner()", "(await inner())", False),
        ("return helper(order)", "return helper(order )", False),
        ("return deeper(order)", "return  deeper(order)", False),
        ("return Result(refs=[])", "return Result(refs=['x'])", False),
        ('@saga("saga")', '@saga("saga", timeout=5)', False),
        ('@saga("saga")', '@saga("saga", version=2)', False),
    ],
)
def test_h7_the_functions_of_its_module_that_a_saga_names_are_its_code(
    tmp_path: Path, before: str, after: str, same: bool
) -> None:
    assert before in CODE
    first = compiled(tmp_path, CODE)
    (tmp_path / "other").mkdir()
    assert (compiled(tmp_path / "other", CODE.replace(before, after)).fingerprint == first.fingerprint) is same


def test_h7_code_without_a_source_has_a_fingerprint() -> None:
    names: dict[str, Any] = {"saga": saga, "SagaContext": SagaContext, "Order": Order, "Result": Result}
    exec('@saga("x")\nasync def made(ctx: SagaContext, order: Order) -> Result:\n    return Result(refs=[])', names)
    assert names["made"].fingerprint.startswith(f"x-v1-py{OWN}-")


# Where it is stored, and what it says.


def test_h7_the_fingerprint_is_stored_with_the_first_decision_and_with_the_first_of_another_code() -> None:
    drive = Drive(sequential).start()
    assert drive.stored.fingerprint == sequential.fingerprint

    @saga("saga")
    async def reworded(ctx: SagaContext, order: Order) -> Result:
        refs = [(await ctx.call(each(order=order.order))).ref for each in (reserve, charge, ship)]
        return Result(refs=refs)

    drive.reload(reworded)
    assert (drive.attention, drive.stored.fingerprint) == ("", sequential.fingerprint), "it has decided nothing yet"
    drive.completed(1)
    assert drive.stored.fingerprint == reworded.fingerprint
    drive.reload(sequential)
    drive.completed(2)
    assert drive.stored.fingerprint == sequential.fingerprint


def test_h7_another_code_that_diverges_is_named_beside_the_difference_until_the_old_one_is_back() -> None:
    drive = Drive(sequential).start()
    drive.reload(gathered)
    old, new = sequential.fingerprint[-16:], gathered.fingerprint[-16:]
    assert drive.attention.endswith(f" makes command bank.charge (number 2); its code has changed ({old} → {new})")
    assert drive.stored.fingerprint == sequential.fingerprint
    drive.completed(1)
    drive.reload(gathered)
    assert drive.stored.fingerprint == sequential.fingerprint, "nothing was decided with the other code"
    drive.reload(sequential)
    assert drive.last.short == ["do 2 bank.charge"]
    assert (drive.attention, drive.stored.fingerprint) == ("", sequential.fingerprint)


def test_h7_a_divergence_of_unchanged_code_says_where_else_to_look() -> None:
    drive = Drive(of(reserve, charge)).start()
    drive.reload(of(charge))
    assert drive.attention.endswith(f"; {UNCHANGED}")


def by_tag(*tags: str) -> Definition:
    """A saga that calls in the order in which this process iterates its set."""
    ordered = list(tags)

    @saga("saga")
    async def tagged(ctx: SagaContext, order: Order) -> Result:
        for tag in ordered:
            await ctx.call({"a": reserve, "b": charge}.get(tag, ship)(order=tag))
        return Result(refs=[])

    return tagged


@pytest.mark.parametrize(("before", "after"), [("ab", "ba"), ("cd", "dc")], ids=["two activities", "one activity"])
def test_h7_calls_in_another_order_of_unchanged_code_say_that_a_set_may_be_the_cause(before: str, after: str) -> None:
    drive = Drive(by_tag(*before)).start()
    drive.completed(1)
    drive.reload(by_tag(*after))
    assert drive.attention.endswith(f"; {ANOTHER_ORDER}")
    drive.reload(by_tag(*before))
    assert drive.attention == ""


def fresh_ids(*ids: str) -> Definition:
    """A saga whose code makes an id of its own, another one in each process."""
    numbers = iter(ids)

    @saga("saga")
    async def careless(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=next(numbers)))
        await ctx.call(charge(order=order.order))
        return Result(refs=[])

    return careless


class Careless(Drive):
    """A saga of which no copy is the same."""

    def _check_restored(self) -> None:
        pass


def logged_once(drive: Drive) -> list[str]:
    """What a process that loads the saga has to say of its definition."""
    loaded = drive.restored()
    said = [words for _, words in loaded.drain().log_once]
    loaded.evict()
    return said


def test_h7_an_input_that_each_replay_makes_anew_is_told_and_what_was_sent_counts() -> None:
    drive = Careless(fresh_ids(*map(str, range(100)))).start()
    sent = drive.last.commands[0].body
    assert logged_once(drive) == [
        "definition saga: step 1 (stock.reserve) was sent with another order than the code makes now. What was sent "
        "counts; but each restart gives the code another value. Clocks, randomness and ids come from ctx: ctx.now(), "
        "ctx.random(), ctx.uuid()"
    ]
    drive.reload()
    assert (drive.attention, drive.state.steps[1].body) == ("", sent)


def test_h7_an_input_of_other_code_is_no_fault() -> None:
    drive = Drive(of(reserve)).start()

    @saga("saga")
    async def other(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order="another"))
        return Result(refs=[])

    drive.code = other
    assert logged_once(drive) == []


def test_h7_what_a_model_fills_in_by_itself_is_no_fault_of_the_code() -> None:
    class Hold(BaseModel):
        order: str
        token: UUID = Field(default_factory=uuid4)

    hold = Service("held").activity("hold", Hold)

    @saga("saga")
    async def holding(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(hold(order=order.order))
        return Result(refs=[])

    drive = Careless(holding).start()
    assert logged_once(drive) == []


def test_h7_a_saga_that_was_never_decided_upon_has_no_fingerprint() -> None:
    drive = Drive(None).start()
    assert drive.stored.fingerprint == ""
    drive.reload(sequential)
    assert drive.stored.fingerprint == sequential.fingerprint


# The order of another Python, switched in this one.


async def wait_for_since_312(awaitable: Any, timeout: float | None) -> Any:
    async with asyncio.timeout(timeout):
        return await awaitable


async def wait_for_until_311(awaitable: Any, timeout: float | None) -> Any:
    task = asyncio.ensure_future(awaitable)
    async with asyncio.timeout(timeout):
        return await task


@dataclass
class Switch:
    """Which Python's order the sagas of this process have."""

    patch: pytest.MonkeyPatch
    versions: dict[str, Callable[..., Any]] = field(
        default_factory=lambda: {"3.11": wait_for_until_311, "3.12": wait_for_since_312}
    )

    def to(self, version: str, definition: Definition) -> Definition:
        self.patch.setattr(asyncio, "wait_for", self.versions[version])
        copy = type(definition)(definition.contract, definition._body, version=1, timeout=None)
        copy.fingerprint = definition.fingerprint.replace(f"py{OWN}", f"py{version}")
        return copy


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    yield Switch(monkeypatch)
    count_all()
    forget_all()


def test_h7_another_order_of_steps_is_seen_and_sends_nothing_until_the_old_one_is_back(switch: Switch) -> None:
    drive = Drive(switch.to("3.11", restarted.hurried)).start()
    assert drive.last.short == ["do 1 bank.charge", "do 2 stock.reserve"]
    drive.reload(switch.to("3.12", restarted.hurried))
    assert drive.attention == (
        "history has command bank.charge (number 1) at row 2, the code now makes command stock.reserve (number 1); "
        "Python has changed (3.11 → 3.12)"
    )
    drive.completed(1)
    drive.completed(2)
    assert drive.last.short == []
    drive.reload(switch.to("3.11", restarted.hurried))
    assert (drive.attention, drive.last.short) == ("", ["do 3 post.ship"])


def test_h7_two_calls_of_one_activity_that_change_places_are_seen(switch: Switch) -> None:
    drive = Drive(switch.to("3.11", restarted.twins)).start()
    drive.reload(switch.to("3.12", restarted.twins))
    assert drive.attention == (
        "history has command stock.reserve (number 1) at row 2, the code now makes there what history has as command "
        "stock.reserve (number 2) at row 3; Python has changed (3.11 → 3.12)"
    )
    drive.completed(2)
    assert drive.last.short == []
    drive.reload(switch.to("3.11", restarted.twins))
    drive.completed(1)
    assert json.loads(drive.last.commands[0].body)["order"] == "ref-2", "the first one was made second"


class Tags(BaseModel):
    tags: set[str]


tag = stock.activity("tag", Tags)


@saga("saga")
async def tagging(ctx: SagaContext, order: Order) -> Result:
    for _ in range(2):
        await ctx.call(tag(tags={"red", "green"}))
    return Result(refs=[])


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b'{"tags":["green","red"]}', ""), (b'{"tags":["red","green"]}', ""),
        (b'{"tags":["blue"]}', "history has command stock.tag (number 1) at row 2, the code now makes there what "),
        (b'{"tags":7}', "history has command stock.tag (number 1) at row 2, the code now makes there what "),
    ],
)  # fmt: skip
def test_h7_a_set_that_is_written_in_another_order_has_not_changed_places(written: bytes, words: str) -> None:
    drive = Drive(tagging).start()
    drive.completed(1)
    drive.rows[1] = replace(drive.rows[1], payload=written)
    drive.reload()
    assert drive.attention.startswith(words)
    assert bool(drive.attention) is bool(words)


def test_h7_sleeps_that_change_places_before_they_end_keep_their_lengths(switch: Switch) -> None:
    drive = Drive(switch.to("3.11", restarted.naps)).start()
    before = drive.due
    assert before["sleep 2"] == 7200
    drive.reload(switch.to("3.12", restarted.naps))
    assert {name: round(due) for name, due in drive.due.items()} == {"sleep 1": 60, "sleep 2": 30, "sleep 3": 7200}
    drive.fire(TimerKind.SLEEP, 2)
    assert [json.loads(sent.body) for sent in drive.last.commands] == [{"order": "30"}]


def test_h7_a_sleep_that_comes_with_its_old_time_is_put_off(switch: Switch) -> None:
    drive = Drive(switch.to("3.11", restarted.naps)).start()
    drive.reload(switch.to("3.12", restarted.naps))
    rows, timers = len(drive.rows), dict(drive.timers)
    assert drive.take(an_input(Kind.TIMER, step=3, name=TimerKind.SLEEP)) == STALE
    assert (len(drive.rows), drive.timers) == (rows, timers)
    assert drive.due["sleep 3"] > 7000


def test_h7_sleeps_that_changed_places_after_one_has_ended_are_seen(switch: Switch) -> None:
    drive = Drive(switch.to("3.11", restarted.naps)).start()
    drive.fire(TimerKind.SLEEP, 3)
    assert drive.last.short == ["do 1 post.ship"]
    drive.reload(switch.to("3.12", restarted.naps))
    assert drive.attention == (
        "history has timer sleep (number 3) at row 2, in the code sleep (number 2) is due there; "
        "Python has changed (3.11 → 3.12)"
    )


# Real Pythons.


@dataclass
class Restarts:
    """One saga, and a process of some Python for each turn."""

    file: Path
    name: str

    def on(self, version: str, action: str) -> Any:
        command = [python(version), "-W", "ignore", "-m", "tests.core.restarted", str(self.file), self.name, action]
        env = environment(version)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def restarts(tmp_path: Path, name: str, *versions: str) -> Restarts:
    for version in versions:
        try:
            python(version)
            environment(version)
        except NotThere as reason:
            pytest.skip(f"no Python {version} with pydantic: H7 was not tried on it; {reason}")
    return Restarts(tmp_path / "saga", name)


@pytest.mark.parametrize("other", [version for version in PYTHONS if version != "3.11"])
@pytest.mark.parametrize("name", ["hurried", "twins"])
def test_h7_a_restart_on_another_python_is_seen_and_goes_on_when_the_first_is_back(
    tmp_path: Path, name: str, other: str
) -> None:
    saga = restarts(tmp_path, name, "3.11", other)
    begun = saga.on("3.11", "start")
    assert len(begun["commands"]) == 2
    blocked = saga.on(other, "complete-1")
    assert blocked["commands"] == []
    assert blocked["attention"].startswith("history has command ")
    assert blocked["attention"].endswith(f"; Python has changed (3.11 → {other})")
    assert blocked["fingerprint"] == begun["fingerprint"]
    ended = saga.on("3.11", "complete-2")
    assert (ended["commands"], ended["attention"]) == (["do 3 post.ship"], "")


def test_h7_a_restart_on_a_python_with_the_same_order_goes_on(tmp_path: Path) -> None:
    saga = restarts(tmp_path, "twins", "3.12", "3.13")
    begun = saga.on("3.12", "start")
    assert saga.on("3.13", "load")["fingerprint"] == begun["fingerprint"]
    first = saga.on("3.13", "complete-1")
    assert (first["attention"], first["fingerprint"]) == ("", begun["fingerprint"].replace("3.12", "3.13"))
    assert saga.on("3.12", "complete-2")["commands"] == ["do 3 post.ship"]
