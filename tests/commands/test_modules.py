"""Finding sagas, participants and services in modules, those of the current directory too."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagabus.commands import modules
from sagabus.commands.subcommand import Exit, Failed
from sagabus.contracts import DeclarationError


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


MODEL = "from pydantic import BaseModel\nfrom sagabus.contracts import *\nclass A(BaseModel):\n    x: int\n"
SHOP = f'{MODEL}shop = Service("shop")\nbuy = shop.activity("buy", A, A)\n'


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        (f"{MODEL}RetryPolicy(\n    attempts=0\n)\n", 5, "RetryPolicy: attempts=0: a whole number"),
        (f'{MODEL}RetryPolicy(first="soon")\n', 5, "RetryPolicy: could not convert string to float"),
        (f'{MODEL}Service("shop", retry=5)\n', 5, "shop: retry=5: give a policy, such as"),
        (f'{SHOP}\nshop.activity("buy", A)\n', 8, "activity shop.buy is declared twice"),
        (f'{SHOP}shop.activity("sell", dict)\n', 7, "shop.sell: <class 'dict'> is not a pydantic model"),
        (f'{SHOP}shop.activity("sell", A, timeout="soon")\n', 7, "shop.sell: timeout=soon: give more than 0 seconds"),
        (f'{SHOP}shop.activity("sell", A, compensation=buy)\n', 7, "shop.sell: compensation=<activity shop.buy>:"),
        (f"{SHOP}from sagabus.participants import Participant\nParticipant('shop')\n", 8, "Participant('shop'): give"),
        (
            f"{SHOP}from sagabus.participants import Participant\np = Participant(Service('shop'))\np.handles(buy)\n",
            9,
            "shop.buy belongs to another Service('shop') than this participant",
        ),
        (
            f"{SHOP}from sagabus.participants import Participant\np = Participant(shop)\n\n"
            "@p.handles(buy)\ndef handler(command: A, ctx) -> A: ...\n", 10, "shop.buy: handler handler is not async",
        ),
        (f"{MODEL}from sagabus.coordinator import saga\n@saga\nasync def one(ctx, a): ...\n", 6, "@saga was given one"),
        (
            f"{MODEL}from sagabus.coordinator import saga\n@saga('one')\nasync def one(ctx, a: 'B') -> None: ...\n", 6,
            "saga one: name 'B' is not defined",
        ),
        (f'{MODEL}event("e", int)\n', 5, "event e: <class 'int'> is not a pydantic model"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_declaration_is_told_with_its_authors_line(
    here: Path, source: str, line: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever imports the module; the innermost line that is not the kit's."""
    (here / "own_wrong.py").write_text(source)
    (here / "own_first.py").write_text("import own_wrong\n")
    for find in (modules.find, modules.definitions, modules.participants, modules.services):
        for name in ("own_wrong", "own_first"):
            with caplog.at_level(logging.DEBUG), pytest.raises(Failed) as failure:
                find([name])
            assert str(failure.value).startswith(f"own_wrong.py:{line}: {said}")
            assert failure.value.exit is Exit.USAGE
    assert "retry.py" in caplog.text or "sagabus" in caplog.text  # level debug has the whole of it


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = (\n", r"SyntaxError: .* \(own_wrong.py:1\)"),
        ("import json\n\njson.loads('{')\n", r"JSONDecodeError: .* \(own_wrong.py:3\)"),
        (
            "def f():\n    raise SystemExit(3)\nf()\n",
            r"module own_wrong ends the process .* \(own_wrong.py:2\): put what",
        ),
    ],
)
def test_any_other_mistake_at_the_import_is_told_with_its_line_too(here: Path, source: str, said: str) -> None:
    (here / "own_wrong.py").write_text(source)
    with pytest.raises(Failed, match=said):
        modules.find(["own_wrong"])


def test_two_participants_of_one_service_are_refused_before_anything_runs(here: Path) -> None:
    """On the embedded bus the second one would be told to stop the process that it is in."""
    more = "from sagabus.participants import Participant\nagain = Participant(shop)\n"
    (here / "own_twins.py").write_text(f"{SHOP}{more}service = Participant(shop)\n")
    (here / "own_other.py").write_text("from own_twins import service\n")
    with pytest.raises(Failed, match=r"several participants of shop in own_twins, own_other; .* MODULE:OBJECT"):
        modules.find(["own_twins", "own_other"])
    assert len(modules.find(["own_twins:service", "own_other"]).participants) == 1


LATER = """from __future__ import annotations
from typing import TYPE_CHECKING
from pydantic import BaseModel
from sagabus.contracts import Service, event
if TYPE_CHECKING:
    from decimal import Decimal

class A(BaseModel):
    x: int
    price: Decimal

"""


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ('Service("shop").activity("buy", A)', "shop.buy"), ('Service("shop").event("e", A)', "event shop.e"),
        ('event("e", A)', "event e"),
    ],
)  # fmt: skip
def test_a_model_whose_types_are_never_defined_is_told_with_its_line(here: Path, declared: str, what: str) -> None:
    (here / "own_wrong.py").write_text(f"{LATER}declared = {declared}\n")
    for find in (modules.find, modules.services):
        with pytest.raises(Failed) as failure:
            find(["own_wrong"])
        said = f"own_wrong.py:8: {what}: A names the type Decimal, which is not defined in own_wrong: import it there"
        assert str(failure.value).startswith(said)


def test_a_model_whose_types_are_defined_later_is_well(here: Path) -> None:
    source = LATER.replace("    from decimal import Decimal", "    pass")
    (here / "own_well.py").write_text(
        f"{source}s = Service('own')\nbuy = s.activity('buy', A)\nfrom decimal import Decimal\n"
    )
    assert [one.name for one in modules.services(["own_well"])] == ["own"]


def test_two_sagas_of_one_name_and_version_are_told_with_both_lines(here: Path) -> None:
    saga = "@saga('one')\nasync def {}(ctx, a: A) -> None: ...\n"
    imports = f"{MODEL}from sagabus.coordinator import saga\n"
    (here / "own_two.py").write_text(imports + saga.format("first") + saga.format("second"))
    with pytest.raises(
        DeclarationError, match=r"one version 1> is declared twice, at .*own_two.py:6 and at .*two.py:8"
    ):
        modules.definitions(["own_two"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [("own_goood", "own_good"), ("own_pack.modle", "own_pack.model"), ("own_pakc.model", "own_pack.model"),
     ("own_saga:servcie", "service")],
)  # fmt: skip
def test_a_slip_of_the_pen_has_the_name_that_was_meant(here: Path, name: str, meant: str) -> None:
    (here / "own_good.py").write_text("")
    (here / "own_saga.py").write_text("from sagabus.shop.inventory import service\n")
    (here / "own_pack").mkdir()
    (here / "own_pack" / "__init__.py").write_text("")
    (here / "own_pack" / "model.py").write_text("")
    with pytest.raises(Failed, match=rf"; did you mean {meant}\b"):
        modules.find([name])


def test_an_object_that_has_every_attribute_is_no_participant(here: Path) -> None:
    (here / "own_any.py").write_text("from sqlalchemy import func\n")
    with pytest.raises(Failed, match="no participant in own_any"):
        modules.participants(["own_any"])
    with pytest.raises(Failed, match="no service in own_any"):
        modules.services(["own_any"])
