"""A real Kafka broker for tests: one KRaft node on loopback.

It can be stopped, killed, paused, wiped and started again. Its address stays the same over all of that. It ends with
the test run at the latest.
"""

from __future__ import annotations

import base64
import os
import shutil
import uuid
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.support.conditions import NotSo, blocking_until
from tests.support.kafka_installation import KafkaInstallation, write_properties
from tests.support.ports import free_port
from tests.support.processes import Child

START = 60.0
"""Seconds of patience for a start; it takes one to two."""


class KafkaBroker:
    """One broker with a data folder of its own under `folder`."""

    def __init__(self, installation: KafkaInstallation, folder: Path) -> None:
        self._installation = installation
        self.folder = folder
        self._port, self._controller_port = free_port(), free_port()
        self._process: Child | None = None
        self.cluster_id = ""

    @property
    def address(self) -> str:
        """For `bootstrap.servers`."""
        return f"127.0.0.1:{self._port}"

    @property
    def process(self) -> Child:
        """The broker's JVM."""
        assert self._process is not None, "the broker was not started"
        return self._process

    def start(self) -> str:
        """Start on what the data folder holds, or on an empty log; returns the address when clients are served."""
        if not self._data.exists():
            self._make_data()
        write_properties(self._properties, self._own_properties())
        command = self._installation.broker_command(self._properties)
        self._process = Child(command, folder=self.folder, name="broker", environment=_environment())
        admin = self.admin()
        blocking_until(lambda: self._serves(admin), within=START, what=f"Kafka serves at {self.address}")
        return self.address

    def stop(self) -> None:
        """SIGTERM, and gone when this returns: the log is closed in order."""
        if self._process is not None:
            self.process.resume()
            self.process.terminate()
            self.process.blocking_end()

    def kill(self) -> None:
        """SIGKILL: the log is recovered by the next start."""
        self.process.kill()

    def restart(self) -> None:
        """Killed and started again with the same log."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """All is lost: killed, and started with an empty log and another cluster id at the same address."""
        self.kill()
        shutil.rmtree(self._data)
        self.start()

    @property
    def kept(self) -> Path:
        """Where the present log is put away."""
        return self.folder / f"data-of-{self.cluster_id}"

    def replace(self) -> Path:
        """As `wipe`, but what was there is kept: returns the old log's folder, for `reopen`."""
        self.kill()
        kept = self._data.rename(self.kept)
        self.start()
        return kept

    def reopen(self, kept: Path) -> None:
        """Killed, and started on a log that `replace` had put away, at the same address; the present one is kept."""
        self.kill()
        self._data.rename(self.kept)
        kept.rename(self._data)
        self.cluster_id = kept.name.removeprefix("data-of-")
        self.start()

    def create_topics(self, *names: str, partitions: int = 1, **config: str) -> None:
        """Make topics, and return when they can be used."""
        topics = [NewTopic(name, num_partitions=partitions, replication_factor=1, config=config) for name in names]
        admin = self.admin()  # held: dropping it ends what it was asked for
        for made in admin.create_topics(topics).values():
            made.result(30)
        blocking_until(lambda: set(names) <= self.topics(), what=f"topics {names} are there")

    def add_partitions(self, topic: str, *, to: int) -> None:
        """Let it have more of them than before."""
        admin = self.admin()
        for made in admin.create_partitions([NewPartitions(topic, to)]).values():
            made.result(30)

    def delete_topics(self, *names: str) -> None:
        """Delete topics, and return when they are gone."""
        admin = self.admin()
        for gone in admin.delete_topics(list(names)).values():
            gone.result(30)
        blocking_until(lambda: not set(names) & self.topics(), what=f"topics {names} are gone")

    def topics(self) -> set[str]:
        return set(self.admin().list_topics(timeout=10).topics)

    def admin(self) -> AdminClient:
        """A fresh client: an old one may still know a killed broker's state."""
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def report(self) -> str:
        return self.process.report()

    def __enter__(self) -> KafkaBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _make_data(self) -> None:
        """A copy of the formatted folder under a cluster id of its own: to clients, a new log."""
        shutil.copytree(self._installation.formatted, self._data)
        self.cluster_id = _kafka_uuid()
        meta = {"version": "1", "node.id": "1", "cluster.id": self.cluster_id, "directory.id": _kafka_uuid()}
        (self._data / "meta.properties").write_text("".join(f"{key}={value}\n" for key, value in meta.items()))

    def _own_properties(self) -> dict[str, object]:
        addresses = f"BROKER://{self.address},CONTROLLER://127.0.0.1:{self._controller_port}"
        return {
            "log.dirs": self._data,
            "listeners": addresses,
            "advertised.listeners": addresses,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
        }

    def _serves(self, admin: AdminClient) -> bool:
        if not self.process.running:
            raise NotSo(f"Kafka ended at its start: {self.report()}")
        metadata = admin.list_topics(timeout=1)
        partitions = (partition for topic in metadata.topics.values() for partition in topic.partitions.values())
        return bool(metadata.brokers) and all(partition.leader >= 0 for partition in partitions)


def make_class_archive(installation: KafkaInstallation, folder: Path) -> None:
    """One start and stop that writes the class-data archive; without it each start takes twice as long."""
    broker = KafkaBroker(_Training(installation.java, installation.libs, installation.prepared), folder)
    with broker:
        broker.create_topics("training", partitions=2)


class _Training(KafkaInstallation):
    """An installation whose broker writes the archive when it ends."""

    def broker_command(self, properties: Path) -> list[str]:
        archive = f"-XX:ArchiveClassesAtExit={self.class_archive}"
        return self.command("kafka.Kafka", str(properties), jvm=(archive,))


def _kafka_uuid() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _environment() -> dict[str, str]:
    """No Kafka or Java options of the caller's shell."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("KAFKA_", "JAVA_", "JDK_"))}
