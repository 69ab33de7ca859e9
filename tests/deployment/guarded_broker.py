"""A broker that lets nobody do what no ACL allows. Whoever comes without a login is `User:ANONYMOUS`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.support.conditions import blocking_until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port

ANONYMOUS: Final = "User:ANONYMOUS"
LOGIN: Final = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin"'


class GuardedBroker(KafkaBroker):
    """The broker speaks to itself, and to `admin`, as a superuser with a login."""

    def __init__(self, installation: KafkaInstallation, folder: Path) -> None:
        super().__init__(installation, folder)
        self._admin_port = free_port()

    def admin(self) -> AdminClient:
        login = {"sasl.mechanism": "PLAIN", "sasl.username": "admin", "sasl.password": "admin"}
        address = f"127.0.0.1:{self._admin_port}"
        return AdminClient(
            {"bootstrap.servers": address, "log_level": 0, "security.protocol": "SASL_PLAINTEXT", **login}
        )

    @contextmanager
    def allowing(self, rights: Sequence[AclBinding]) -> Iterator[None]:
        """Nobody without a login may do anything else within this block."""
        admin = self.admin()
        for made in admin.create_acls(list(rights)).values():
            made.result(30)
        blocking_until(lambda: _known(admin, rights), what="the broker knows the rights")
        try:
            yield
        finally:
            for gone in admin.delete_acls([_same(one) for one in rights]).values():
                gone.result(30)

    def _own_properties(self) -> dict[str, object]:
        own = super()._own_properties()
        addresses = f"{own['listeners']},ADMIN://127.0.0.1:{self._admin_port}"
        logins = {
            f"listener.name.{name}.plain.sasl.jaas.config": f'{LOGIN} user_admin="admin";'
            for name in ("admin", "controller")
        }
        return own | logins | {
            "listeners": addresses,
            "advertised.listeners": addresses,
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:SASL_PLAINTEXT,ADMIN:SASL_PLAINTEXT",
            "inter.broker.listener.name": "ADMIN",
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:admin",
        }  # fmt: skip


def right(kind: ResourceType, name: str, operation: str, *, prefix: bool = False) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
    return AclBinding(kind, name, pattern, ANONYMOUS, "*", AclOperation[operation], AclPermissionType.ALLOW)


def _known(admin: AdminClient, rights: Sequence[AclBinding]) -> bool:
    """By the broker: its controller confirms rights before the broker has read them."""
    return all(admin.describe_acls(_same(one)).result(30) for one in rights)


def _same(one: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation, one.permission_type
    )
