"""The address of a database in the forms that people write, and in the forms that asyncpg and SQLAlchemy take.

Pure: nothing here connects. A password never leaves it by way of an error: show a URL with `masked`.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

EMBEDDED: Final = "embedded:"
"""`embedded:DIR`: a PostgreSQL of our own, with its data in DIR."""

FORM: Final = "give postgresql://user:password@host:5432/name, or embedded:DIR"

_SCHEMES: Final = {"postgres", "postgresql", "postgresql+asyncpg"}
_OPTIONS: Final = {"host", "port", "sslmode"}
_SSL_MODES: Final = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
_SSL_WORDS: Final = {"true": "require", "false": "disable"}
_PASSWORD: Final = re.compile(r"^((?:[^:/@]*://)?[^:@/]*:).*(?=@)|(?<=password=)[^&]*")


def normalised(text: str) -> str:
    """`postgresql://…` as asyncpg takes it, or `embedded:DIR`. Raises ValueError with the cure."""
    if text.startswith(EMBEDDED):
        if text == EMBEDDED:
            raise ValueError("name the folder for the data: embedded:DIR")
        return text
    url = urlsplit(text)
    if url.scheme not in _SCHEMES:
        raise ValueError(f"not a PostgreSQL address: {FORM}")
    if "," in url.netloc:
        raise ValueError("name one host: several are not supported")
    if not url.path.strip("/"):
        raise ValueError(f"the name of the database is missing: {FORM}")
    _ = url.port  # raises ValueError for what is no port
    return _joined("postgresql", url, _options(url.query))


def sqlalchemy_url(url: str) -> str:
    """A normalised address for `create_async_engine`, whose asyncpg dialect says `ssl` where libpq says `sslmode`."""
    parts = urlsplit(url)
    options = {("ssl" if name == "sslmode" else name): value for name, value in parse_qsl(parts.query)}
    return _joined("postgresql+asyncpg", parts, options)


def masked(url: str) -> str:
    """The address without its password, for messages and logs."""
    return _PASSWORD.sub(lambda found: f"{found[1] or ''}…", url)


def _options(query: str) -> dict[str, str]:
    """libpq's names. Raises ValueError for one that asyncpg and SQLAlchemy would not both take."""
    options = {("sslmode" if name == "ssl" else name): value for name, value in parse_qsl(query)}
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)}: of parameters only host, port and sslmode are understood; name certificates by "
            "PGSSLROOTCERT, PGSSLCERT and PGSSLKEY in the environment"
        )
    if "sslmode" in options:
        options["sslmode"] = mode = _SSL_WORDS.get(options["sslmode"].lower(), options["sslmode"])
        if mode not in _SSL_MODES:
            raise ValueError(f"sslmode={mode}: give one of {', '.join(sorted(_SSL_MODES))}")
    return options


def _joined(scheme: str, url: SplitResult, options: dict[str, str]) -> str:
    """By hand: `urlunsplit` would drop the slashes of an address without a host, which names a socket's folder."""
    query = urlencode(options, safe="/", quote_via=quote)
    return f"{scheme}://{url.netloc}{url.path}" + (f"?{query}" if query else "")
