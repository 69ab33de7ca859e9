"""The factory of clients, on a real broker and on the embedded bus."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.kafka import ANSWERED_SECONDS, Bus, Kafka
from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaRefused, KafkaUnreachable
from sagabus.messaging.bus.subscription import Subscription
from sagabus.messaging.bus.topic_admin import TopicPolicy, TopicSpec
from sagabus.messaging.embedded.embedded_kafka import EmbeddedKafka
from sagabus.messaging.embedded.run_file import Run
from sagabus.messaging.service.prerequisites import NotReady
from sagabus.messaging.service.window import check_topics
from sagabus.messaging.settings import Settings, SettingsError, load_settings
from tests.messaging.clusters import Listener, message, publish, real_kafka, running
from tests.support.conditions import until
from tests.support.kafka_broker import KafkaBroker
from tests.support.kafka_installation import KafkaInstallation
from tests.support.ports import free_port


@pytest.fixture
def bus() -> Iterator[Bus]:
    with EmbeddedKafka() as embedded:
        yield Bus(embedded.address, embedded.id)


async def test_topics_of_a_real_broker(kafka: str, namespace: str) -> None:
    cluster = real_kafka(kafka)
    wide, narrow = f"{namespace}.wide", f"{namespace}.narrow"
    specs = {wide: TopicSpec(5, config={"retention.ms": "3600000"}), narrow: TopicSpec(1)}
    made = await cluster.create_topics(specs)
    assert {name: topic.partitions for name, topic in made.items()} == {wide: 5, narrow: 1}
    assert await cluster.create_topics({wide: TopicSpec(9)}) == {wide: made[wide]}
    everything = await cluster.topics()
    assert everything[wide] == made[wide]
    assert not [name for name in everything if name.startswith("__")]
    assert await cluster.topics([narrow, f"{namespace}.missing"]) == {narrow: made[narrow]}
    assert await cluster.topics([]) == {}


async def test_s6_topic_made_again_has_another_id(kafka_broker: KafkaBroker, kafka: str, namespace: str) -> None:
    cluster = real_kafka(kafka)
    before = await cluster.create_topics({namespace: TopicSpec(2)})
    kafka_broker.delete_topics(namespace)
    after = await cluster.create_topics({namespace: TopicSpec(2)})
    assert before[namespace].id != after[namespace].id


async def test_cluster_id_of_a_real_broker(kafka_broker: KafkaBroker, kafka: str) -> None:
    assert await real_kafka(kafka).cluster_id() == kafka_broker.cluster_id


async def test_topic_that_cannot_be_made_is_refused_with_its_name(kafka: str, namespace: str) -> None:
    with pytest.raises(KafkaRefused, match=f"topic {namespace} cannot be made"):
        await real_kafka(kafka).create_topics({namespace: TopicSpec(1, replication=3)})


async def test_log_range(kafka_broker: KafkaBroker, kafka: str, namespace: str) -> None:
    kafka_broker.create_topics(namespace, partitions=2)
    cluster = real_kafka(kafka)
    producer = cluster.producer()
    await producer.start()
    await producer.publish([Message.of(namespace, b"k", b"v", (), "k", partition=1)] * 3)
    await producer.stop()
    first, second = TopicPartition(namespace, 0), TopicPartition(namespace, 1)
    assert await cluster.log_range([first, second]) == {first: (0, 0), second: (0, 3)}
    assert await cluster.log_range([]) == {}


async def test_embedded_bus(bus: Bus) -> None:
    cluster = Kafka(Settings(kafka="embedded"), bus=bus)
    assert cluster.embedded
    assert cluster.address == bus.address
    assert await cluster.cluster_id() == bus.id
    assert await cluster.topics() == {}
    made = await cluster.create_topics({"one": TopicSpec(12), "two": TopicSpec(12)})
    assert {topic.partitions for topic in made.values()} == {4}, "the mock cluster knows no other number"
    assert len({topic.id for topic in made.values()}) == 2
    assert set(await cluster.topics()) == {"one", "two"}
    assert set(await cluster.topics(["two", "three"])) == {"two"}
    assert await cluster.log_range([TopicPartition("one", 3)]) == {TopicPartition("one", 3): (0, 0)}


async def test_embedded_bus_is_found_through_its_host(bus: Bus) -> None:
    settings = Settings(kafka="embedded")
    run = Run.of_this_process(kafka=bus.address, bus=bus.id, database="postgresql://localhost/x")
    assert await Kafka.of_run(settings, run).cluster_id() == bus.id
    with pytest.raises(SettingsError, match="no host runs here"):
        Kafka.of_run(settings, None)
    assert not Kafka.of_run(Settings(kafka="somewhere:1"), run).embedded


async def test_kafka_that_is_away_is_named_with_its_address() -> None:
    address = f"127.0.0.1:{free_port()}"
    cluster = real_kafka(address)
    with pytest.raises(KafkaUnreachable, match=address):
        await cluster.reach()
    with pytest.raises(KafkaUnreachable, match=address):
        await cluster.wait_until_reachable(patience=0)
    with pytest.raises(KafkaUnreachable, match=address):
        await cluster.log_range([TopicPartition("x", 0)])
    with pytest.raises(KafkaUnreachable):
        await cluster.producer().start()


async def test_waiting_for_kafka_is_said_in_the_log_and_ends_when_it_comes(
    kafka_installation: KafkaInstallation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = KafkaBroker(kafka_installation, tmp_path)
    caplog.set_level(logging.WARNING, logger="sagabus.messaging.bus.kafka")
    waiting = asyncio.create_task(real_kafka(broker.address).wait_until_reachable())
    await until(lambda: f"Kafka is unreachable ({broker.address}" in caplog.text)
    try:
        await asyncio.to_thread(broker.start)
        await waiting
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A self-signed certificate with its key, in PEM."""
    folder = tmp_path_factory.mktemp("certificate")
    files = {"kafka_cert_file": str(folder / "cert.pem"), "kafka_key_file": str(folder / "key.pem")}
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["-keyout", files["kafka_key_file"], "-out", files["kafka_cert_file"]]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, *names, *made], check=True, capture_output=True)
    return files | {"kafka_ca_file": files["kafka_cert_file"]}


def connection(**settings: Any) -> KafkaConnection:
    return KafkaConnection(Settings(**settings), "broker:9093")


async def test_tls_checks_hosts_and_certificates(certificate: dict[str, str]) -> None:
    tls = connection(kafka_security="tls", **certificate)
    assert tls.aiokafka["security_protocol"] == "SSL"
    context = tls.aiokafka["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] == 1
    await accepted(tls)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_sasl_shows_its_password_to_nobody(mechanism: str, certificate: dict[str, str]) -> None:
    sasl = connection(
        kafka_security="sasl_tls",
        kafka_ca_file=certificate["kafka_ca_file"],
        kafka_sasl_mechanism=mechanism,
        kafka_username="me",
        kafka_password="hunter2",
    )
    assert sasl.aiokafka["security_protocol"] == "SASL_SSL"
    assert sasl.aiokafka["sasl_mechanism"] == mechanism
    assert sasl.aiokafka["sasl_plain_password"] == "hunter2"
    assert "hunter2" not in repr(sasl)
    await accepted(sasl)


async def accepted(made: KafkaConnection) -> None:
    """The library checks what it is given when a client is made."""
    producer = AIOKafkaProducer(**made.aiokafka)
    await producer.stop()


def test_plaintext_says_nothing_about_security() -> None:
    plain = connection()
    assert plain.aiokafka["ssl_context"] is None
    assert plain.aiokafka["security_protocol"] == "PLAINTEXT"
    assert not [name for name in plain.aiokafka if name.startswith("sasl")]


def test_file_that_holds_no_certificate_is_named(tmp_path: Path, certificate: dict[str, str]) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"SAGABUS_KAFKA_CA_FILE=.*wrong\.pem"):
        _ = connection(kafka_security="tls", kafka_ca_file=str(wrong)).ssl_context
    with pytest.raises(SettingsError, match=r"SAGABUS_KAFKA_CERT_FILE=.*cert\.pem"):
        _ = connection(kafka_security="tls", **certificate | {"kafka_key_file": str(wrong)}).ssl_context


class SecureBroker(KafkaBroker):
    """A broker with a second listener that demands TLS and a password."""

    def __init__(self, installation: KafkaInstallation, folder: Path, certificate: Mapping[str, str]) -> None:
        super().__init__(installation, folder)
        self.secure = f"127.0.0.1:{free_port()}"
        self._key_and_certificate = folder / "broker.pem"
        parts = (certificate["kafka_key_file"], certificate["kafka_cert_file"])
        self._key_and_certificate.write_text("".join(Path(part).read_text() for part in parts))

    def _own_properties(self) -> dict[str, object]:
        plain = super()._own_properties()
        login = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return plain | {
            "listeners": f"{plain['listeners']},SECURE://{self.secure}",
            "advertised.listeners": f"{plain['advertised.listeners']},SECURE://{self.secure}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._key_and_certificate,
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secure.plain.sasl.jaas.config": f'{login} required user_me="hunter2";',
        }


WRONG_PASSWORD = "Tr0ub4dor-wrong"


async def _said_of_a_wrong_password(right: dict[str, Any], caplog: pytest.LogCaptureFixture) -> str:
    """By every client, at the finest level: errors with their causes, what represents them, and the log."""
    kafka = Kafka(Settings(**right | {"kafka_password": WRONG_PASSWORD}))
    options = kafka.connection.aiokafka
    producer, consumer = AIOKafkaProducer(**options), AIOKafkaConsumer(**options)
    stream = Subscription(kafka, group="g", topics=["t"], listener=Listener())
    attempts: list[Callable[[], Awaitable[object]]] = [
        kafka.wait_until_reachable, kafka.cluster_id, kafka.ping, kafka.producer().start, stream.start, producer.start,
        consumer.start,
    ]  # fmt: skip
    said = [repr(each) for each in (kafka, kafka.connection, kafka.connection.settings, producer, consumer)]
    with caplog.at_level(logging.DEBUG):
        for attempt in attempts:
            try:
                await attempt()
            except Exception as error:
                said += [repr(error), *traceback.format_exception(error)]
    await producer.stop()
    await consumer.stop()
    return "\n".join([*said, caplog.text])


async def test_broker_that_demands_tls_and_a_password(
    kafka_installation: KafkaInstallation, tmp_path: Path, certificate: dict[str, str], namespace: str,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broker = SecureBroker(kafka_installation, tmp_path, certificate)
    with broker:
        right: dict[str, Any] = {
            "kafka": broker.secure,
            "kafka_security": "sasl_tls",
            "kafka_ca_file": certificate["kafka_ca_file"],
            "kafka_sasl_mechanism": "PLAIN",
            "kafka_username": "me",
            "kafka_password": "hunter2",
        }
        cluster = Kafka(load_settings(require=("kafka",), **right))
        await cluster.wait_until_reachable(patience=10)
        assert await cluster.cluster_id() == broker.cluster_id
        await cluster.create_topics({namespace: TopicSpec(2)})
        await publish(cluster, message(namespace, 1))
        listener = Listener()
        async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener)):
            await listener.has(1)
        assert await cluster.log_range([TopicPartition(namespace, 0)]) == {TopicPartition(namespace, 0): (0, 1)}
        said = await _said_of_a_wrong_password(right, caplog)
        assert "the login or a certificate is refused: " in said
        assert WRONG_PASSWORD not in said + "".join(capfd.readouterr())
        with pytest.raises(KafkaRefused, match="the login or a certificate is refused"):
            await Kafka(Settings(**right | {"kafka_ca_file": ""})).wait_until_reachable()
        with pytest.raises(KafkaUnreachable):
            await real_kafka(broker.secure).wait_until_reachable(patience=0)


async def test_a_cancellation_that_meets_the_clean_up_is_heard(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody waits for it: `Background.stop`, under the lock that the step would take next."""
    kafka, cleaning = Kafka(load_settings(kafka="embedded", require=("kafka",)), bus=bus), asyncio.Event()
    await kafka.create_topics({"a.topic": TopicSpec(1)})

    def announced(close: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def announce(self: Any) -> None:
            cleaning.set()
            await close(self)

        return announce

    monkeypatch.setattr(AIOKafkaConsumer, "stop", announced(AIOKafkaConsumer.stop))
    monkeypatch.setattr(AIOKafkaClient, "close", announced(AIOKafkaClient.close))
    work: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "range": lambda: kafka.log_range([TopicPartition("a.topic", 0)]),
        "metadata": kafka.topics,
    }
    heard = {name: [await _heard(begin(), cleaning, turns) for turns in range(8)] for name, begin in work.items()}
    assert heard == dict.fromkeys(work, [True] * 8)


async def _heard(work: Coroutine[Any, Any, object], cleaning: asyncio.Event, turns: int) -> bool:
    """Cancelled so many turns of the loop after its clean-up has begun. True also if it was over before."""
    cleaning.clear()
    task = asyncio.create_task(work)
    await cleaning.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    over = task.done()
    task.cancel()
    await asyncio.wait([task])
    return over or task.cancelled()


async def test_a_compacted_topic_is_refused_with_the_cure(kafka: str, namespace: str) -> None:
    """Of a saga's records it keeps the last one: the others would be gone before they are read."""
    real = real_kafka(kafka)
    compacted, endless = f"{namespace}.compacted", f"{namespace}.endless"
    await real.create_topics(
        {
            compacted: TopicSpec(1, config={"cleanup.policy": "compact,delete", "retention.ms": "5000"}),
            endless: TopicSpec(1, config={"retention.ms": "-1"}),
        }
    )
    policies = await real.policies([compacted, endless])
    assert policies == {compacted: TopicPolicy(True, 5.0), endless: TopicPolicy(False, None)}
    check_topics({endless: policies[endless]})
    with pytest.raises(NotReady, match=f"{compacted} is compacted.*--add-config cleanup.policy=delete"):
        check_topics(policies)


async def test_a_ping_says_whether_kafka_answers(kafka: str, bus: Bus) -> None:
    await real_kafka(kafka).ping()
    await Kafka(load_settings(kafka="embedded", require=()), bus=bus).ping()
    with pytest.raises(KafkaUnreachable):
        await Kafka(load_settings(kafka=f"127.0.0.1:{free_port()}", require=())).ping()


async def test_a_ping_asks_nobody_while_kafka_answers_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    away, now = Kafka(load_settings(kafka=f"127.0.0.1:{free_port()}", require=())), 100.0
    monkeypatch.setattr("sagabus.messaging.bus.kafka.monotonic", lambda: now)
    away.answered()
    await away.ping()
    now += ANSWERED_SECONDS + 0.1
    with pytest.raises(KafkaUnreachable):
        await away.ping()


async def test_who_reads_hears_answers_though_there_is_no_record(real: Kafka, namespace: str) -> None:
    heard = []
    real.answered = lambda: heard.append(1)  # type: ignore[method-assign]
    await real.create_topics({namespace: TopicSpec(1)})
    async with running(Subscription(real, group=namespace, topics=[namespace], listener=Listener())):
        await until(lambda: len(heard) > 2)


async def test_a_range_of_many_topics_is_asked_for_at_once(
    real: Kafka, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who leads them is asked once, or not at all where that is known."""
    topics = [f"{namespace}.{number}" for number in range(6)]
    await real.create_topics({topic: TopicSpec(2) for topic in topics})
    places = [TopicPartition(topic, number) for topic in topics for number in range(2)]
    await real.log_range(places)  # until leaders are at work
    asked = []
    send = AIOKafkaConnection.send

    def noted(self: AIOKafkaConnection, question: object, *options: Any) -> Any:
        asked.append(type(question).__name__)
        return send(self, question, *options)

    monkeypatch.setattr(AIOKafkaConnection, "send", noted)
    assert await real.log_range(places) == dict.fromkeys(places, (0, 0))
    other = real_kafka(real.address)
    assert await other.log_range(places) == dict.fromkeys(places, (0, 0))
    assert asked == ["OffsetRequest"] * 2 + ["ApiVersionRequest", "TopicMetadata", "OffsetRequest", "OffsetRequest"]


async def test_who_leads_a_partition_now_is_found_out(real: Kafka, namespace: str) -> None:
    await real.create_topics({namespace: TopicSpec(1)})
    place = TopicPartition(namespace, 0)
    assert await real.log_range([place]) == {place: (0, 0)}
    real._admin.leaders[place] = ("127.0.0.1", free_port())  # it has been there
    assert await real.log_range([place]) == {place: (0, 0)}


async def test_a_partition_that_does_not_exist_has_no_range(
    real: Kafka, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagabus.messaging.bus.log_ranges.QUESTION_SECONDS", 0.3)
    await real.create_topics({namespace: TopicSpec(1)})
    with pytest.raises(KafkaUnreachable, match=f"no broker leads the partition 1 of {namespace}"):
        await real.log_range([TopicPartition(namespace, 1)])


def test_faststream_is_imported_by_who_begins_to_read_and_by_nobody_else() -> None:
    """It takes half a second of processor time, which each command would pay."""
    program = (
        "import sys, sagabus.commands.doctor.examination, sagabus.commands.services.running, sagabus.client.client; "
        "import sagabus.participants.running; "
        "print([name for name in sys.modules if name.startswith('faststream')])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]"
