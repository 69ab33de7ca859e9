"""Settings that are one of a few words. Quick to import."""

from __future__ import annotations

from enum import StrEnum


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


class Guard(StrEnum):
    """Whether sagas are watched while their code runs."""

    ON = "on"
    OFF = "off"


class Security(StrEnum):
    """How Kafka is spoken to."""

    PLAINTEXT = "plaintext"
    TLS = "tls"
    SASL_TLS = "sasl_tls"
