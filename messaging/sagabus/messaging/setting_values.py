"""The values that a setting may have: each is checked and written in one form, or refused with what to give."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from sagabus.messaging import setting_texts
from sagabus.messaging.api_access import api_url


def _retention(given: object) -> object:
    return setting_texts.retention(given) if isinstance(given, str) else given


KafkaServers = Annotated[str, AfterValidator(setting_texts.kafka_servers)]
DatabaseUrl = Annotated[str, AfterValidator(setting_texts.database)]
Namespace = Annotated[str, AfterValidator(setting_texts.namespace)]
HttpAddress = Annotated[str, AfterValidator(setting_texts.http_address)]
Instance = Annotated[str, AfterValidator(setting_texts.instance)]
ApiUrl = Annotated[str, AfterValidator(api_url)]
Keeps = Annotated[float | None, BeforeValidator(_retention)]
"""Seconds; None: for ever. In the environment with a unit, `30d`, or `off`."""
