"""What hits a deployment, and in which order: drawn by lot, alike from the same seed. No fault is made here."""

from __future__ import annotations

import random
from collections.abc import Mapping
from enum import StrEnum


class Fault(StrEnum):
    """Each ends by itself: what was killed is started again, what was stopped goes on."""

    KILL_COORDINATOR = "kill_coordinator"
    KILL_PARTICIPANT = "kill_participant"
    KILL_BOTH = "kill_both"
    STOP_COORDINATOR = "stop_coordinator"
    STOP_PARTICIPANT = "stop_participant"
    STOP_IN_COPY = "stop_in_copy"
    STOP_IN_TRANSACTION = "stop_in_transaction"
    COORDINATOR_JOINS_AND_LEAVES = "coordinator_joins_and_leaves"
    PARTICIPANT_JOINS_AND_LEAVES = "participant_joins_and_leaves"
    ROLLING_RESTART = "rolling_restart"
    BROKER_STOPPED = "broker_stopped"
    BROKER_KILLED = "broker_killed"
    DATABASE_CRASHED = "database_crashed"
    DATABASE_AWAY = "database_away"
    CONNECTIONS_CUT = "connections_cut"
    CONNECTIONS_SILENT = "connections_silent"
    FAILOVER_READ_ONLY = "failover_read_only"
    FAILOVER_CRASHED = "failover_crashed"
    FAILOVER_SILENT = "failover_silent"
    BUS_REPLACED = "bus_replaced"
    REPLIES_TOPIC_MADE_ANEW = "replies_topic_made_anew"
    COMMANDS_TOPIC_MADE_ANEW = "commands_topic_made_anew"
    COMMANDS_LOST_AND_KILL = "commands_lost_and_kill"


KILLS = {Fault.KILL_COORDINATOR: 1, Fault.KILL_PARTICIPANT: 1, Fault.KILL_BOTH: 2, Fault.COMMANDS_LOST_AND_KILL: 1}
"""SIGKILLs of processes of ours in each of these faults."""

STOPS = (Fault.STOP_COORDINATOR, Fault.STOP_PARTICIPANT, Fault.STOP_IN_COPY, Fault.STOP_IN_TRANSACTION)
JOINS = (Fault.COORDINATOR_JOINS_AND_LEAVES, Fault.PARTICIPANT_JOINS_AND_LEAVES)
"""Two rebalances each."""

BROKER = (Fault.BROKER_STOPPED, Fault.BROKER_KILLED)
DATABASE = (Fault.DATABASE_CRASHED, Fault.DATABASE_CRASHED, Fault.DATABASE_AWAY)
FAILOVERS = (Fault.FAILOVER_READ_ONLY, Fault.CONNECTIONS_SILENT, Fault.FAILOVER_CRASHED, Fault.FAILOVER_SILENT)

CONTAINED = {
    Fault.KILL_COORDINATOR, Fault.KILL_PARTICIPANT, Fault.STOP_PARTICIPANT, Fault.DATABASE_CRASHED,
    Fault.COMMANDS_TOPIC_MADE_ANEW,
}  # fmt: skip
"""Each is a part of another one."""

ONE_OF_EACH = dict.fromkeys([fault for fault in Fault if fault not in CONTAINED], 1)


def of_numbers(
    *, kills: int, stops: int, rebalances: int, rolling: int, postgres: int, broker: int, cuts: int, buses: int,
    topics: int, failovers: int,
) -> dict[Fault, int]:  # fmt: skip
    """How often which, so that there are at least so many of each sort."""
    counts = dict.fromkeys(Fault, 0)
    for number in range(topics):
        kinds = (Fault.REPLIES_TOPIC_MADE_ANEW, Fault.COMMANDS_TOPIC_MADE_ANEW, Fault.COMMANDS_LOST_AND_KILL)
        counts[kinds[number % 3]] += 1
    for kind, number in _in_turns(kills - counts[Fault.COMMANDS_LOST_AND_KILL]).items():
        counts[kind] += number
    drawn = (
        (STOPS, stops),
        (JOINS, -(-rebalances // 2)),
        (BROKER, broker),
        (DATABASE, postgres),
        (FAILOVERS, failovers),
    )
    for kinds_, number in drawn:
        for place in range(number):
            counts[kinds_[place % len(kinds_)]] += 1
    counts[Fault.ROLLING_RESTART], counts[Fault.CONNECTIONS_CUT], counts[Fault.BUS_REPLACED] = rolling, cuts, buses
    return counts


def _in_turns(kills: int) -> dict[Fault, int]:
    """A coordinator, a participant, both."""
    whole, rest = divmod(max(0, kills), 4)
    return {
        Fault.KILL_COORDINATOR: whole + (rest > 0), Fault.KILL_PARTICIPANT: whole + (rest > 1),
        Fault.KILL_BOTH: whole + (rest > 2),
    }  # fmt: skip


def schedule(seed: int, counts: Mapping[Fault, int]) -> list[Fault]:
    """All of them, shuffled."""
    faults = [fault for fault, number in counts.items() for _ in range(number)]
    random.Random(seed).shuffle(faults)
    return faults
