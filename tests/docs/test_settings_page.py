"""docs/reference/settings.md has each setting once, with an example that works. `test_pages` compares the words."""

from __future__ import annotations

import re

import pytest

from sagabus.messaging.settings import Settings, variable
from tests.docs import settings_page

VARIABLE = re.compile(r"^\| `(SAGABUS_\w+)` \|", re.MULTILINE)


def test_each_setting_stands_once() -> None:
    assert sorted(VARIABLE.findall(settings_page.page())) == sorted(map(variable, Settings.model_fields))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_example_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(name), settings_page.example(name))
    assert getattr(Settings(), name) != Settings.model_fields[name].default


def test_no_example_is_of_a_setting_that_is_gone() -> None:
    assert settings_page.EXAMPLES.keys() <= Settings.model_fields.keys()
