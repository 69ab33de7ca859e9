"""The demo's last check: every promise looked up in the ledgers and on the topics, none taken from the story told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sagabus.commands.demo.ledgers import Books
from sagabus.commands.demo.witness import Witness


@dataclass(frozen=True, slots=True)
class Finding:
    """One question, and whether the answer is as it should be. found: what there is, in words."""

    right: bool
    found: str

    def __str__(self) -> str:
        return f"{'right' if self.right else 'WRONG'}: {self.found}"


def audit(
    before: Books, after: Books, witness: Witness, *, completed: Sequence[str], undone: Sequence[str], total: Decimal
) -> Iterator[Finding]:
    """completed, undone: the orders, by how they should have ended. total: what each of them cost."""
    orders = [*completed, *undone]
    yield from _endings(witness, completed, undone)
    yield _charged_once(after, orders, total)
    yield _refunded(after, completed, undone)
    yield _goods(before, after, completed, undone)
    yield _shipped(after, completed, undone)
    yield _reverse_order(after, undone)
    yield from _topics(witness, completed, undone)


def _endings(witness: Witness, completed: Sequence[str], undone: Sequence[str]) -> Iterator[Finding]:
    lifecycles = witness.lifecycles()
    for status, orders in (("completed", completed), ("compensated", undone)):
        ended = [order for order in orders if lifecycles[order][-1].type == f"sagabus.saga.{status}"]
        yield Finding(ended == [*orders], f"{status}: {', '.join(ended)}")


def _charged_once(after: Books, orders: Sequence[str], total: Decimal) -> Finding:
    charges = [entry.amount for order in orders for entry in after.charges(order)]
    right = charges == [total] * len(orders) == [entry.amount for entry in after.money if not entry.back]
    return Finding(right, f"payment's ledger: {len(charges)} charges of {total} for {len(orders)} orders")


def _refunded(after: Books, completed: Sequence[str], undone: Sequence[str]) -> Finding:
    kept = {order: sum(entry.amount for entry in after.money if entry.order_id == order) for order in undone}
    right = not any(kept.values()) and all(len(after.refunds(order)) == 1 for order in undone)
    right = right and not any(after.refunds(order) for order in completed)
    return Finding(right, f"payment's ledger: {sum(kept.values())} kept of the {len(undone)} undone orders")


def _goods(before: Books, after: Books, completed: Sequence[str], undone: Sequence[str]) -> Finding:
    """What is missing from the shelves is what the completed orders took, each once; the undone brought theirs back."""
    sold = _sum(after, completed)
    missing = Counter({product: before.stock[product] - free for product, free in after.stock.items()})
    right = +missing == +sold and not any(_sum(after, undone).values())
    right = right and all(_once(after, order) for order in (*completed, *undone))
    words = " and ".join(f"{count} × {product}" for product, count in sorted(sold.items()))
    return Finding(right, f"inventory's ledger and shelves: {words} sold, everything else is back")


def _sum(books: Books, orders: Sequence[str]) -> Counter[str]:
    moved = Counter[str]()
    for entry in books.goods:
        if entry.order_id in orders:
            moved[entry.what] += int(entry.amount)
    return moved


def _once(books: Books, order: str) -> bool:
    there, back = books.reserved(order), books.returned(order)
    products = [entry.what for entry in there]
    return len(products) == len(set(products)) > 0 and len(back) in (0, len(products))


def _shipped(after: Books, completed: Sequence[str], undone: Sequence[str]) -> Finding:
    parcels = sorted(entry.what for entry in after.parcels)
    right = parcels == sorted(f"TRACK-{order}" for order in completed)
    return Finding(right, f"shipping's ledger: {', '.join(parcels)}, none for {' or '.join(undone)}")


def _reverse_order(after: Books, undone: Sequence[str]) -> Finding:
    right = all(
        refund.at < back.at for order in undone for refund in after.refunds(order) for back in after.returned(order)
    )
    return Finding(right, "both undone orders: the refund first, then the goods")


def _topics(witness: Witness, completed: Sequence[str], undone: Sequence[str]) -> Iterator[Finding]:
    lifecycles = witness.lifecycles()
    gapless = all([one.sequence for one in events] == [*range(1, len(events) + 1)] for events in lifecycles.values())
    count = sum(map(len, lifecycles.values()))
    yield Finding(gapless, f"{count} lifecycle events, numbered from 1 without a gap in each saga")
    everyone, happy = sorted((*completed, *undone)), sorted(completed)
    expected: Mapping[str, Sequence[str]] = {
        "inventory.stock_reserved": everyone,
        "payment.payment_processed": everyone,
        "shipping.order_shipped": happy,
    }
    told = {type: sorted(one.key for one in witness.happenings if one.type == type) for type in expected}
    words = ", ".join(f"{len(keys)} × {type.partition('.')[2]}" for type, keys in told.items())
    yield Finding(told == expected, f"domain events: {words}; none of a refused step")
