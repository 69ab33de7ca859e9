"""The address of a database in the forms that people write, and in the forms that asyncpg and SQLAlchemy take.

Pure: nothing here connects. A password never leaves it by way of an error: show a URL with `masked`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

EMBEDDED: Final = "embedded:"
"""`embedded:DIR`: a PostgreSQL of our own, with its data in DIR."""

FORM: Final = "give postgresql://user:password@host:5432/name, host:5432,host:5432 for several, or embedded:DIR"

_SCHEMES: Final = {"postgres", "postgresql", "postgresql+asyncpg"}
_OPTIONS: Final = {"host", "port", "sslmode", "target_session_attrs"}
_SCHEME: Final = re.compile(r"[a-z+]{1,30}://|embedded:")
_TARGETS: Final = {"any", "primary", "standby", "read-write", "read-only", "prefer-standby"}
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._%-]*)(?::(\d{1,5}))?")
_SSL_MODES: Final = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
_SSL_WORDS: Final = {"true": "require", "false": "disable"}
_ENCODED: Final = "in a user or a password, @ : / ? # and % are written as codes: %40 %3A %2F %3F %23 %25"


def normalised(text: str) -> str:
    """`postgresql://…` as asyncpg takes it, or `embedded:DIR`. Raises ValueError with the cure."""
    if text.startswith(EMBEDDED):
        if text == EMBEDDED:
            raise ValueError("name the folder for the data: embedded:DIR")
        return text
    url = _split(text)
    if url.scheme not in _SCHEMES:
        raise ValueError(f"not a PostgreSQL address: {FORM}")
    if "@" in f"{url.path}{url.query}{url.fragment}" or url.fragment or url.netloc.count("@") > 1:
        raise ValueError(_ENCODED)
    if not all(map(_is_host, url.netloc.rpartition("@")[2].split(","))):
        raise ValueError(f"that is no list of hosts, each with its port: {FORM}; {_ENCODED}")
    if not url.path.strip("/"):
        raise ValueError(f"the name of the database is missing: {FORM}")
    return _joined("postgresql", url, _options(url.query))


def hosts(url: str) -> list[str]:
    """A normalised address as one for each of its hosts, in their order."""
    parts = urlsplit(url)
    login, at, listed = parts.netloc.rpartition("@")
    options = dict(parse_qsl(parts.query))
    return [_joined("postgresql", parts, options, netloc=f"{login}{at}{host}") for host in listed.split(",")]


def sqlalchemy_url(url: str) -> str:
    """A normalised address for `create_async_engine`, whose asyncpg dialect says `ssl` where libpq says `sslmode`.

    Several hosts go into the query, each with its port.
    """
    parts = urlsplit(url)
    options = [("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(parts.query)]
    login, at, listed = parts.netloc.rpartition("@")
    if "," not in listed:
        return _joined("postgresql+asyncpg", parts, dict(options))
    several = [("host", host if _port(host) else f"{host}:5432") for host in listed.split(",")]
    if all(name != "target_session_attrs" for name, _ in options):
        options.append(("target_session_attrs", "read-write"))
    return _joined("postgresql+asyncpg", parts, [*several, *options], netloc=f"{login}{at}")


def masked(url: str) -> str:
    """The address without its password, for messages and logs. Of one that is not well-formed, what cannot be part of
    a password: where that begins and ends cannot be told there."""
    try:
        url = normalised(url)
    except ValueError:
        return _sure_part(url)
    if url.startswith(EMBEDDED):
        return url
    parts = urlsplit(url)
    login, at, listed = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{user}{colon}{'…' if colon else ''}{at}{listed}"
    return _joined("postgresql", parts, dict(parse_qsl(parts.query)), netloc=shown)


def _sure_part(url: str) -> str:
    found = _SCHEME.match(url)
    scheme = found[0] if found else ""
    before, question, after = url[len(scheme) :].partition("?")
    login, at, address = before.rpartition("@")
    if "@" in after or (
        not at and ":" in before and not all(map(_HOST.fullmatch, before.partition("/")[0].split(",")))
    ):
        return f"{scheme}…"
    return f"{scheme}{'…' if login else ''}{at}{address}{'?…' if question else ''}"


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError as error:  # it names the login
        raise ValueError(f"not a PostgreSQL address: {FORM}; {_ENCODED}") from error


def _is_host(text: str) -> bool:
    return bool(_HOST.fullmatch(text)) and _port(text) < 65536


def _port(host: str) -> int:
    """0 without one."""
    found = _HOST.fullmatch(host)
    return int(found[1] or 0) if found else 0


def _options(query: str) -> dict[str, str]:
    """libpq's names. Raises ValueError for one that asyncpg and SQLAlchemy would not both take."""
    options = {("sslmode" if name == "ssl" else name): value for name, value in parse_qsl(query)}
    if options.keys() - _OPTIONS:  # not shown: a password with & in it looks like several
        raise ValueError(
            "of parameters only host, port, sslmode and target_session_attrs are understood; name certificates by "
            "PGSSLROOTCERT, PGSSLCERT and PGSSLKEY in the environment"
        )
    if options.get("target_session_attrs", "any") not in _TARGETS:
        raise ValueError(f"target_session_attrs: give one of {', '.join(sorted(_TARGETS))}")
    if "sslmode" in options:
        options["sslmode"] = mode = _SSL_WORDS.get(options["sslmode"].lower(), options["sslmode"])
        if mode not in _SSL_MODES:
            raise ValueError(f"sslmode: give one of {', '.join(sorted(_SSL_MODES))}")
    return options


def _joined(
    scheme: str, url: SplitResult, options: Mapping[str, str] | Sequence[tuple[str, str]], *, netloc: str | None = None
) -> str:
    """By hand: `urlunsplit` would drop the slashes of an address without a host, which names a socket's folder."""
    query = urlencode(options, safe="/:", quote_via=quote)
    return f"{scheme}://{url.netloc if netloc is None else netloc}{url.path}" + (f"?{query}" if query else "")
