"""Every fault that the doctor knows, made for real, is found with its cure; and where all is well it says so."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.cure import cure_of_any
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store import SagaRow, Store, Writes, open_sagas
from sagabus.messaging.postgres.database import Database
from sagabus.participants.inbox.tables import create_tables
from tests.support.kafka_broker import KafkaBroker
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer

SHARD = (
    "INSERT INTO {}.shard (shard, token, turn, cluster, generation, partitions, topics, next_position, relay_position) "
    "VALUES ({}, gen_random_uuid(), 1, 'c', 1, {}, '{{}}', 1, 0)"
)
MESSAGE = "SELECT {}, n, 'S', 'topic', '' FROM generate_series(1, {}) AS n"


@dataclass
class Patient:
    """A deployment to be looked at: a namespace and a service of this test's own, topics and tables made."""

    broker: KafkaBroker
    server: PostgresServer
    url: str
    namespace: str
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @property
    def service(self) -> str:
        return f"svc_{self.namespace}"

    @property
    def topics(self) -> dict[str, str]:
        """By what they are for."""
        own, service = self.namespace, self.service
        return {
            "requests": f"{own}.requests", "events": f"{own}.events", "dead letters": f"{own}.dead-letters",
            "own replies": f"{own}.replies.sagabus", "replies": f"{own}.replies.{service}",
            "commands": f"{service}.commands",
        }  # fmt: skip

    def sql(self, statement: str) -> None:
        self.server.psql(statement, database=self.url.rpartition("/")[2])

    def set(self, name: str, value: str) -> None:
        self.monkeypatch.setenv(f"SAGABUS_{name}", value)

    def migrate(self) -> None:
        assert main(["migrate"]) == Exit.DONE
        self.capsys.readouterr()

    def make_topics(self, *without: str, partitions: int = 4, **config: str) -> None:
        topics = [name for use, name in self.topics.items() if use not in without]
        self.broker.create_topics(*topics, partitions=partitions, **config)

    def add_shard(self, shard: int, *, partitions: int = 4, schema: str = "") -> None:
        self.sql(SHARD.format(schema or self.namespace, shard, partitions))

    def add_saga(self, id: str, **changes: Any) -> None:
        known: dict[str, Any] = {"definition": "order_processing", "version": 1, "shard": 3, **changes}
        row = SagaRow(
            id=SagaId(id), run=RunId("r"), fingerprint="3.11:a", status=SagaStatus.RUNNING, sequence=1,
            last_now=1, input_hash=b"h", started_at=1, **known,
        )  # fmt: skip
        asyncio.run(self._write(Writes(new_sagas=[row])))

    async def _write(self, writes: Writes) -> None:
        database = Database(self.url)
        async with database.transaction() as connection:
            await Store(self.namespace).write(connection, writes)
        await database.stop()

    def as_role(self, role: str) -> None:
        self.set("DATABASE", re.sub(r"//.*@", f"//{role}:{role}@", self.url))

    def examined(self, *words: str) -> tuple[int, dict[str, dict[str, str]], dict[str, Any]]:
        """Exit code, findings by code, figures."""
        self.capsys.readouterr()
        code = main(["doctor", *words, "--json"])
        told = json.loads(self.capsys.readouterr().out)
        assert told["well"] == (not told["findings"])
        assert len({one["code"] for one in told["findings"]}) == len(told["findings"]), told
        return code, {one["code"]: one for one in told["findings"]}, told["figures"]

    def finds(self, code: str, *words: str) -> dict[str, str]:
        """Nothing but this."""
        exit, found, _ = self.examined(*words)
        assert (exit, [*found]) == (Exit.FOUND, [code]), found
        return found[code]


@pytest.fixture
def ill(
    kafka_broker: KafkaBroker,
    postgres: PostgresServer,
    database: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Patient:
    """Nothing is made yet."""
    for name in [name for name in os.environ if name.startswith("SAGABUS_")]:
        monkeypatch.delenv(name)
    patient = Patient(kafka_broker, postgres, database, namespace, monkeypatch, capsys)
    patient.set("KAFKA", kafka_broker.address)
    patient.set("DATABASE", database)
    patient.set("NAMESPACE", namespace)
    patient.set("HTTP", "off")
    return patient


@pytest.fixture
def well(ill: Patient) -> Patient:
    """Topics and the coordinator's tables are there."""
    ill.migrate()
    ill.make_topics()
    return ill


def test_where_all_is_well_it_says_so(well: Patient) -> None:
    well.add_shard(0)
    code, found, figures = well.examined()
    assert (code, found) == (Exit.DONE, {})
    assert (figures["open_sagas"], figures["attention"], figures["topics"]) == (0, 0, 4)
    assert figures[well.namespace] == {"unpublished": 0, "parked": 0, "dead_letters": 0}
    assert main(["doctor"]) == Exit.DONE
    told = well.capsys.readouterr().out
    assert "all is well" in told
    assert "postgresql://postgres:…@" in told


class NotReady(BaseHTTPRequestHandler):
    """Answers as a coordinator does that takes nothing in."""

    body = b'{"status":"not ready","reason":"shard 1 takes no records in"}'

    def do_GET(self) -> None:  # its name in http.server
        self.send_response(503)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def test_a_coordinator_that_is_not_ready_is_told_of_with_its_reason(well: Patient) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), NotReady) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        well.set("URL", f"http://127.0.0.1:{server.server_address[1]}")
        found = well.finds("coordinator.not_ready")
        server.shutdown()
        serving.join()
    assert found["what"].endswith("is not ready: shard 1 takes no records in")
    well.set("URL", f"http://127.0.0.1:{free_port()}")
    assert well.examined()[:2] == (Exit.DONE, {})


def test_kafka_away(well: Patient) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    well.set("KAFKA", nobody)
    well.add_saga("S-1", attention="look")
    code, found, _ = well.examined()
    assert (code, {*found}) == (Exit.UNREACHABLE, {"kafka.away", "sagas.other"})
    assert nobody in found["kafka.away"]["what"]
    assert nobody in found["kafka.away"]["cure"]


def test_database_away(well: Patient) -> None:
    well.set("DATABASE", f"postgresql://a:secret@127.0.0.1:{free_port()}/shop")
    code, found, figures = well.examined()
    assert (code, [*found]) == (Exit.UNREACHABLE, ["database.away"])
    assert "/shop" in found["database.away"]["what"]
    assert "secret" not in str(found)
    assert figures["topics"] == 4


def test_topics_missing(ill: Patient) -> None:
    ill.migrate()
    ill.make_topics("events", "commands")
    found = ill.finds("topics.missing")
    assert found["what"].endswith(f": {ill.namespace}.events")
    assert "sagabus topics" in found["cure"]
    asyncio.run(make_service(ill))
    assert ill.topics["commands"] in ill.finds("topics.missing", "--service", ill.service)["what"]


async def make_service(patient: Patient) -> None:
    """As `sagabus migrate MODULE` does it for a participant's module."""
    engine = create_async_engine(patient.url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.begin() as connection:
        await create_tables(connection, patient.service)
    await engine.dispose()


def test_topics_with_unequal_partitions(ill: Patient) -> None:
    ill.migrate()
    ill.make_topics("own replies")
    ill.broker.create_topics(ill.topics["own replies"], partitions=2)
    found = ill.finds("topics.unequal")
    assert f"{ill.topics['own replies']} has 2, {ill.topics['requests']} has 4" in found["what"]


def test_s11_partitions_changed(well: Patient) -> None:
    asyncio.run(make_service(well))
    well.add_shard(0, partitions=6)
    found = well.finds("partitions.changed")
    assert (
        f"{well.topics['requests']} has 4 partitions, and sagas of {well.namespace} were placed by 6" in found["what"]
    )
    well.sql(f"UPDATE {well.namespace}.shard SET partitions = 4")
    well.add_shard(0, partitions=8, schema=f"sagabus_{well.service}")
    assert "were placed by 8" in well.finds("partitions.changed", "--service", well.service)["what"]


def test_fewer_replicas_than_asked_for(well: Patient) -> None:
    well.set("REPLICATION", "3")
    assert f"{well.topics['events']} 1" in well.finds("topics.replication")["what"]


def test_p5_h2_topics_that_keep_longer_than_is_remembered(ill: Patient) -> None:
    ill.migrate()
    ill.make_topics("requests")
    ill.broker.create_topics(ill.topics["requests"], partitions=4, **{"retention.ms": str(30 * 86_400_000)})
    found = ill.finds("topics.retention")
    assert ill.topics["requests"] in found["what"]
    assert "SAGABUS_RETENTION_STARTED_IDS=60d" in found["cure"]


def test_schema_missing_or_behind(ill: Patient) -> None:
    ill.make_topics()
    assert ill.finds("schema.behind")["cure"] == "run `sagabus migrate`"
    ill.migrate()
    ill.sql(f"UPDATE {ill.namespace}.alembic_version SET version_num = '0000'")
    assert "an older release" in ill.finds("schema.behind")["what"]


def test_the_schema_of_a_service_missing_or_behind(well: Patient) -> None:
    found = well.finds("schema.behind", "--service", well.service)
    assert f"sagabus_{well.service}" in found["what"]
    assert "the module of the participant" in found["cure"]
    asyncio.run(make_service(well))
    assert well.examined("--service", well.service)[0] == Exit.DONE
    well.sql(f"ALTER TABLE sagabus_{well.service}.shard DROP COLUMN pruned_before")
    assert well.finds("schema.behind", "--service", well.service)["what"].endswith(": shard.pruned_before")


def test_a_database_of_services_alone(ill: Patient) -> None:
    ill.make_topics()
    asyncio.run(make_service(ill))
    assert ill.examined("--services-only", "--service", ill.service)[0] == Exit.DONE


@contextmanager
def roles(patient: Patient, *rights: str) -> Iterator[tuple[str, str]]:
    """Two roles without any right but these on the coordinator's schema."""
    names = f"a{secrets.token_hex(4)}", f"b{secrets.token_hex(4)}"
    for name in names:
        patient.server.psql(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
        for right in rights:
            patient.sql(f"GRANT {right.format(schema=patient.namespace)} TO {name}")
    try:
        yield names
    finally:
        for name in names:
            patient.sql(f"DROP OWNED BY {name}")
            patient.server.psql(f"DROP ROLE {name}")


USE = "USAGE ON SCHEMA {schema}"
ALL = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema}"


def test_rights_missing(well: Patient) -> None:
    with roles(well) as (role, _):
        well.as_role(role)
        found = well.finds("rights.missing")
        assert f"the role {role} has no right to the schema {well.namespace}: USAGE" in found["what"]
    with roles(well, USE, ALL.replace("INSERT, ", "")) as (role, _):
        well.as_role(role)
        assert "INSERT on saga" in well.finds("rights.missing")["what"]


def test_a_role_that_cannot_make_what_is_missing_is_named(ill: Patient) -> None:
    ill.make_topics()
    with roles(ill) as (role, _):
        ill.as_role(role)
        assert f"{role} may not" in ill.finds("schema.behind")["cure"]


def test_s4_sessions_of_another_role_cannot_be_ended(well: Patient) -> None:
    with roles(well, USE, ALL) as (ours, theirs):
        well.add_shard(0)
        well.as_role(ours)
        with holding(well, theirs):
            found = well.finds("rights.terminate")
            assert f"the role {ours} may not end sessions of {theirs}" in found["what"]
            assert f"GRANT pg_signal_backend TO {ours}" in found["cure"]
            well.server.psql(f"GRANT pg_signal_backend TO {ours}")
            assert well.examined()[0] == Exit.DONE
        with holding(well, ours):
            assert well.examined()[0] == Exit.DONE


@contextmanager
def holding(patient: Patient, role: str) -> Iterator[None]:
    """A session of this role, by which the shards were taken."""
    with asyncio.Runner() as runner:
        url = re.sub(r"//.*@", f"//{role}:{role}@", patient.url)
        connection: asyncpg.Connection[asyncpg.Record] = runner.run(asyncpg.connect(url))
        patient.sql(f"UPDATE {patient.namespace}.shard SET backend_pid = {connection.get_server_pid()}")
        yield
        runner.run(connection.close())


def test_definitions_missing_for_open_sagas(well: Patient) -> None:
    well.add_shard(3)
    well.add_saga("S-1")
    well.add_saga("S-2", version=2)
    assert well.examined()[0] == Exit.DONE  # without modules nothing can be said
    code, found, _ = well.examined("sagabus.shop.order_processing")
    # The shop's topics are whoever's; its services' tables are not asked for, since they may be anywhere.
    assert (code, found.keys() - {"topics.missing"}) == (Exit.FOUND, {"definition.missing"})
    missing = found["definition.missing"]
    assert missing["what"].startswith("1 open saga of order_processing version 2,")
    assert "is the name mistyped? `sagabus list --saga order_processing` lists them" in missing["cure"]


def concern(kind: str, words: str, number: int = 0) -> dict[str, Any]:
    return {"kind": kind, "number": number, "words": words}


def flagged(*concerns: dict[str, Any]) -> dict[str, Any]:
    """The columns of a saga with these concerns, the latest last."""
    return {"attention": concerns[-1]["words"], "concerns": json.dumps(concerns).encode()}


def test_sagas_that_need_an_operator_are_told_by_concern_each_with_its_cure(well: Patient) -> None:
    well.add_shard(3)
    for number in range(5):
        well.add_saga(f"BUY-{number}", **flagged(concern("diverged", f"row {number}")))
    well.add_saga(
        "CRE-1", **flagged(concern("undo", "step 1", 1), concern("undo", "step 2", 2), concern("spun", "at 7"))
    )
    well.add_saga("OLD-1", attention="its code has changed")
    code, found, figures = well.examined()
    kinds = {"sagas.diverged", "sagas.spun", "sagas.undo", "sagas.other"}
    assert (code, {*found}) == (Exit.FOUND, kinds)
    assert figures["attention"] == 7
    assert figures["attention_by_concern"] == {"diverged": 5, "other": 1, "spun": 1, "undo": 1}
    assert found["sagas.diverged"]["what"] == (
        "5 sagas need operator action: diverged: BUY-0: row 0; BUY-1: row 1; BUY-2: row 2; and 2 more"
    )
    assert found["sagas.other"]["what"] == "1 saga needs operator action: other: OLD-1: its code has changed"
    for kind in (ConcernKind.DIVERGED, ConcernKind.SPUN, ConcernKind.UNDO, ConcernKind.OTHER):
        listed = f"all of them: `sagabus list --concern {kind}`"
        assert found[f"sagas.{kind}"]["cure"] == f"{cure_of_any(kind)}; {listed}"


def test_a_concern_that_only_a_later_release_knows_is_told_too(well: Patient) -> None:
    well.add_shard(3)
    well.add_saga("S-1", **flagged(concern("tired", "it sleeps")))
    found = well.finds("sagas.tired")
    assert found["what"] == "1 saga needs operator action: tired: S-1: it sleeps"
    assert "`sagabus cancel ID --reason WHY`" in found["cure"]


def test_the_reasons_of_very_many_flagged_sagas_are_counted_up_to_a_limit(
    well: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_sagas, "EXAMINED", 2)
    well.add_shard(3)
    for number in range(3):
        well.add_saga(f"S-{number}", **flagged(concern("stuck", "it waits")))
    found = well.finds("sagas.stuck")
    assert found["what"].startswith("2 sagas need operator action: stuck (of the 2 that were started first): S-0: ")


def test_paused_sagas_are_told_of_with_the_command_that_lists_them(well: Patient) -> None:
    well.add_shard(3)
    for number in range(4):
        well.add_saga(f"S-{number}", paused=True)
    well.add_saga("S-9")
    found = well.finds("sagas.paused")
    assert found["what"] == "4 sagas are paused: S-0, S-1, S-2; and 1 more"
    assert found["cure"] == "`sagabus resume ID --reason WHY` lets a saga go on; all of them: `sagabus list --paused`"


def wait_for(patient: Patient, id: str, activity: str, *, seconds: int) -> None:
    """An open saga whose first step was sent so long ago, and not answered."""
    patient.add_saga(id)
    at = f"clock_timestamp() - interval '{seconds} s'"
    columns = "(id, run, seq, at, kind, step, attempt, name, ref, sequence)"
    patient.sql(
        f"INSERT INTO {patient.namespace}.history {columns} VALUES ('{id}', 'r', 1, {at}, 'started', 0, 0, '', '', 1), "
        f"('{id}', 'r', 2, {at}, 'command', 1, 0, '{activity}', '', 1)"
    )


def test_services_that_have_not_answered_for_a_minute_are_a_hint_and_no_fault(well: Patient) -> None:
    well.add_shard(3)
    for number, seconds in enumerate((70, 80, 90, 100)):
        wait_for(well, f"CER-{number}", "office.stamp", seconds=seconds)
    wait_for(well, "PAR-1", "courier.ship", seconds=120)
    wait_for(well, "NEW-1", "bank.charge", seconds=5)
    code, found, figures = well.examined()
    assert (code, found) == (Exit.DONE, {})
    assert figures["waited_for_over_1min"] == {"courier": 1, "office": 4}
    assert main(["doctor"]) == Exit.DONE
    lines = well.capsys.readouterr().out.splitlines()
    (courier, office) = [line for line in lines if "waited" in line and line.startswith("hint: ")]
    assert courier.startswith("hint: 1 open saga has waited for courier for more than a minute: PAR-1; does it run?")
    assert office.startswith("hint: 4 open sagas have waited for office for more than a minute: CER-0, CER-1, CER-2; ")
    assert "and 1 more; does it run? `sagabus health FILE` tells" in office
    assert office.endswith("all of them: `sagabus list --service office`")
    assert lines[-1] == "all is well"


def test_the_oldest_open_sagas_alone_are_asked_what_they_wait_for(
    well: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_sagas, "OLDEST", 2)
    well.add_shard(3)
    for number in range(3):
        wait_for(well, f"S-{number}", "office.stamp", seconds=70)
    assert well.examined()[2]["waited_for_over_1min"] == {"office": 2}
    assert main(["doctor"]) == Exit.DONE
    hint = "hint: 2 open sagas (of the 2 that were started first) have waited for office for more than a minute: "
    assert hint in well.capsys.readouterr().out


def test_services_in_this_database_that_were_not_looked_at_are_a_hint(well: Patient) -> None:
    asyncio.run(make_service(well))
    assert main(["doctor"]) == Exit.DONE
    hints = [line for line in well.capsys.readouterr().out.splitlines() if line.startswith("hint: ")]
    assert [well.service in hint for hint in hints] == [True]
    assert "dead letters" in hints[0]
    assert "`sagabus doctor MODULE…` with the modules of these, or --service NAME" in hints[0]
    assert main(["doctor", "--service", well.service, "--json"]) == Exit.DONE
    told = json.loads(well.capsys.readouterr().out)
    assert [hint for hint in told["hints"] if well.service in hint] == []


def test_a_figure_that_holds_nothing_has_no_line(well: Patient) -> None:
    assert main(["doctor"]) == Exit.DONE
    told = well.capsys.readouterr().out
    assert "attention: 0" in told
    assert "attention_by_concern" not in told


def test_shards_that_nobody_works_on_while_sagas_are_open(well: Patient) -> None:
    for shard in (2, 3):
        well.add_shard(shard)
    well.sql(f"UPDATE {well.namespace}.shard SET beat_at = clock_timestamp() - interval '11 s'")
    assert well.examined()[0] == Exit.DONE  # nothing is to be done
    well.add_saga("S-1")
    found = well.finds("shards.still")
    assert f"on the shards 3 of {well.namespace}" in found["what"]
    assert "start a coordinator" in found["cure"]


def test_a_service_that_nobody_runs_while_sagas_are_open(well: Patient) -> None:
    asyncio.run(make_service(well))
    well.add_shard(3)
    well.add_shard(0, schema=f"sagabus_{well.service}")
    well.sql(f"UPDATE sagabus_{well.service}.shard SET beat_at = clock_timestamp() - interval '11 s'")
    assert well.examined("--service", well.service)[0] == Exit.DONE
    well.add_saga("S-1")
    assert f"start the participant {well.service}" in well.finds("shards.still", "--service", well.service)["cure"]


def test_what_waits_and_what_was_refused(well: Patient) -> None:
    schema = well.namespace
    well.add_shard(0)
    columns = "(shard, position, saga_id, topic, headers)"
    well.sql(f"INSERT INTO {schema}.outbox {columns} {MESSAGE.format(0, 10_001)}")
    assert "10001 messages" in well.finds("outbox.deep")["what"]
    well.sql(f"UPDATE {schema}.shard SET relay_position = 1")
    assert well.examined()[0] == Exit.DONE
    parked = f"{columns[:-1]}, reason) {MESSAGE.format(0, 2).replace(' FROM', ', 0 FROM')}"
    well.sql(f"INSERT INTO {schema}.outbox_parked {parked}")
    assert "2 messages" in well.finds("outbox.parked")["what"]
    well.sql(f"DELETE FROM {schema}.outbox_parked")
    well.sql(
        f'INSERT INTO {schema}.dead_letter (shard, reason, message, topic, partition, "offset", timestamp, headers) '
        "VALUES (0, 'x', 'y', 't', 0, 0, 0, '')"
    )
    found = well.finds("dead_letters")
    assert found["what"] == f"1 dead letter of {schema}"
    assert "sagabus dead-letters list" in found["cure"]


def test_h3_clocks_that_differ(well: Patient) -> None:
    now = time.time
    well.monkeypatch.setattr(time, "time", lambda: now() - 5)
    assert "differ by 5.0 s" in well.finds("clock.skew")["what"]


def test_a_variable_that_is_no_setting(well: Patient) -> None:
    well.set("DATABSE", "postgresql://…")
    assert "SAGABUS_DATABSE" in well.finds("settings.unknown")["what"]


def test_faults_are_told_to_people_with_their_cures(well: Patient) -> None:
    well.add_shard(3)
    well.add_saga("S-1", attention="look")
    assert main(["doctor"]) == Exit.FOUND
    told = well.capsys.readouterr().out
    assert (
        "1. 1 saga needs operator action: other: S-1: look [sagas.other]\n   cure: do what its words say, then " in told
    )
    assert told.endswith("\n1 found\n")


def test_b14_the_cure_of_a_participants_changed_topic_is_its_own(well: Patient) -> None:
    """Commands are sent again, so its topic can be made anew; and rows that say both numbers are told as well."""
    asyncio.run(make_service(well))
    schema = f"sagabus_{well.service}"
    well.add_shard(0, schema=schema, partitions=3)
    found = well.finds("partitions.changed", "--service", well.service)
    assert f"{well.service}.commands has 4 partitions, and sagas of {schema} were placed by 3" in found["what"]
    assert f"delete {well.service}.commands and make it again with 3 partitions" in found["cure"]
    well.add_shard(1, schema=schema, partitions=4)
    found = well.finds("partitions.changed", "--service", well.service)
    assert "were placed by 3 and 4" in found["what"]
    assert f"UPDATE {schema}.shard SET partitions = 3" in found["cure"]


def test_b15_coordinators_that_run_different_sagas(well: Patient) -> None:
    both, one = [("order", 1), ("refund", 2)], [("order", 1)]
    for shard, (process, definitions) in enumerate([(7, both), (7, both), (8, one)]):
        well.add_shard(shard)
        listed = json.dumps([{"name": name, "version": version} for name, version in definitions])
        well.sql(
            f"INSERT INTO {well.namespace}.shard_owner (shard, host, process, instance, definitions) "
            f"VALUES ({shard}, 'box', {process}, '', '{listed}')"
        )
    found = well.finds("definitions.differ")
    assert "process 8 on box lacks refund version 2" in found["what"]
    assert "process 7" not in found["what"]
    assert "same modules" in found["cure"]
    well.sql(f"UPDATE {well.namespace}.shard SET beat_at = clock_timestamp() - interval '11 s' WHERE shard = 2")
    assert well.examined()[0] == Exit.DONE, "a process that is gone lacks nothing"


@pytest.mark.parametrize(
    ("config", "code", "cure"),
    [
        ({"retention.ms": "-1"}, "topics.endless", "retention.ms"),
        ({"cleanup.policy": "compact"}, "topics.compacted", "cleanup.policy=delete"),
        ({"cleanup.policy": "compact,delete"}, "topics.compacted", "cleanup.policy=delete"),
    ],
)
def test_c7_topics_that_are_endless_or_compacted(ill: Patient, config: dict[str, str], code: str, cure: str) -> None:
    ill.migrate()
    ill.make_topics("requests")
    ill.broker.create_topics(ill.topics["requests"], partitions=4, **config)
    found = ill.finds(code)
    assert ill.topics["requests"] in found["what"]
    assert cure in found["cure"]


@pytest.fixture
def latin1(ill: Patient) -> Iterator[Patient]:
    """A database that lacks most characters."""
    name = f"latin1_{secrets.token_hex(4)}"
    ill.server.psql(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    ill.set("DATABASE", f"{ill.url.rpartition('/')[0]}/{name}")
    yield ill
    ill.server.psql(f"DROP DATABASE {name} WITH (FORCE)")


def test_a9_a_database_that_is_not_utf8(latin1: Patient) -> None:
    latin1.make_topics()
    code, found, _ = latin1.examined()
    assert code == Exit.FOUND
    assert set(found) == {"database.encoding", "schema.behind"}
    assert "the database holds text as LATIN1" in found["database.encoding"]["what"]
    assert "ENCODING 'UTF8' TEMPLATE template0" in found["database.encoding"]["cure"]
    latin1.set("HTTP", "off")
    shop = "sagabus.shop"
    for words in (["migrate"], ["coordinator", f"{shop}.order_processing"], ["participant", f"{shop}.inventory"]):
        assert main(words) == Exit.USAGE
        assert "ENCODING 'UTF8'" in latin1.capsys.readouterr().err, words
