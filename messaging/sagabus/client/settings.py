"""How a command asks the coordinator: address and token, in a hundredth of the time that all settings take to import.

Where one is wrong, all of them are read and checked: a process with wrong settings says so, in the words of all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sagabus.messaging import setting_texts
from sagabus.messaging.api_access import HTTP, PREFIX, api_url, is_header, reached_at
from sagabus.messaging.embedded import folder_named
from sagabus.messaging.setting_choices import LogFormat, LogLevel, Security
from sagabus.messaging.setting_misfits import misfits


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """url: without a slash at its end; empty where nobody has told it."""

    url: str
    token: str = field(repr=False)


def api_settings() -> ApiSettings:
    """As the environment says, and without SAGABUS_URL as the host of this directory does. Raises SettingsError."""
    told = _told()
    if told is None:
        return _among_all()
    return ApiSettings(told.get("url") or _url_of_host(told.get("database", "")), told.get("token", ""))


def own_api_url() -> str | None:
    """SAGABUS_URL, else where this machine reaches the API that listens as SAGABUS_HTTP says; None where it is off.

    Raises SettingsError.
    """
    told = _told()
    if told is not None:
        return told.get("url") or reached_at(told.get("http", HTTP))
    from sagabus.messaging.service.backing import own_url
    from sagabus.messaging.settings import load_settings

    settings = load_settings(require=())
    return settings.url or own_url(settings)


def _token(text: str) -> str:
    if not is_header(text):
        raise ValueError("SAGABUS_TOKEN")
    return text


def _plain(text: str) -> str:
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    return lambda text: words[words.index(text)]  # ValueError for another one


def _whole(most: int) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise ValueError(text)
        return text

    return read


def _retention(text: str) -> str:
    setting_texts.retention(text)
    return text


_READ: Final[Mapping[str, Callable[[str], str]]] = {
    "kafka": setting_texts.kafka_servers,
    "database": setting_texts.database,
    "namespace": setting_texts.namespace,
    "http": setting_texts.http_address,
    "instance": setting_texts.instance,
    "url": api_url,
    "token": _token,
    "log": _one_of(*LogFormat),
    "log_level": _one_of(*LogLevel),
    "partitions": _whole(setting_texts.MOST_PARTITIONS),
    "replication": _whole(setting_texts.MOST_REPLICAS),
    "kafka_security": _one_of(*Security),
    **dict.fromkeys(("kafka_ca_file", "kafka_cert_file", "kafka_key_file"), _plain),
    **dict.fromkeys(("kafka_sasl_mechanism", "kafka_username", "kafka_password"), _plain),
    **dict.fromkeys(
        (f"retention_{what}" for what in ("sagas", "started_ids", "inbox", "dead_letters", "parked")), _retention
    ),
}
"""By field. What is refused here in a word is read again among all settings, which have the sentences."""


def _told() -> Mapping[str, str] | None:
    """What is set, by field. None where something is wrong, or is no setting: all settings have the words for it."""
    told: dict[str, str] = {}
    for name, value in os.environ.items():
        if value and name.upper().startswith(PREFIX):
            read = _READ.get(name.removeprefix(PREFIX).lower())
            if read is None or name != name.upper():
                return None
            try:
                value.encode()
                told[name.removeprefix(PREFIX).lower()] = read(value)
            except ValueError:
                return None
    return None if any(misfits(told)) else told


def _url_of_host(database: str) -> str:
    from sagabus.messaging.embedded.run_file import read_run

    run = read_run(folder_named(database))
    return (run.http if run else None) or ""


def _among_all() -> ApiSettings:
    from sagabus.messaging.service.backing import url_of
    from sagabus.messaging.settings import load_settings

    settings = load_settings(require=())
    return ApiSettings(url_of(settings), settings.token.get_secret_value())
