"""Histories of earlier releases: today's code follows each of them to its end (H7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import source_of
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.replay import restore
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.core.saga.state import SagaState
from tests.core import golden

SHARD = 3


def replayed(file: Path) -> Saga:
    history = golden.load(file)
    head = history.head
    addresses = Addresses("sagabus", source_of("sagabus"), SagaId(head.id), RunId(head.run), SHARD)
    state = SagaState(addresses, definition=head.saga, version=head.version)
    code = golden.SHAPES[golden.shape_of(file)]
    return restore(state, code, history.rows, status=head.status, now=history.rows[-1].at)


@pytest.mark.parametrize("file", golden.files(), ids=lambda file: file.stem)
def test_h7_a_history_of_an_earlier_release_is_followed_to_its_end(file: Path) -> None:
    head = golden.load(file).head
    saga = replayed(file)
    try:
        assert saga.stopped is None, f"{file.name}: {saga.state.attention}"
        assert saga.state.status == head.status
        assert saga.drain().rows == []
    finally:
        saga.evict()


def test_each_shape_has_histories() -> None:
    """`python -m tests.core.golden` records those that have none."""
    assert {golden.shape_of(file) for file in golden.files()} == golden.SHAPES.keys()
