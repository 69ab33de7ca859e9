"""Finding sagas, participants and services in modules, those of the current directory too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagabus.commands import modules
from sagabus.commands.subcommand import Exit, Failed


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory for modules of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def test_each_object_is_found_once() -> None:
    found = modules.find(["sagabus.shop.order_processing", "sagabus.shop.inventory", "sagabus.shop.inventory"])
    assert [one.name for one in found.definitions] == ["order_processing"]
    assert [one.service.name for one in found.participants] == ["inventory"]


def test_one_object_of_a_module() -> None:
    assert [one.service.name for one in modules.participants(["sagabus.shop.payment:service"])] == ["payment"]


def test_services_are_found_in_contracts_in_sagas_and_in_participants() -> None:
    names = {"inventory", "payment", "shipping"}
    assert {one.name for one in modules.services(["sagabus.shop.contracts"])} == names
    assert {one.name for one in modules.services(["sagabus.shop.order_processing"])} == names
    assert {one.name for one in modules.services(["sagabus.shop.shipping"])} == {"shipping"}


def test_a_module_of_the_current_directory(here: Path) -> None:
    (here / "own_sagas.py").write_text("from sagabus.shop.order_processing import order_processing as mine\n")
    assert [one.name for one in modules.definitions(["own_sagas"])] == ["order_processing"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_nothing", "no module own_nothing"),
        ("own_pack.nothing", "no module own_pack.nothing"),
        ("own_pack/file.py", "own_pack.file"),
        ("own_broken", r"ZeroDivisionError: division by zero \(.*own_broken.py:2\)"),
        ("own_needs", "No module named 'own_missing'"),
        ("own_good:nothing", "module own_good has no nothing"),
        ("own_good", "no saga in own_good"),
    ],
)
def test_what_cannot_be_found_is_said_in_one_sentence(here: Path, name: str, said: str) -> None:
    (here / "own_broken.py").write_text("x = 1\nx / 0\n")
    (here / "own_needs.py").write_text("import own_missing\n")
    (here / "own_good.py").write_text("x = 1\n")
    with pytest.raises(Failed, match=said) as failure:
        modules.definitions([name])
    assert failure.value.exit is Exit.USAGE
    assert "\n" not in str(failure.value)


def test_an_object_that_has_every_attribute_is_no_participant(here: Path) -> None:
    (here / "own_any.py").write_text("from sqlalchemy import func\n")
    with pytest.raises(Failed, match="no participant in own_any"):
        modules.participants(["own_any"])
    with pytest.raises(Failed, match="no service in own_any"):
        modules.services(["own_any"])
