"""What is needed to ask the coordinator's API: its address and the token. Pure, and quick to import."""

from __future__ import annotations

import re
from typing import Final

from sagabus.messaging.setting_texts import OFF

PREFIX: Final = "SAGABUS_"
"""Of every setting in the environment."""

HTTP: Final = "127.0.0.1:8080"
"""Where the API listens unless SAGABUS_HTTP says otherwise."""

_URL: Final = re.compile(r"https?://[^/]")


def api_url(text: str) -> str:
    """Without a slash at its end; empty for none. Raises ValueError with the cure."""
    if text and ("@" in text or not _URL.match(text)):
        raise ValueError("give the coordinator's address, http://host:8080; its secret goes into SAGABUS_TOKEN")
    return text.rstrip("/")


def is_header(token: str) -> bool:
    """Whether an HTTP header takes it."""
    return token.isprintable() and token == token.strip()


def reached_at(http: str) -> str | None:
    """Where this machine reaches the API that listens at host:port; None for `off`."""
    if http == OFF:
        return None
    host, _, port = http.rpartition(":")
    host = _ANYWHERE.get(bare := host.strip("[]"), bare)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""An address to listen on is none to connect to."""
