"""The embedded bus has no groups: whoever reads a group there is alone, until its process ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sagabus.messaging.bus.kafka import Bus, Kafka
from sagabus.messaging.embedded.sole_reader import AnotherReader, SoleReader
from sagabus.messaging.settings import Settings
from tests.support.processes import Child

HOLDING = """
import sys, time
from pathlib import Path
from sagabus.messaging.embedded.sole_reader import SoleReader
reader = SoleReader(Path(sys.argv[1]), "shop")
reader.take()
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_reader_of_a_group_is_refused_until_the_first_one_gives_back(tmp_path: Path) -> None:
    first, second = SoleReader(tmp_path, "shop"), SoleReader(tmp_path, "shop")
    first.take()
    first.take()
    other = SoleReader(tmp_path, "bank")
    other.take()
    with pytest.raises(AnotherReader, match=f"process {os.getpid()} reads the group shop from the embedded bus"):
        second.take()
    first.give_back()
    first.give_back()
    second.take()
    for one in (second, other):
        one.give_back()


async def test_a_reader_that_was_killed_keeps_nobody_away(tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", HOLDING, str(tmp_path)], folder=tmp_path, name="holding")
    await child.says("held")
    with pytest.raises(AnotherReader, match=f"process {child.pid} reads"):
        SoleReader(tmp_path, "shop").take()
    child.kill()
    await child.ended()
    heir = SoleReader(tmp_path, "shop")
    heir.take()
    heir.give_back()


def test_groups_of_a_real_kafka_share() -> None:
    assert Kafka(Settings(kafka="one:9092")).sole_reader("shop") is None
    assert Kafka(Settings(kafka="embedded"), bus=Bus("127.0.0.1:1", "a bus")).sole_reader("shop") is None
