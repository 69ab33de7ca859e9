"""What each house says it offers is what it offers: sorted, all of it, and nothing else."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

HOUSES = ("contracts", "coordinator", "participants", "client")


@pytest.fixture(params=HOUSES)
def house(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"sagabus.{request.param}")


def public(house: ModuleType) -> list[str]:
    """Names that an importer sees, submodules left out: those are there as soon as anybody imports them."""
    return [
        name
        for name, value in vars(house).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
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
