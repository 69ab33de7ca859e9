"""The values that a setting may have: each is checked and written in one form, or refused with what to give."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator

from sagabus.messaging import setting_texts
from sagabus.messaging.api_access import api_url
from sagabus.messaging.setting_texts import OFF

DAY: Final = 86_400
"""Seconds."""

_DURATION: Final = re.compile(r"(\d{1,9})\s*([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": DAY}
_LONGEST: Final = 36_500 * DAY


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least level of a line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Security(StrEnum):
    """How Kafka is spoken to."""

    PLAINTEXT = "plaintext"
    TLS = "tls"
    SASL_TLS = "sasl_tls"


def _retention(given: object) -> object:
    """`30d`, `12h`, `90m`, `45s` as seconds; `off` as None."""
    if not isinstance(given, str):
        return given
    match = _DURATION.fullmatch(given.strip().lower())
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if given.strip().lower() == OFF:
        return None
    if not 0 < seconds <= _LONGEST:
        raise ValueError("give a time with its unit, 30d, 12h, 90m or 45s, or off to keep everything")
    return float(seconds)


KafkaServers = Annotated[str, AfterValidator(setting_texts.kafka_servers)]
DatabaseUrl = Annotated[str, AfterValidator(setting_texts.database)]
Namespace = Annotated[str, AfterValidator(setting_texts.namespace)]
HttpAddress = Annotated[str, AfterValidator(setting_texts.http_address)]
Instance = Annotated[str, AfterValidator(setting_texts.instance)]
ApiUrl = Annotated[str, AfterValidator(api_url)]
Keeps = Annotated[float | None, BeforeValidator(_retention)]
"""Seconds; None: for ever. In the environment with a unit, `30d`, or `off`."""
