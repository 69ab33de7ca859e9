"""The few settings of a client command are read apart, and quickly: they are what all settings together would say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sagabus.client.settings import ApiSettings, api_settings, own_api_url
from sagabus.messaging.api_access import HTTP
from sagabus.messaging.embedded.run_file import Run, write_run
from sagabus.messaging.service.backing import own_url, url_of
from sagabus.messaging.settings import Settings, SettingsError, load_settings

REAL = "postgresql://me@localhost/shop"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("SAGABUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def host(folder: Path, http: str | None) -> None:
    write_run(folder, Run.of_this_process(kafka="127.0.0.1:1", bus="b1", database=REAL, http=http))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"SAGABUS_URL": ""},
        {"SAGABUS_URL": "http://there:8080/"},
        {"SAGABUS_URL": "http://there", "SAGABUS_TOKEN": "secret"},
        {"SAGABUS_TOKEN": "secret"},
        {"sagabus_url": "http://there:8080"},
        {"SAGABUS_HTTP": "0.0.0.0:9000"},
        {"SAGABUS_HTTP": "off"},
        {"SAGABUS_HTTP": "[::]:9000", "SAGABUS_NAMESPACE": "shop", "SAGABUS_INSTANCE": "a"},
        {"SAGABUS_KAFKA": "one, two:9093", "SAGABUS_DATABASE": "postgres://me:secret@localhost/shop"},
        {"SAGABUS_PARTITIONS": "3", "SAGABUS_HTTP": "127.0.0.1:9000"},
        {"SAGABUS_PARTITIONS": "3", "SAGABUS_LOG": "json", "SAGABUS_RETENTION_INBOX": "9d", "SAGABUS_TOKEN": "secret"},
        {"SAGABUS_PARTITIONS": " 3 ", "SAGABUS_RETENTION_INBOX": " 9 D "},
        {"SAGABUS_KAFKA_SECURITY": "tls", "SAGABUS_KAFKA_CA_FILE": __file__, "SAGABUS_URL": "http://there"},
        {"SAGABUS_DATABASE": "embedded:there", "SAGABUS_KAFKA": "embedded"},
        {"SAGABUS_UNKNOWN": "x"},
    ],
    ids=str,
)
@pytest.mark.parametrize("here", [None, "http://127.0.0.1:1111"])
def test_it_is_what_all_settings_say(
    given: dict[str, str], here: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host(tmp_path / ".sagabus", here)
    host(tmp_path / "there", "http://127.0.0.1:2222")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(require=())
    assert api_settings() == ApiSettings(url_of(settings), settings.token.get_secret_value())
    assert own_api_url() == (settings.url or own_url(settings))


@pytest.mark.parametrize(
    "given",
    [
        {"SAGABUS_URL": "there:8080"},
        {"SAGABUS_URL": "http://me@there"},
        {"SAGABUS_TOKEN": "two\nlines"},
        {"SAGABUS_KAFKA": "kafka://one"},
        {"SAGABUS_DATABASE": "mysql://me@there/shop"},
        {"SAGABUS_NAMESPACE": "sagabus_shop"},
        {"SAGABUS_HTTP": "8080"},
        {"SAGABUS_INSTANCE": "a b"},
        {"SAGABUS_NAMESPACE": "a\udcff"},
        {"SAGABUS_URL": "http://there", "SAGABUS_PARTITIONS": "many"},
        {"SAGABUS_PARTITIONS": "0"},
        {"SAGABUS_REPLICATION": "33"},
        {"SAGABUS_LOG": "loud"},
        {"SAGABUS_RETENTION_SAGAS": "14"},
        {"SAGABUS_KAFKA_SECURITY": "ssl"},
        {"SAGABUS_KAFKA_USERNAME": "me"},
        {"SAGABUS_KAFKA_SECURITY": "sasl_tls", "SAGABUS_KAFKA_USERNAME": "me"},
        {"SAGABUS_KAFKA_SECURITY": "tls", "SAGABUS_KAFKA_CA_FILE": "/nowhere"},
    ],
    ids=str,
)
def test_what_is_wrong_has_the_words_of_all_settings(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as whole:
        load_settings(require=())
    for read in (api_settings, own_api_url):
        with pytest.raises(SettingsError) as caught:
            read()
        assert str(caught.value) == str(whole.value)


def test_a_token_is_in_no_repr() -> None:
    assert "secret" not in repr(ApiSettings("http://there", "secret"))


def test_the_address_is_the_settings_own() -> None:
    assert Settings.model_fields["http"].default == HTTP
