"""How a Kafka is spoken to: address and security, from the settings. Nothing here connects; files of TLS are read."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NoReturn

from sagabus.contracts.errors import ExitCode, SagabusError
from sagabus.messaging.settings import Security, Settings, SettingsError, variable

CLIENT: Final = "sagabus"
"""The client id in the brokers' logs and quotas."""

_PROTOCOLS: Final = {Security.PLAINTEXT: "PLAINTEXT", Security.TLS: "SSL", Security.SASL_TLS: "SASL_SSL"}


class KafkaUnreachable(SagabusError):
    """Kafka does not answer. The sentence says where and why."""

    exit_code = ExitCode.UNREACHABLE


class KafkaRefused(SagabusError):
    """Kafka answers, and refuses: credentials, rights, or a topic that cannot be made in this way."""


@dataclass(frozen=True)
class KafkaConnection:
    """An address, and the settings that say how to speak to it."""

    settings: Settings
    address: str
    """For `bootstrap.servers`; not the settings' for the embedded bus."""

    @property
    def security(self) -> Security:
        return self.settings.kafka_security

    @property
    def password(self) -> str:
        return self.settings.kafka_password.get_secret_value()

    @property
    def aiokafka(self) -> dict[str, Any]:
        """Arguments of its client, consumer and producer."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.address.split(","),
            "client_id": CLIENT,
            "security_protocol": _PROTOCOLS[self.security],
            "ssl_context": self.ssl_context,
        }
        if self.security is Security.SASL_TLS:
            options["sasl_mechanism"] = self.settings.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.settings.kafka_username
            options["sasl_plain_password"] = self.password
        return options

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """Checks host names and certificates. Raises SettingsError for files that OpenSSL does not take."""
        if self.security is Security.PLAINTEXT:
            return None
        context = self._authorities()
        if self.settings.kafka_cert_file:
            try:
                context.load_cert_chain(self.settings.kafka_cert_file, self.settings.kafka_key_file)
            except (ssl.SSLError, OSError) as error:
                _refuse("kafka_cert_file", f"{self.settings.kafka_cert_file}: with its key not usable: {error}", error)
        return context

    def _authorities(self) -> ssl.SSLContext:
        file = self.settings.kafka_ca_file
        try:
            return ssl.create_default_context(cafile=file or None)
        except (ssl.SSLError, OSError) as error:
            _refuse("kafka_ca_file", f"{file}: no certificates in PEM form: {error}", error)


def _refuse(field: str, what: str, error: Exception) -> NoReturn:
    raise SettingsError([f"{variable(field)}={what}"]) from error
