"""What is found in a saga's code by looking at it: each rule with what it finds, and what it lets alone."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagabus.commands.check import lints
from sagabus.commands.check.finding import Finding
from sagabus.coordinator import SagaDefinition

HEAD = """\
import asyncio
import datetime as dt
import os
import pathlib
import random
import secrets
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
import uuid
from collections import deque
from datetime import datetime
from pathlib import Path
from time import sleep
from pydantic import BaseModel
from sagabus.contracts import ActivityFailed, Service
from sagabus.coordinator import SagaContext, saga

class Order(BaseModel):
    order: str
    tags: list[str] = []

class Ref(BaseModel):
    order: str

stock, bank = Service("stock"), Service("bank")
release = stock.compensation("release", Ref)
reserve = stock.activity("reserve", Order, Ref, compensation=release, refusals=("out_of_stock",))
note = stock.activity("note", Order)
pay = bank.activity("pay", Order, refusals=("no_money",))
plain = bank.activity("plain", Order)
seen = []
names = {"a", "b"}
count = 0
CLOCK = time.time
"""

SAGA = """
@saga("moving")
async def moving(ctx: SagaContext, order: Order) -> None:
"""

Lint = Callable[..., list[Finding]]
_numbers = itertools.count()


@pytest.fixture
def lint(tmp_path: Path) -> Iterator[Lint]:
    """(body of a saga, other functions) -> what is found."""
    made: list[str] = []

    def found(body: str, more: str = "") -> list[Finding]:
        name = f"linted_{next(_numbers)}"
        file = tmp_path / f"{name}.py"
        file.write_text(f"{HEAD}\n{textwrap.dedent(more)}\n{SAGA}{textwrap.indent(textwrap.dedent(body), '    ')}\n")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        made.append(name)
        spec.loader.exec_module(module)
        definition = module.moving
        assert isinstance(definition, SagaDefinition)
        return lints.found([definition])

    yield found
    for name in made:
        del sys.modules[name]


def line_at(place: str) -> str:
    file, _, line = place.rpartition(":")
    return Path(file).read_text().splitlines()[int(line) - 1].strip()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("clock", "now = datetime.now()"),
        ("clock", "now = dt.datetime.utcnow()"),
        ("clock", "day = dt.date.today()"),
        ("clock", "now = time.time()"),
        ("clock", "now = time.monotonic_ns()"),
        ("random", "dice = random.randint(1, 6)"),
        ("random", "dice = random.Random().random()"),
        ("random", "dice = random.SystemRandom().random()"),
        ("random", "id = uuid.uuid4()"),
        ("random", "id = secrets.token_hex()"),
        ("random", "id = os.urandom(8)"),
        ("thread", "threading.Thread(target=abs).start()"),
        ("thread", "await asyncio.to_thread(abs, 1)"),
        ("thread", "await asyncio.get_running_loop().run_in_executor(None, abs, 1)"),
        ("network", "socket.create_connection(('a', 1))"),
        ("network", "urllib.request.urlopen('http://a')"),
        ("network", "await asyncio.open_connection('a', 1)"),
        ("file", "text = open('a').read()"),
        ("file", "text = Path('a').read_text()"),
        ("file", "there = pathlib.Path('a').exists()"),
        ("file", "there = os.path.exists('a')"),
        ("file", "shutil.rmtree('a')"),
        ("file", "here = Path.cwd()"),
        ("environment", "home = os.environ['HOME']"),
        ("environment", "home = os.environ.get('HOME')"),
        ("environment", "home = os.getenv('HOME')"),
        ("environment", "id = os.getpid()"),
        ("process", "subprocess.run(['a'])"),
        ("process", "os.system('a')"),
        ("process", "await asyncio.create_subprocess_exec('a')"),
        ("blocking", "time.sleep(1)"),
        ("blocking", "sleep(1)"),
        ("blocking", "from time import sleep as rest\n    rest(1)"),
        ("blocking", "import time as clock\n    clock.sleep(1)"),
        ("print", "print(order)"),
        ("set-order", "for tag in set(order.tags): ctx.log.info(tag)"),
        ("set-order", "for tag in {*order.tags}: ctx.log.info(tag)"),
        ("set-order", "for tag in names: ctx.log.info(tag)"),
        ("set-order", "tags = set(order.tags) | names\n    for tag in tags: ctx.log.info(tag)"),
        ("set-order", "tags: set[str] = given()\n    texts = [tag for tag in tags]"),
        ("set-order", "await asyncio.gather(*{ctx.call(reserve.of(order)), ctx.call(plain.of(order))})"),
        ("set-order", "tags = list({tag for tag in order.tags})"),
        ("set-order", "tags = names.union(order.tags)\n    first = next(iter(tags))"),
        ("not-awaited", "ctx.call(reserve.of(order))"),
        ("not-awaited", "asyncio.sleep(5)"),
        ("not-awaited", "later(ctx)"),
        ("no-undo", "await ctx.call(note.of(order))\n    await ctx.call(pay.of(order))"),
        ("global-write", "seen.append(order)"),
        ("global-write", "seen[0] = order"),
        ("global-write", "del seen[0]"),
        ("global-write", "global count\n    count += 1"),
    ],
)
def test_it_is_found_on_its_line(lint: Lint, code: str, line: str) -> None:
    more = "async def later(ctx): ...\ndef given(): return set()"
    found = lint(line.replace("\n    ", "\n"), more)
    assert [one.code for one in found] == [code] * len(found)
    assert found
    lines = [part.strip() for part in line.splitlines()]
    assert line_at(found[-1].place) == lines[0 if code == "no-undo" else -1]
    assert found[0].is_error == (code not in ("print", "no-undo"))
    assert found[0].cure


@pytest.mark.parametrize(
    "body",
    [
        "now = ctx.now()",
        "dice = ctx.random().randint(1, 6)\nid = ctx.uuid()",
        "dice = random.Random(5).random()",
        "id = uuid.UUID(int=5)\nname = uuid.uuid5(id, 'a')",
        "day = datetime(2026, 1, 31)\nspan = dt.timedelta(days=1)\nread = datetime.fromisoformat('2026-01-31')",
        "time = order.order\ntime.sleep",  # a name of its own
        "await asyncio.sleep(5)",
        "path = Path('a') / 'b'\nname = path.name\nwhole = os.path.join('a', 'b')",
        "ctx.log.info('so far')",
        "for tag in sorted(set(order.tags)): ctx.log.info(tag)",
        "for tag in order.tags: ctx.log.info(tag)",
        "for number in {1, 2}: ctx.log.info(number)",
        "there = 'a' in names\nmany = len(names)\nbest = max(len(tag) for tag in names)",
        "tags = set(order.tags)\ntags = sorted(tags)\nfor tag in tags: ctx.log.info(tag)",
        "done = await ctx.call(reserve.of(order))",
        "task = asyncio.create_task(ctx.call(reserve.of(order)))\nawait task",
        "calls = [ctx.call(reserve.of(order))]\nawait asyncio.gather(*calls)",
        "await ctx.call(reserve.of(order))\nawait ctx.call(pay.of(order))",
        "await ctx.call(pay.of(order))\nawait ctx.call(note.of(order))",
        "await ctx.call(note.of(order))\nawait ctx.call(plain.of(order))",
        "seen = []\nseen.append(order)",
        "first = seen[0] if seen else None",
        "with ctx.unguarded():\n    now = time.time()",
    ],
)
def test_it_is_let_alone(lint: Lint, body: str) -> None:
    assert lint(body) == []


REFUSED = """\
try:
    await ctx.call({}.of(order))
except ActivityFailed as error:
    if {}:
        return
    raise
"""


@pytest.mark.parametrize(
    "text", ["error.code == 'out_of_stok'", "error.code in ('a', 'out_of_stock')", "'a' != error.code"]
)
def test_a_refusal_that_nobody_declares_is_found(lint: Lint, text: str) -> None:
    (found,) = lint(REFUSED.format("reserve", text))
    assert (found.code, found.is_error) == ("unknown-refusal", True)
    if "stok" in text:
        assert "'out_of_stok'; did you mean out_of_stock?" in found.what


def test_it_is_a_warning_where_an_activity_declares_none(lint: Lint) -> None:
    (found,) = lint(REFUSED.format("plain", "error.code == 'closed'"))
    assert (found.code, found.is_error) == ("unknown-refusal", False)


def test_codes_of_a_match_are_looked_at(lint: Lint) -> None:
    (found,) = lint(
        """
        try:
            await ctx.call(reserve.of(order))
        except ActivityFailed as error:
            match error.code:
                case "out_of_stock":
                    return
                case "broken" | "out_of_stock":
                    return
        """
    )
    assert "'broken'" in found.what


@pytest.mark.parametrize(
    "text",
    [
        "error.code == 'out_of_stock'",
        "error.code == 'sagabus.handler_error'",
        "order.order == 'a'",
        "order.code == 'a'",
    ],
)
def test_one_that_is_declared_or_is_ours_is_not(lint: Lint, text: str) -> None:
    assert lint(REFUSED.format("reserve", text)) == []


def test_a_line_may_be_left_out_by_code(lint: Lint) -> None:
    assert lint("now = time.time()  # sagabus: ignore[clock]") == []
    assert lint("now = time.time()  # it is for a log line; sagabus: ignore[random, clock]") != []
    assert lint("now = time.time()  # sagabus: ignore[random, clock]") == []
    (found,) = lint("now = time.time()  # sagabus: ignore[random]")
    assert found.code == "clock"


def test_functions_of_its_module_are_walked_and_a_finding_is_told_once(lint: Lint) -> None:
    more = """
    async def inner(ctx):
        return deeper()

    def deeper():
        return time.time()

    def never_called():
        return time.time()
    """
    (found,) = lint("await inner(ctx)\nawait inner(ctx)", more)
    assert found.code == "clock"
    assert found.what == "`time.time`: a replay reads another time"
    assert found.cure == "use `ctx.now()`"


def test_code_without_a_source_is_left_out() -> None:
    space: dict[str, object] = {"__name__": "nowhere"}
    exec(f"{HEAD}{SAGA}    time.time()", space)
    definition = space["moving"]
    assert isinstance(definition, SagaDefinition)
    assert lints.found([definition]) == []
