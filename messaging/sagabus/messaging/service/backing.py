"""Where Kafka, the database and the coordinator's API are, for a process that was given settings.

What the settings name is taken as it is. What they call `embedded` belongs to a host (`sagabus dev`, `sagabus demo`):
it is found through the host's live run.json, and nothing is ever started here, since two processes that each started a
bus would have two.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sagabus.messaging import database_url
from sagabus.messaging.api_access import reached_at
from sagabus.messaging.embedded import folder_named
from sagabus.messaging.embedded.run_file import NAME, Run, read_run
from sagabus.messaging.settings import EMBEDDED, Settings, SettingsError, load_settings, variable

if TYPE_CHECKING:
    from sagabus.messaging.bus.kafka import Kafka


@dataclass(frozen=True)
class Backing:
    """Made by `find_backing`. `run` is None where nothing embedded is used."""

    settings: Settings
    run: Run | None = None
    folder: Path | None = None
    """The host's."""

    @cached_property
    def kafka(self) -> Kafka:
        # Its clients take half a second to import, and who only asks for an address needs none of them.
        from sagabus.messaging.bus.kafka import Kafka

        return Kafka.of_run(self.settings, self.run, self.folder)

    @property
    def url(self) -> str:
        """Of the coordinator's API, without a slash at its end; empty where nobody has told it."""
        return self.settings.url or (self.run.http or "" if self.run else "")

    @property
    def gone(self) -> bool:
        """Whether the host has ended, and its bus and database with it."""
        return self.run is not None and not self.run.live


def find_backing(settings: Settings) -> Backing:
    """The settings, with the host's database in place of `embedded:DIR`. Raises SettingsError where no host runs."""
    embedded_database = settings.database.startswith(database_url.EMBEDDED)
    if not settings.embedded and not embedded_database:
        return Backing(settings)
    folder = folder_of(settings)
    run = read_run(folder)
    if run is None:
        field = "kafka" if settings.embedded else "database"
        raise SettingsError(
            [
                f"{variable(field)}={getattr(settings, field)}: no host runs here (no live {folder / NAME}); "
                "start `sagabus dev`, or name a server of your own"
            ]
        )
    if embedded_database:
        settings = settings.model_copy(update={"database": run.database})
    return Backing(settings, run, folder.absolute())


def find_here(*, require: Collection[str]) -> Backing:
    """As the settings say; what they leave out, where they name no server of one's own, as the live host of this
    directory does. Raises SettingsError."""
    settings = load_settings(require=())
    own_kafka = settings.kafka and not settings.embedded
    own_database = settings.database and not settings.database.startswith(database_url.EMBEDDED)
    if own_kafka or own_database or read_run(folder_of(settings)) is None:
        return find_backing(load_settings(require=require))
    hosts = {"database": f"{database_url.EMBEDDED}{folder_of(settings)}", "kafka": EMBEDDED}
    return find_backing(settings.model_copy(update=hosts))


def folder_of(settings: Settings) -> Path:
    """Where a host keeps its data and its run.json: DIR of `embedded:DIR`, else `.sagabus` in the current directory."""
    return folder_named(settings.database)


def url_of(settings: Settings) -> str:
    """Of the coordinator's API: SAGABUS_URL, else that of the host in this directory; empty without both."""
    run = None if settings.url else read_run(folder_of(settings))
    return Backing(settings, run).url


def own_url(settings: Settings) -> str | None:
    """Where this machine reaches the API that listens as SAGABUS_HTTP says; None where it is off."""
    return reached_at(settings.http)
