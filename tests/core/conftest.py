"""Sagas that a test of the core leaves half-way are evicted after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.restored import forget_all


@pytest.fixture(autouse=True)
def _no_saga_is_left() -> Iterator[None]:
    yield
    forget_all()
