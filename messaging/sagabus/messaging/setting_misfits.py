"""Settings of which each is right, and which do not fit together: their faults in words. Quick to import."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from sagabus.messaging import database_url
from sagabus.messaging.api_access import PREFIX, is_header
from sagabus.messaging.setting_choices import Security
from sagabus.messaging.setting_texts import EMBEDDED

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_SECRET: Final = ("kafka_password", "token")
_SASL: Final = ("kafka_sasl_mechanism", "kafka_username", "kafka_password")
_FILES: Final = ("kafka_ca_file", "kafka_cert_file", "kafka_key_file")


def variable(field: str) -> str:
    """The name in the environment."""
    return PREFIX + field.upper()


def misfits(texts: Mapping[str, str]) -> Iterator[str]:
    """What does not fit together."""
    security = texts.get("kafka_security", Security.PLAINTEXT)
    if security == Security.PLAINTEXT:
        yield from _unused(texts, (*_FILES, *_SASL), "nothing is encrypted with SAGABUS_KAFKA_SECURITY=plaintext")
    elif texts.get("kafka") == EMBEDDED:
        yield f"SAGABUS_KAFKA_SECURITY={security}: the embedded bus speaks plaintext only; leave it out"
    if security == Security.TLS:
        yield from _unused(texts, _SASL, "SAGABUS_KAFKA_SECURITY=tls logs in by certificate; use sasl_tls")
    if security == Security.SASL_TLS:
        yield from _sasl(texts)
    token = texts.get("token", "")
    if not is_header(token):
        yield "SAGABUS_TOKEN holds what an HTTP header cannot hold: give printable characters, without line breaks"
    yield from _files(texts)


def _unused(texts: Mapping[str, str], fields: Collection[str], reason: str) -> Iterator[str]:
    for field in fields:
        if texts.get(field):
            yield f"{variable(field)} has no effect: {reason}"


def _sasl(texts: Mapping[str, str]) -> Iterator[str]:
    for field in _SASL:
        if not texts.get(field):
            yield f"{variable(field)} is not set: SAGABUS_KAFKA_SECURITY=sasl_tls needs it"
    mechanism = texts.get("kafka_sasl_mechanism")
    if mechanism and mechanism not in MECHANISMS:
        yield f"SAGABUS_KAFKA_SASL_MECHANISM={mechanism}: give one of {', '.join(MECHANISMS)}"


def _files(texts: Mapping[str, str]) -> Iterator[str]:
    for field in _FILES:
        if (path := texts.get(field)) and not Path(path).is_file():
            yield f"{variable(field)}={shown(field, path)}: there is no such file"
    if bool(texts.get("kafka_cert_file")) != bool(texts.get("kafka_key_file")):
        yield "SAGABUS_KAFKA_CERT_FILE and SAGABUS_KAFKA_KEY_FILE go together: one of them is missing"


def shown(field: str, value: str) -> str:
    if field in _SECRET:
        return "(hidden)"
    text = database_url.masked(value) if field == "database" else _without_login(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _without_login(value: str) -> str:
    """Whatever somebody has put before an @, in a setting that has no login."""
    return f"…{value[value.rindex('@') :]}" if "@" in value else value
