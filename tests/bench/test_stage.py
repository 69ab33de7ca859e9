"""How long a commit takes is a setting of the PostgreSQL that a measurement starts."""

from __future__ import annotations

import argparse

import pytest

from bench.program import commits, parser
from bench.stage import Commits
from tests.support.postgres import SETTINGS, PostgresServer

NAMES = ("fsync", "full_page_writes", "commit_delay", "commit_siblings")


def options(*words: str) -> argparse.Namespace:
    return parser("bench.none", "Nothing.").parse_args(words)


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ((), Commits()),
        (("--fsync",), Commits(fsync=True)),
        (("--commit-delay", "1000"), Commits(fsync=True, delay_us=1_000)),
    ],
)
def test_a_delay_of_commits_is_with_fsync(words: tuple[str, ...], chosen: Commits) -> None:
    """PostgreSQL makes no delay where it does not wait for its disk."""
    assert commits(options(*words)) == chosen


def test_the_server_has_these_settings() -> None:
    with PostgresServer(Commits(fsync=True, delay_us=1_000).settings) as server:
        found = [server.psql(f"SHOW {name}") for name in NAMES]
        assert server.psql("SHOW shared_buffers") == SETTINGS["shared_buffers"]
    assert found == ["on", "on", "1000", "0"]
