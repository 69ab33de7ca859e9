"""docs/kafka.md names the topics, groups and numbers of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from sagabus.contracts import Service
from sagabus.contracts.names import service_schema
from sagabus.messaging.bus.bounded_codecs import MOST_UNPACKED
from sagabus.messaging.bus.kafka_connection import CLIENT
from sagabus.messaging.bus.shard_consumer import GROUP
from sagabus.messaging.service.prerequisites import coordinator_topics, participant_topics
from sagabus.messaging.setting_texts import DAY
from sagabus.messaging.settings import Settings
from sagabus.messaging.shards.retention import margin
from sagabus.shop.contracts import OrderShipped

PAGE: Final = (Path(__file__).parents[2] / "docs" / "kafka.md").read_text()
NAMESPACE: Final = "<namespace>"


def service() -> Service:
    made = Service("service")
    made.event("shipped", OrderShipped, key="order_id")
    return made


def topics() -> set[str]:
    """Of a coordinator and one service, as the page writes them."""
    found = coordinator_topics(NAMESPACE) | participant_topics(service(), NAMESPACE)
    return {re.sub(r"(?<!<)\bservice\b", "<service>", name) for name in found}


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def words(text: str) -> str:
    """In one line."""
    return " ".join(text.split())


def test_all_topics_are_in_the_table() -> None:
    rows = re.findall(r"^\| `([^`]+)`", section("Topics"), re.MULTILINE)
    assert sorted(rows) == sorted(topics())


def test_the_groups_are_those_of_the_rights() -> None:
    rights = section("Rights (ACLs)")
    assert f"READ on `{service_schema('<service>')}`" in rights
    assert f"READ on `{NAMESPACE}`" in rights


@pytest.mark.parametrize("field", ["retention_started_ids", "retention_inbox"])
def test_what_is_remembered_outlasts_the_topic_by_an_hour(field: str) -> None:
    kept = Settings.model_fields[field].default
    assert f"at least an hour less than `SAGABUS_{field.upper()}` ({kept / DAY:g} days)" in PAGE
    assert margin(kept) == 3_600


def test_the_numbers_are_the_codes() -> None:
    brokers = words(section("Brokers and clients"))
    assert f"`group.min.session.timeout.ms` must be {GROUP['session_timeout_ms']}" in brokers
    assert f"a rebalance timeout of {GROUP['rebalance_timeout_ms'] // 1000} s" in brokers
    assert f"more than {MOST_UNPACKED // 1024**2} MiB" in brokers
    assert f"client id is `{CLIENT}`" in brokers
    assert f"`SAGABUS_PARTITIONS` ({Settings.model_fields['partitions'].default})" in PAGE


def test_the_tested_broker_is_the_pages() -> None:
    pom = (Path(__file__).parents[1] / "support" / "kafka" / "pom.xml").read_text()
    version = re.search(r"kafka_2\.13</artifactId>\s*<version>([\d.]+)<", pom)
    assert version is not None
    assert f"Tested with Kafka {version[1]} " in PAGE
