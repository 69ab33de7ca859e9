"""A lone surrogate in a test's log or output does not end the run: pytest-xdist could not send it to its master."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    return encodable((yield))


def encodable(value: Any) -> Any:
    """The same, with an escape in the place of whatever UTF-8 has no bytes for."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {encodable(key): encodable(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(map(encodable, value))
        case _:
            return value
