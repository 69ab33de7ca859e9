"""Settings: what is wrong is said at once, in one message, without passwords."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine

from sagabus.messaging.database_url import masked, normalised, sqlalchemy_url
from sagabus.messaging.settings import Security, Settings, SettingsError, load_settings, variable
from sagabus.messaging.shards.retention import Retention

GOOD: dict[str, Any] = {"kafka": "localhost:9092", "database": "postgresql://me:secret@localhost/shop"}


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kafka", "database", "namespace", "http", "partitions", "kafka_security", "instance"):
        monkeypatch.delenv(variable(name), raising=False)


def faults(**overrides: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(**{**GOOD, **overrides})
    for fault in caught.value.faults:
        assert fault in str(caught.value)
    return caught.value.faults


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGABUS_KAFKA", "one, two:9093,[::1]")
    monkeypatch.setenv("SAGABUS_DATABASE", "postgres://me@localhost/shop")
    monkeypatch.setenv("SAGABUS_NAMESPACE", "shop")
    monkeypatch.setenv("SAGABUS_PARTITIONS", "24")
    monkeypatch.setenv("SAGABUS_INSTANCE", "")
    settings = load_settings(http="off")
    assert settings.kafka == "one:9092,two:9093,[::1]:9092"
    assert settings.database == "postgresql://me@localhost/shop"
    assert (settings.namespace, settings.partitions, settings.instance) == ("shop", 24, "")
    assert settings.http_address is None
    assert not settings.embedded


def test_defaults() -> None:
    settings = _loaded()
    assert settings.namespace == "sagabus"
    assert settings.http_address == ("127.0.0.1", 8080)
    assert (settings.partitions, settings.replication) == (12, 1)
    assert settings.kafka_security is Security.PLAINTEXT


def test_all_faults_come_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAGABUS_PARTITIONS", "many")
    found = faults(
        kafka="kafka://broker",
        database="mysql://me:secret@localhost/shop",
        http="8080",
        log="xml",
        namespace="Shop",
        replication=0,
        kafka_security="sasl_tls",
        kafka_username="me",
        kafka_sasl_mechanism="GSSAPI",
        kafka_cert_file=str(tmp_path / "missing.pem"),
    )
    named = " ".join(found)
    wrong = ("kafka", "database", "http", "log", "namespace", "partitions", "replication", "kafka_sasl_mechanism")
    for field in (*wrong, "kafka_password", "kafka_cert_file", "kafka_key_file"):
        assert variable(field) in named
    assert len(found) == 11
    assert "secret" not in named


def test_what_a_service_needs_is_missing() -> None:
    found = faults(kafka="", database="")
    assert [fault.split()[0] for fault in found] == ["SAGABUS_KAFKA", "SAGABUS_DATABASE"]
    assert load_settings(require=()).kafka == ""
    with pytest.raises(SettingsError, match="SAGABUS_URL is not set"):
        load_settings(require=("url",))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kafka", "PLAINTEXT://broker:9092"),
        ("kafka", "broker:99999"),
        ("kafka", "broker,,other"),
        ("database", "embedded:"),
        ("database", "postgresql://localhost"),
        ("database", "postgresql://one,two:99999/shop"),
        ("database", "postgresql+psycopg://localhost/shop"),
        ("namespace", "sagabus_inventory"),
        ("namespace", "n" * 64),
        ("http", "127.0.0.1"),
        ("instance", "node 1"),
        ("partitions", 0),
        ("url", "coordinator:8080"),
        ("nonsense", "1"),
    ],
)
def test_wrong_value_is_named_with_its_variable(field: str, value: object) -> None:
    (fault,) = faults(**{field: value})
    assert fault.startswith(f"{variable(field)}={value}"[:60])


@pytest.mark.parametrize(
    "overrides",
    [
        {"kafka_username": "me"},
        {"kafka_ca_file": __file__},
        {"kafka_security": "tls", "kafka_password": "hunter2"},
        {"kafka": "embedded", "kafka_security": "tls"},
        {"kafka_security": "tls", "kafka_key_file": __file__},
    ],
)
def test_what_does_not_fit_together_is_a_fault(overrides: dict[str, Any]) -> None:
    (fault,) = faults(**overrides)
    assert "hunter2" not in fault


def test_secrets_stay_out_of_sight() -> None:
    settings = load_settings(
        **GOOD,
        kafka_security="sasl_tls",
        kafka_sasl_mechanism="PLAIN",
        kafka_username="me",
        kafka_password="hunter2",
        token="sesame",
    )
    for secret in ("hunter2", "sesame", "secret"):
        assert secret not in repr(settings)
    assert settings.kafka_password.get_secret_value() == "hunter2"


@pytest.mark.parametrize(
    ("written", "asyncpg_form", "sqlalchemy_form"),
    [
        ("postgres://u:p@h:5/d", "postgresql://u:p@h:5/d", "postgresql+asyncpg://u:p@h:5/d"),
        (
            "postgresql+asyncpg://h/d?ssl=true",
            "postgresql://h/d?sslmode=require",
            "postgresql+asyncpg://h/d?ssl=require",
        ),
        (
            "postgresql://h/d?sslmode=disable",
            "postgresql://h/d?sslmode=disable",
            "postgresql+asyncpg://h/d?ssl=disable",
        ),
        (
            "postgresql://u:p@h1,h2:5433/d",
            "postgresql://u:p@h1,h2:5433/d",
            "postgresql+asyncpg://u:p@/d?host=h1:5432&host=h2:5433&target_session_attrs=read-write",
        ),
        (
            "postgresql://h1:1,h2:2/d?target_session_attrs=primary",
            "postgresql://h1:1,h2:2/d?target_session_attrs=primary",
            "postgresql+asyncpg:///d?host=h1:1&host=h2:2&target_session_attrs=primary",
        ),
        ("postgresql://u@/d?host=/a/b", "postgresql://u@/d?host=/a/b", "postgresql+asyncpg://u@/d?host=/a/b"),
        ("postgresql:///d?host=/a%20b", "postgresql:///d?host=/a%20b", "postgresql+asyncpg:///d?host=/a%20b"),
    ],
)
def test_forms_of_a_database_address(written: str, asyncpg_form: str, sqlalchemy_form: str) -> None:
    assert normalised(written) == asyncpg_form
    assert normalised(asyncpg_form) == asyncpg_form
    assert sqlalchemy_url(asyncpg_form) == sqlalchemy_form


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host/d",
        "postgresql://me:sec:ret/s@cret@host/d",
        "me:secret@host/d",
        "postgresql://host/d?user=me&password=secret&sslmode=x",
    ],
)
def test_password_of_a_database_address_is_masked(url: str) -> None:
    for part in ("secret", "ret", "cret"):
        assert part not in masked(url)
    assert "host/d" in masked(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:S3cr/etpass@h/d", "postgresql://…@h/d"),
        ("postgresql://u:S3cr?et@pass@h/d", "postgresql://…"),
        ("postgresql://u:S3cr/etpass", "postgresql://…"),
        ("postgresql://localhost/shop?sslrootcert=/ca.pem", "postgresql://localhost/shop?…"),
        ("postgresql://localhost/shop?password=a&S3cret=b", "postgresql://localhost/shop?…"),
        ("postgresql://u:p@h1:5432,h2:5432/d", "postgresql://u:…@h1:5432,h2:5432/d"),
    ],
)
def test_of_an_address_that_is_not_well_formed_only_what_is_no_secret_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


ODD = string.ascii_letters + string.digits + "@:/?#%&=+,;[]{}|'\"\\ äß日\n\t"
PLACES = (
    ("database", "postgresql://u:{}@h/d"),
    ("database", "postgres://{}@h:5432/d"),
    ("database", "postgresql://u:{}@h1:1,h2:2/d?sslmode=maybe"),
    ("database", "postgresql://h/d?password={}&sslmode=require"),
    ("database", "mysql://u:{}@h/d"),
    ("database", "u:{}@h/d"),
    ("kafka", "u:{}@h:9092,x"),
    ("url", "http://u:{}@h:8080"),
    ("http", "{}@:8080"),
    ("kafka_password", "{}"),
    ("token", "{}"),
)


def told(**given: str) -> str:
    try:
        load_settings(**{**GOOD, "log": "xml", **given})
    except SettingsError as error:
        return str(error)
    return ""


@given(secret=st.text(alphabet=ODD, min_size=4, max_size=24), place=st.sampled_from(PLACES))
def test_no_error_shows_four_characters_of_a_secret(secret: str, place: tuple[str, str]) -> None:
    field, form = place
    shown = told(**{field: form.format(secret)})
    of_ours = form + told(**{field: form.format("\N{SNOWMAN}")}) + told(database="@", kafka="@", url="@", http="@")
    parts = (secret[start : start + 4] for start in range(len(secret) - 3))
    assert [part for part in parts if part in shown and part not in of_ours] == []


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:S3cr/etpass@h/d", "postgresql://u:S3cr?et#pass@h/d", "postgresql://u:S3cr/etpass",
        "postgresql://u:S3cr-etpass/d", "postgresql://u:S3cr@etpass@h/d", "u:S3cr:etpass",
    ],
)  # fmt: skip
def test_c6_no_error_shows_part_of_a_password_that_was_not_encoded_or_has_no_host_behind_it(address: str) -> None:
    said = told(database=address)
    assert "SAGABUS_DATABASE=" in said
    assert [part for part in ("S3cr", "etpass") if part in said] == []


@pytest.mark.parametrize("field", ["kafka_password", "token"])
def test_a_secret_of_the_wrong_type_is_not_shown_either(field: str) -> None:
    (fault,) = faults(**{field: 98_765})
    assert fault.startswith(f"{variable(field)}=(hidden): ")


async def test_both_drivers_take_what_was_normalised(database: str) -> None:
    settings = load_settings(
        kafka="embedded", database=database.replace("postgresql://", "postgres://") + "?ssl=prefer"
    )
    connection = await asyncpg.connect(settings.database)
    try:
        assert await connection.fetchval("SELECT 1") == 1
    finally:
        await connection.close()
    engine = create_async_engine(settings.sqlalchemy_url)
    try:
        async with engine.connect() as other:
            assert (await other.exec_driver_sql("SELECT 1")).scalar() == 1
    finally:
        await engine.dispose()


def test_retention_is_on_and_may_be_set_or_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86_400.0
    kept = Retention.of(_loaded())
    assert kept == Retention(
        sagas=30 * day, started_ids=14 * day, inbox=14 * day, dead_letters=30 * day, parked=30 * day
    )
    monkeypatch.setenv("SAGABUS_RETENTION_SAGAS", "off")
    monkeypatch.setenv("SAGABUS_RETENTION_INBOX", "36h")
    monkeypatch.setenv("SAGABUS_RETENTION_PARKED", "45s")
    kept = Retention.of(_loaded())
    assert (kept.sagas, kept.inbox, kept.parked) == (None, 1.5 * day, 45.0)


@pytest.mark.parametrize("wrong", ["30", "0d", "-1d", "1.5d", "month", "99999999d", "d"])
def test_a_retention_without_its_unit_is_refused(wrong: str) -> None:
    (fault,) = faults(retention_inbox=wrong)
    assert fault.startswith(f"SAGABUS_RETENTION_INBOX={wrong}: give a time with its unit, 30d, 12h, 90m or 45s, or off")


def _loaded() -> Settings:
    return load_settings(kafka=GOOD["kafka"], database=GOOD["database"])
