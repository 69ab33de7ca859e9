"""Sagas that a test of the core leaves half-way are counted and evicted after it. Others' contracts are unseen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sagabus.contracts import declared
from tests.core import services
from tests.core.restored import count_all, forget_all

OF_THE_CORE = (services.stock, services.bank, services.post)


@pytest.fixture(autouse=True)
def _no_saga_is_left() -> Iterator[None]:
    yield
    try:
        count_all()
    finally:
        forget_all()


@pytest.fixture(autouse=True)
def _no_other_test_declares_its_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A saga without its code looks through all that are declared in the process, also by tests of the contracts."""
    monkeypatch.setattr(declared, "_SERVICES", {})
    for service in OF_THE_CORE:
        declared.declare(service)
