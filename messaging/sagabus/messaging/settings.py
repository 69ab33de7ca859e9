"""What the environment says: SAGABUS_*, read in this one place.

`load_settings` gives settings that can work, or one error that names every fault at once: the variable, its value and
the cure. It connects to nothing, and no password is ever part of a message.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Final

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from sagabus.messaging import database_url
from sagabus.messaging.api_access import PREFIX
from sagabus.messaging.setting_choices import Guard, LogFormat, LogLevel, Security
from sagabus.messaging.setting_misfits import misfits, shown, variable
from sagabus.messaging.setting_texts import DAY, EMBEDDED, MOST_PARTITIONS, MOST_REPLICAS, OFF
from sagabus.messaging.setting_values import (
    ApiUrl,
    DatabaseUrl,
    HttpAddress,
    Instance,
    KafkaServers,
    Keeps,
    Namespace,
)
from sagabus.messaging.settings_error import SettingsError

__all__ = [
    "EMBEDDED",
    "OFF",
    "LogFormat",
    "LogLevel",
    "Security",
    "Settings",
    "SettingsError",
    "is_loopback",
    "load_settings",
    "open_to_others",
    "unknown_variables",
    "variable",
]

SERVICES: Final = ("kafka", "database")
"""What a coordinator or participant cannot be without."""


class Settings(BaseSettings):
    """Made by `load_settings`, which also looks at what does not fit together."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    kafka: KafkaServers = ""
    """Bootstrap servers `host:port,host:port`, or `embedded`: those of a `sagabus dev` that is running."""
    database: Annotated[DatabaseUrl, Field(repr=False)] = ""
    """`postgresql://user:password@host:5432/name`, `host:5432,host:5432` for several, or `embedded:DIR`: that
    of a `sagabus dev` that is running and keeps its data in this folder."""
    namespace: Namespace = "sagabus"
    """Name of the coordinator's deployment: first part of its topics, its schema and its consumer group."""
    http: HttpAddress = "127.0.0.1:8080"
    """Address at which the coordinator's API listens, or `off`. Other than loopback it needs `SAGABUS_TOKEN`."""
    log: LogFormat = LogFormat.TEXT
    """How log lines look: `text` for people, `json` for machines, one object a line."""
    log_level: LogLevel = LogLevel.INFO
    """The least level that is written: `debug`, `info`, `warning` or `error`."""
    guard: Guard = Guard.ON
    """`on`: a saga that opens files, sockets or processes, starts threads or sleeps is stopped, for an operator. `off`:
    it is not looked at. For coordinators."""
    instance: Instance = ""
    """Static group membership (KIP-345): a name of its own for each process. Not set: dynamic membership."""
    partitions: Annotated[int, Field(ge=1, le=MOST_PARTITIONS)] = 12
    """Number of partitions of each topic that `sagabus topics` makes. It cannot be changed later (S11)."""
    replication: Annotated[int, Field(ge=1, le=MOST_REPLICAS)] = 1
    """Number of replicas of each topic that `sagabus topics` makes: 3 on a cluster."""
    kafka_security: Security = Security.PLAINTEXT
    """How connections to Kafka are secured: not at all; by TLS; by TLS with a login."""
    kafka_ca_file: str = ""
    """File in PEM with the certificate authorities to trust. Not set: those of this system."""
    kafka_cert_file: str = ""
    """File in PEM with the client's certificate; together with `SAGABUS_KAFKA_KEY_FILE`."""
    kafka_key_file: str = ""
    """File in PEM with the certificate's private key."""
    kafka_sasl_mechanism: str = ""
    """How to log in: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. Needed with `sasl_tls`."""
    kafka_username: str = ""
    """Needed with `sasl_tls`."""
    kafka_password: SecretStr = SecretStr("")
    """Needed with `sasl_tls`."""
    url: ApiUrl = ""
    """Address of the coordinator's API, for the client and for commands such as `sagabus start`."""
    token: SecretStr = SecretStr("")
    """Bearer token of the API: what the coordinator asks for, and what the client and the commands give."""
    retention_sagas: Keeps = 30.0 * DAY
    """How long a closed saga stays, with its history; counted from its end. A flagged one stays longer."""
    retention_started_ids: Keeps = 14.0 * DAY
    """How long a saga's id and input hash outlive its row (H2). Longer than the requests topic keeps records."""
    retention_inbox: Keeps = 14.0 * DAY
    """How long a participant remembers what it has carried out (P5). Longer than its command topic keeps records:
    Kafka's default is 7 days, and up to 7 more until the segment is closed."""
    retention_dead_letters: Keeps = 30.0 * DAY
    """How long rows of `dead_letter` stay. The topic of dead letters has a retention of its own."""
    retention_parked: Keeps = 30.0 * DAY
    """How long messages that cannot be published stay in `outbox_parked`; at the coordinator only once the saga has
    ended."""

    @property
    def embedded(self) -> bool:
        """Whether the bus is the embedded one."""
        return self.kafka == EMBEDDED

    @property
    def sqlalchemy_url(self) -> str:
        """The database for `create_async_engine`."""
        return database_url.sqlalchemy_url(self.database)

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Host and port to listen on; None where the API is off."""
        host, _, port = self.http.rpartition(":")
        return None if self.http == OFF else (host.strip("[]"), int(port))


_CURES: Final = {
    "log": "give text or json",
    "log_level": "give debug, info, warning or error",
    "guard": "give on or off",
    "partitions": "give a whole number from 1 to 10000",
    "replication": "give a whole number from 1 to 32",
    "kafka_security": "give plaintext, tls or sasl_tls",
}
_MISSING: Final = {
    "kafka": "give Kafka's bootstrap servers, host:9092, or embedded",
    "database": database_url.FORM,
    "url": "give the coordinator's address: http://host:8080",
}


def load_settings(*, require: Collection[str] = SERVICES, serves: bool = False, **overrides: Any) -> Settings:
    """The environment's settings, with overrides by field name (None: not overridden). Raises SettingsError.

    `require` names the fields that may not be empty: those of a service unless told otherwise. `serves`: this process
    listens at SAGABUS_HTTP.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    settings, faults = None, {}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        faults = dict(map(_fault, error.errors()))
    texts = _texts({**EnvSettingsSource(Settings)(), **given}, without=faults)
    sentences = [*faults.values(), *_missing(texts, require, faults), *misfits(texts)]
    if serves:
        sentences += open_to_others(texts.get("http", OFF), texts.get("token", ""))
    if sentences or settings is None:
        raise SettingsError(sentences)
    return settings


def open_to_others(http: str, token: str) -> list[str]:
    """The fault of an API that other machines could use without a token, if it is one."""
    host = http.rpartition(":")[0].strip("[]")
    if http == OFF or token or is_loopback(host):
        return []
    return [f"{variable('http')}={http}: other machines reach this address; set {variable('token')}"]


def is_loopback(host: str) -> bool:
    """A name counts as this machine only if it is `localhost`: any other may come to mean something else."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def unknown_variables() -> list[str]:
    """What begins like a setting of ours in this environment, and is none: most often a slip of the pen."""
    known = {variable(field) for field in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def _fault(error: Mapping[str, Any]) -> tuple[str, str]:
    field = str(error["loc"][0])
    said = str(error.get("ctx", {}).get("error", error["msg"]))
    return field, f"{variable(field)}={shown(field, str(error['input']))}: {_CURES.get(field, said)}"


def _texts(values: Mapping[str, Any], without: Collection[str]) -> dict[str, str]:
    """What was given, as text, so that faults of combination show beside faults of single values."""
    secret = {name: v.get_secret_value() if isinstance(v, SecretStr) else v for name, v in values.items()}
    return {name: str(value) for name, value in secret.items() if name not in without}


def _missing(texts: Mapping[str, str], require: Collection[str], faults: Collection[str]) -> Iterator[str]:
    for field in require:
        if not texts.get(field) and field not in faults:
            yield f"{variable(field)} is not set: {_MISSING.get(field, 'it is needed here')}"
