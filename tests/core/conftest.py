"""Sagas that a test of the core leaves half-way are counted and evicted after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.restored import count_all, forget_all


@pytest.fixture(autouse=True)
def _no_saga_is_left() -> Iterator[None]:
    yield
    try:
        count_all()
    finally:
        forget_all()
