"""What lives for long is set aside, and goes all the same: at once without a cycle, in the end with one."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

BEGINNING = """
    import asyncio, gc, weakref
    from sagabus.messaging.service import garbage

    class Node:
        def __init__(self):
            self.itself, self.other = self, {}

    def old_objects():
        return len(gc.get_objects(generation=2))

    def grow_until_looks(number):
        while gc.get_stats()[0]["collections"] < number:
            kept.append([])

    kept = []

    garbage.collect_rarely()
"""


def ran(script: str) -> None:
    """In a process of its own: the collector is the process's."""
    command = [sys.executable, "-c", dedent(BEGINNING) + dedent(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_look_goes_through_what_has_lived_for_long() -> None:
    ran("""
        before, kept = gc.get_freeze_count(), [[] for _ in range(1_000_000)]
        assert gc.get_freeze_count() > before + 500_000
        assert old_objects() == 0
        assert gc.get_stats()[2]["collections"] == 0
    """)


def test_what_is_set_aside_goes_with_its_last_reference() -> None:
    ran("""
        kept = [[] for _ in range(1_000_000)]
        before = gc.get_freeze_count()
        kept.clear()
        assert gc.get_freeze_count() < before - 500_000
    """)


def test_a_cycle_among_it_goes_when_twice_as_much_is_set_aside() -> None:
    ran("""
        gc.callbacks[:] = [garbage.SetAside(least=1_000_000)]
        node = Node()
        gone = weakref.ref(node)
        kept = [[] for _ in range(500_000)]
        del node
        assert gone() is not None, "it is set aside"

        async def grow():
            while gone() is not None:
                kept.extend([] for _ in range(100_000))
                await asyncio.sleep(0)

        asyncio.run(asyncio.wait_for(grow(), 60))
        assert old_objects() == 0, "all is set aside again"
    """)


def test_after_a_look_that_found_nothing_some_is_set_aside_unseen() -> None:
    ran("""
        looks, of_old = gc.get_stats()[0]["collections"] + 1, gc.get_stats()[1]["collections"]
        grow_until_looks(looks)
        node = Node()
        unseen = weakref.ref(node)
        del node
        grow_until_looks(looks + garbage.UNSEEN)
        node = Node()
        seen = weakref.ref(node)
        del node
        grow_until_looks(looks + garbage.UNSEEN + 1)
        assert unseen() is not None and seen() is None
        assert gc.get_stats()[1]["collections"] == of_old, "what lived through a look is not looked through again"
    """)


def test_where_there_is_garbage_all_is_looked_at() -> None:
    ran("""
        looks = gc.get_stats()[0]["collections"] + 1
        grow_until_looks(looks)
        before, nodes = gc.get_freeze_count(), []
        for number in range(500_000):
            node = Node()
            if not number % 1_000:
                nodes.append(weakref.ref(node))
        alive = sum(ref() is not None for ref in nodes)
        assert alive <= 1.1 * (garbage.UNSEEN + 1) * garbage.YOUNG_OBJECTS / 2_000, "of each node an object or more"
        assert gc.get_freeze_count() < before + (garbage.UNSEEN + 1) * garbage.YOUNG_OBJECTS
    """)


def test_what_is_at_work_in_a_look_is_not_set_aside_where_there_is_garbage() -> None:
    ran("""
        gc.callbacks.append(lambda phase, info: phase == "stop" and set_aside.append(gc.get_freeze_count()))
        set_aside, at_work = [], []
        for number in range(100_000):
            Node()
            if len(set_aside) == 1:
                at_work = at_work or [[] for _ in range(1_000)]
        assert at_work and set_aside[0] == set_aside[1]
    """)


def test_it_may_be_asked_for_twice() -> None:
    ran("""
        garbage.collect_rarely()
        assert len(gc.callbacks) == 1
    """)
