"""A flood of one line becomes one line."""

from __future__ import annotations

import logging

import pytest

from sagabus.messaging.bus.client_logs import Repeated
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.settings import load_settings


def line(name: str, text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, text, values, None)


def test_same_line_of_the_client_is_written_once() -> None:
    repeated = Repeated(quiet_seconds=3600)
    assert repeated.filter(line("aiokafka", "Unable to connect to %s", "one"))
    assert not repeated.filter(line("aiokafka", "Unable to connect to %s", "two"))
    assert repeated.filter(line("aiokafka", "Another thing"))
    assert repeated.filter(line("aiokafka.consumer.fetcher", "Unable to connect to %s", "one"))


def test_after_a_quiet_time_it_says_how_many_were_left_out() -> None:
    repeated = Repeated(quiet_seconds=3600)
    for number in range(5):
        repeated.filter(line("aiokafka", "Unable to connect to %s", number))
    repeated._quiet = 0
    record = line("aiokafka", "Unable to connect to %s", "100%")
    assert repeated.filter(record)
    assert record.getMessage() == "Unable to connect to 100% (4 more like this before)"


def test_lines_of_others_pass() -> None:
    repeated = Repeated(quiet_seconds=3600)
    for name in ("sagabus.messaging.bus.kafka", "aiokafkaesque", "root"):
        assert all(repeated.filter(line(name, "again")) for _ in range(3))


def test_whoever_makes_a_client_has_the_filter(caplog: pytest.LogCaptureFixture) -> None:
    """On the loggers of aiokafka's modules: one on their parent is never asked for what comes from them."""
    Kafka(load_settings(kafka="localhost:1", require=()))
    for name in ("aiokafka", "aiokafka.conn", "aiokafka.consumer.group_coordinator"):
        for number in range(100):
            logging.getLogger(name).error("No route to node %s %d", name, number)
    assert len(caplog.records) == 3
