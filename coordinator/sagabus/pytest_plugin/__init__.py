"""What pytest finds by itself where sagabus is installed: the fixture `saga_test`. Nothing is loaded before that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sagabus.testing import SagaTest


@pytest.fixture
def saga_test() -> Iterator[Callable[..., SagaTest[Any, Any]]]:
    """Makes a SagaTest, with its arguments: `test = saga_test(order_processing)`. Its code is ended after the test."""
    from sagabus.testing import SagaTest

    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(SagaTest(*args, **kwargs))
