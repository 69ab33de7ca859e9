"""The tables of states: whole, without dead ends, obeyed, and the same in the reference."""

from __future__ import annotations

import itertools
from enum import StrEnum

import pytest

from sagabus.coordinator.core.saga import status
from sagabus.coordinator.core.saga.status import (
    BUSY_UNDOING,
    CLOSED,
    OPEN_OUTCOMES,
    OUTCOME,
    SAGA,
    UNDOING,
    IllegalChange,
    Outcome,
    SagaStatus,
    Undoing,
    changed,
)
from tests.core import states_page
from tests.core.kit import Drive
from tests.core.shapes import sequential

TABLES = [(SAGA, SagaStatus), (OUTCOME, Outcome), (UNDOING, Undoing)]


@pytest.mark.parametrize(("table", "states"), TABLES)
def test_every_state_is_in_its_table_and_can_be_reached(
    table: dict[str, frozenset[str]], states: type[StrEnum]
) -> None:
    assert set(table) == set(states)
    first = next(iter(table))
    assert set(itertools.chain([first], *table.values())) == set(states)
    assert all(state not in changes for state, changes in table.items()), "no state becomes itself"


@pytest.mark.parametrize(("table", "ends"), [(SAGA, CLOSED), (UNDOING, set(Undoing) - BUSY_UNDOING)])
def test_from_every_open_state_an_end_can_be_reached(table: dict[str, frozenset[str]], ends: frozenset[str]) -> None:
    for state in set(table) - ends - {Undoing.NONE}:
        assert table[state] & (ends | set(table) - {state}), f"{state} is a dead end"


def test_a_step_of_unknown_outcome_can_only_be_settled() -> None:
    assert OUTCOME[Outcome.UNKNOWN] == {Outcome.COMPLETED, Outcome.NEVER}
    assert {state for state in Outcome if Outcome.UNKNOWN in OUTCOME[state]} == OPEN_OUTCOMES


def test_what_is_done_stays_done() -> None:
    for end in (Undoing.DONE, Undoing.SKIPPED):
        assert UNDOING[end] == frozenset()
    assert OUTCOME[Outcome.COMPLETED] == frozenset()
    assert {state for state in CLOSED if SAGA[state]} == {SagaStatus.COMPLETED}, "a child may be reopened"


@pytest.mark.parametrize(("table", "states"), TABLES)
def test_a_change_that_no_table_allows_is_refused(table: dict[Outcome, frozenset[Outcome]], states: type) -> None:
    for old, new in itertools.product(table, repeat=2):
        if new in table[old]:
            assert changed(table, old, new) is new
        else:
            with pytest.raises(IllegalChange, match=f"{states.__name__}: {old} cannot become {new}"):
                changed(table, old, new)


def test_every_change_of_the_core_goes_through_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """An illegal one stops the saga, and is not carried out."""
    drive = Drive(sequential).start()
    drive.completed(1)
    with monkeypatch.context() as patch:
        patch.setitem(status.OUTCOME, Outcome.SENT, frozenset())
        saga = drive.restored()
        assert saga.state.attention is not None
        assert "IllegalChange: Outcome: sent cannot become completed" in saga.state.attention
        assert saga.state.status is SagaStatus.RUNNING
    assert drive.restored().state.attention is None


def test_the_reference_shows_these_tables() -> None:
    assert states_page.PAGE.read_text() == states_page.page(), "run `python -m tests.core.states_page`"
