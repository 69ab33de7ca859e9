"""The verdict over a run with faults: what was lost, doubled, undone out of order, silently stuck, or wrong otherwise.

Unlike `accounts`, which raises at the first fault, this counts them all, each in a sentence. It looks at the rows of
the database, at the ledgers, and at what an independent consumer reads of every bus that there was.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from tests.system.accounts import DONE, EVENT_TOPICS, EVENTS, LEDGERS, STATUS, records_of
from tests.system.observer import Observer
from tests.system.orders import Answer, Approval, Order

TOPICS = ("sagabus.events", *EVENT_TOPICS)
ENDS = ("completed", "compensated", "cancelled", "terminated")


@dataclass
class Verdict:
    """Sentences by kind of violation; figures beside them."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    sagas: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    escalated: int = 0
    copies: int = 0
    """Records that were published more than once, as may be."""

    @property
    def violations(self) -> dict[str, list[str]]:
        return {name: found for name, found in asdict(self).items() if isinstance(found, list) and found}

    @property
    def figures(self) -> dict[str, int]:
        return {name: len(found) for name, found in asdict(self).items() if isinstance(found, list)}


async def judge_sagas(verdict: Verdict, observer: Observer, items: Sequence[Order | Approval]) -> None:
    """Every start is exactly one saga, which has ended as it had to."""
    rows = await observer.fetch("SELECT id, status, attention, result, closed_at FROM sagabus.saga")
    verdict.sagas = len(rows)
    verdict.by_status = dict(Counter(str(row["status"]) for row in rows))
    found = {row["id"]: row for row in rows}
    verdict.lost += [item.id for item in items if item.id not in found]
    verdict.doubled += [id for id, times in Counter(row["id"] for row in rows).items() if times > 1]
    verdict.wrong += [f"{id} was never asked for" for id in found.keys() - {item.id for item in items}]
    for row in rows:
        if row["attention"] is not None:
            verdict.attention.append(f"{row['id']}: {row['attention']}")
        if row["closed_at"] is None:
            verdict.stuck.append(f"{row['id']} ({row['status']}): {await _last_words(observer, row['id'])}")
    for item in items:
        if item.id in found and found[item.id]["closed_at"] is not None:
            row = found[item.id]
            verdict.wrong += _wrong_end(item, str(row["status"]), row["result"])
            verdict.escalated += b'"escalated":true' in (row["result"] or b"")


def _wrong_end(item: Order | Approval, status: str, result: bytes | None) -> list[str]:
    if isinstance(item, Order):
        return [] if status == STATUS[item.fate] else [f"{item.id} ({item.fate}) is {status}"]
    if item.answer is Answer.CANCEL:
        return [] if status == "cancelled" else [f"{item.id} was cancelled and is {status}"]
    outcome = json.loads(result or b"{}")
    right = status == "completed" and outcome.get("approved") is item.approved
    if right and (item.answer is Answer.LATE or outcome["escalated"] is False):
        return []
    return [f"{item.id} ({item.answer}) is {status} with {outcome}"]


async def _last_words(observer: Observer, id: str) -> str:
    rows = await observer.fetch(
        "SELECT kind, step, name, at FROM sagabus.history WHERE id = $1 ORDER BY seq DESC LIMIT 4", id
    )
    return " < ".join(f"{row['kind']} {row['step']} {row['name']} at {row['at']:%H:%M:%S}" for row in rows)


async def judge_ledgers(verdict: Verdict, observer: Observer, orders: Sequence[Order], *, stock: int) -> None:
    """Each effect once, each undo once and in reverse; what is free and what is out make what was there."""
    entries = []
    for service, query in LEDGERS.items():
        rows = await observer.fetch(query)
        entries += [(row["at"], row["order_id"], f"{'+' if row['done'] else '-'}{service}") for row in rows]
    happened: defaultdict[str, list[str]] = defaultdict(list)
    for _, order_id, what in sorted(entries):
        happened[order_id].append(what)
    for order in orders:
        judge_effects(verdict, order, happened[order.id])
    for row in await observer.fetch(
        "SELECT s.product_id, s.free + coalesce(sum(l.quantity), 0) AS total FROM inventory_stock s "
        "LEFT JOIN inventory_ledger l USING (product_id) GROUP BY s.product_id, s.free"
    ):
        if row["total"] != stock:
            verdict.wrong.append(f"of {row['product_id']} there are {row['total']} instead of {stock}")


def judge_effects(verdict: Verdict, order: Order, happened: Sequence[str]) -> None:
    """What the ledgers say of one order, in the order of time."""
    wanted, words = DONE[order.fate], f"{order.id} ({order.fate}): {' '.join(happened)}"
    if tuple(happened) == wanted:
        return
    if max(Counter(happened).values(), default=0) > 1:
        verdict.doubled.append(words)
    elif Counter(happened) == Counter(wanted):
        verdict.out_of_order.append(words)
    else:
        verdict.wrong.append(words)


async def judge_asked(verdict: Verdict, observer: Observer, approvals: Sequence[Approval]) -> None:
    """Whoever was asked about an expense was asked once."""
    asked = Counter((row["expense_id"], row["who"]) for row in await observer.fetch("SELECT * FROM approvals_ledger"))
    verdict.doubled += [f"{who} was asked {times} times about {id}" for (id, who), times in asked.items() if times > 1]
    first = {approval.id for approval in approvals} - {id for id, who in asked if who in ("Ann", "Hasty")}
    verdict.wrong += [f"nobody was asked about {id}" for id in first]


async def judge_leftovers(verdict: Verdict, observer: Observer, schemas: Iterable[str]) -> None:
    """Nothing waits to be published, nothing is parked, and no record was declined but answers that came twice."""
    for schema in schemas:
        for table in ("outbox", "outbox_parked"):
            if count := await observer.value(f"SELECT count(*) FROM {schema}.{table}"):
                verdict.stuck.append(f"{count} rows in {schema}.{table}")
        for row in await observer.fetch(
            f"SELECT reason, count(*), min(convert_from(key, 'UTF8')) AS key FROM {schema}.dead_letter GROUP BY 1"
        ):
            if row["reason"] != "saga.closed" or not str(row["key"]).startswith("EXP-"):
                verdict.wrong.append(f"{row['count']} dead letters in {schema}: {row['reason']}, of {row['key']}")


class Listener:
    """Hears what was published, bus after bus."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._seen: set[str] = set()
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._ends: defaultdict[str, list[str]] = defaultdict(list)
        self._domain: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def listen(self, kafka: str) -> None:
        """To all of this bus. First copies come in the order of the saga's `ce_sequence`."""
        for headers, _ in records_of(kafka, TOPICS):
            self.hear(headers)

    def hear(self, headers: dict[str, str]) -> None:
        """One record."""
        if headers["ce_id"] in self._seen:
            self._verdict.copies += 1
            return
        self._seen.add(headers["ce_id"])
        saga, type = headers["ce_subject"], headers["ce_type"]
        if type in EVENTS:
            self._domain[type][saga] += 1
        if "ce_sequence" in headers:
            number = int(headers["ce_sequence"])
            if number != self._numbers[saga] + 1:
                self._verdict.out_of_order.append(f"{saga}: event {number} after {self._numbers[saga]}")
            self._numbers[saga] = number
        if type.startswith("sagabus.saga.") and type.rpartition(".")[2] in ENDS:
            self._ends[saga].append(type.rpartition(".")[2])

    def judge(self, items: Sequence[Order | Approval]) -> None:
        """Every end was told once; each declared event once for each order whose step was done."""
        for item in items:
            if len(self._ends[item.id]) != 1:
                self._verdict.wrong.append(f"{item.id}: its end was told as {self._ends[item.id]}")
        for type, fates in EVENTS.items():
            wanted = Counter(item.id for item in items if isinstance(item, Order) and item.fate in fates)
            found = self._domain[type]
            self._verdict.lost += [f"{type} of {id}" for id in (wanted - found)]
            self._verdict.doubled += [f"{type} of {id}, under another id" for id in (found - wanted)]
