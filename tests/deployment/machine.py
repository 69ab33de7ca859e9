"""What runs the services of docker-compose.yml here, where there is no Docker: processes on loopback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.deployment.compose import Service, put
from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.processes import Child, clean


class ComposedBroker(KafkaBroker):
    """A broker with what the container gets in KAFKA_*, which the image writes into server.properties."""

    def __init__(self, installation: KafkaInstallation, folder: Path, kafka: Service) -> None:
        super().__init__(installation, folder)
        self.outside = f"127.0.0.1:{free_port()}"
        self._kafka = kafka

    def __enter__(self) -> ComposedBroker:
        self.start()
        return self

    def _own_properties(self) -> dict[str, object]:
        controller = f"127.0.0.1:{self._controller_port}"
        places = {
            "INSIDE://:9092": f"INSIDE://{self.address}", "kafka:9092": self.address, "127.0.0.1:9094": self.outside,
            "://:9094": f"://{self.outside}", "://:9093": f"://{controller}", "localhost:9093": controller,
            "/var/lib/kafka/data": str(self._data),
        }  # fmt: skip
        given = self._kafka.settings.items()
        return {name.removeprefix("KAFKA_").lower().replace("_", "."): put(value, places) for name, value in given}


@contextmanager
def composed_database(server: PostgresServer, postgres: Service) -> Iterator[None]:
    """Role and database as the image makes them; but the role is no superuser."""
    names = postgres.settings
    role, database = names["POSTGRES_USER"], names["POSTGRES_DB"]
    server.psql(f"CREATE ROLE {role} LOGIN PASSWORD '{names['POSTGRES_PASSWORD']}'")
    server.psql(f"CREATE DATABASE {database} OWNER {role}")
    try:
        yield
    finally:
        server.psql(f"DROP DATABASE {database} WITH (FORCE)")
        server.psql(f"DROP ROLE {role}")


class Machine:
    """Starts services; on leaving, none is left."""

    def __init__(self, folder: Path, places: Mapping[str, str]) -> None:
        self.folder = folder
        self.running: dict[str, Child] = {}
        self._places = places

    def start(self, service: Service) -> Child:
        """Its very command, with its very environment."""
        child = self._child(service, service.command, service.name)
        self.running[service.name] = child
        return child

    async def healthy(self, service: Service) -> None:
        """Wait until its health check says so."""

        async def said() -> bool:
            return await self.health(service) == 0

        await until(said, every=0.5, what=f"{service.name} is healthy: {self.running[service.name].report()}")

    async def health(self, service: Service) -> int:
        """The exit code of its health check, run once."""
        return await self._child(service, service.health, f"{service.name}-health").ended()

    def _child(self, service: Service, command: Sequence[str], name: str) -> Child:
        places = {**self._places, "/tmp": str(self._own(service))}
        program, *arguments = (put(word, places) for word in command)
        settings = {variable: put(value, places) for variable, value in service.settings.items()}
        whole = [str(Path(sys.executable).with_name(program)), *arguments]
        return Child(whole, folder=self._own(service), name=name, environment=clean(settings))

    def _own(self, service: Service) -> Path:
        folder = self.folder / service.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def end(self, service: Service) -> Child:
        """SIGTERM, and the time that it is given."""
        child = self.running[service.name]
        child.terminate()
        await child.ended(within=service.grace)
        return child

    async def __aenter__(self) -> Machine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(asyncio.to_thread(child.kill) for child in self.running.values()))
