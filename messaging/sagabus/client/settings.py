"""How a command asks the coordinator: the settings of the API alone, in a hundredth of the time that all settings take.

Where others are set besides, all of them are read and checked: a process with wrong settings says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from sagabus.messaging.api_access import HTTP, PREFIX, api_url, is_header
from sagabus.messaging.embedded import FOLDER

URL: Final = f"{PREFIX}URL"
TOKEN: Final = f"{PREFIX}TOKEN"


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """url: without a slash at its end; empty where nobody has told it."""

    url: str
    token: str = field(repr=False)


def api_settings() -> ApiSettings:
    """As the environment says, and without SAGABUS_URL as the host of this directory does. Raises SettingsError."""
    told = _told()
    return ApiSettings(told.url or _url_of_host(), told.token) if told else _among_all()


def own_api_url() -> str | None:
    """SAGABUS_URL, else where this machine reaches the API that listens as SAGABUS_HTTP says; None where it is off.

    Raises SettingsError.
    """
    if told := _told():
        return told.url or f"http://{HTTP}"
    from sagabus.messaging.service.backing import own_url
    from sagabus.messaging.settings import load_settings

    settings = load_settings(require=())
    return settings.url or own_url(settings)


def _told() -> ApiSettings | None:
    """None where more is set, or something is wrong: the settings have the words for it."""
    given = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX) and value}
    url, token = given.pop(URL, ""), given.pop(TOKEN, "")
    try:
        return None if given or not is_header(token) else ApiSettings(api_url(url), token)
    except ValueError:
        return None


def _url_of_host() -> str:
    from sagabus.messaging.embedded.run_file import read_run

    run = read_run(FOLDER)
    return (run.http if run else None) or ""


def _among_all() -> ApiSettings:
    from sagabus.messaging.service.backing import url_of
    from sagabus.messaging.settings import load_settings

    settings = load_settings(require=())
    return ApiSettings(url_of(settings), settings.token.get_secret_value())
