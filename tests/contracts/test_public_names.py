"""What each house says it offers is what it offers: sorted, all of it, and nothing else."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

NOT_OURS = ("annotations", "Any", "TYPE_CHECKING", "import_module")

HOUSES = ("contracts", "coordinator", "participants", "client")


@pytest.fixture(params=HOUSES)
def house(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"sagabus.{request.param}")


def public(house: ModuleType) -> list[str]:
    """Names that an importer sees, submodules left out: those are there as soon as anybody imports them."""
    later = getattr(house, "_LATER", {})
    return [
        *later,
        *(
            name
            for name, value in vars(house).items()
            if not name.startswith("_") and not isinstance(value, ModuleType) and name not in NOT_OURS
        ),
    ]


def test_the_list_is_sorted_and_equal_to_reality(house: ModuleType) -> None:
    assert list(house.__all__) == sorted(set(public(house)))


def test_every_public_name_says_what_it_is(house: ModuleType) -> None:
    assert house.__doc__
    silent = [name for name in house.__all__ if not (getattr(house, name).__doc__ or "").strip()]
    assert silent in ([], ["Seconds"]), "a type alias has no docstring of its own"


def test_a_house_needs_no_other_but_those_below_it() -> None:
    """import-linter holds the rest; this is the one that a user would notice first."""
    assert not [name for name in vars(importlib.import_module("sagabus.contracts")) if "messaging" in name]


def test_what_is_imported_when_it_is_asked_for_is_what_it_is_elsewhere() -> None:
    from sagabus import participants
    from sagabus.messaging.service.prerequisites import NotReady
    from sagabus.messaging.settings import SettingsError

    assert (participants.NotReady, participants.SettingsError) == (NotReady, SettingsError)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = participants.Nothing
