"""Golden histories: recorded by the release of their day, and replayed by today's code in each run of the tests.

They stand in `histories/`, one file for each shape of `shapes.py` and seed, in the form of `sagabus show --export`. A
shape that has histories is never changed; another one is added beside it. Should a change of the product stop one of
them, then it would stop open sagas of users too: no history is recorded anew.

    python -m tests.core.golden      records the shapes that have no history yet
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

from sagabus.coordinator.core.saga.recorded import Head, Recorded, lines, read
from tests.core import shapes
from tests.core.kit import Definition
from tests.core.restored import T0, forget_all
from tests.core.world import World

HISTORIES: Final = Path(__file__).with_name("histories")
SEEDS: Final = (1, 3, 4, 5, 7)
ACTIONS: Final = 40

SHAPES: Final[dict[str, Definition]] = {code._body.__name__: code for code in shapes.ALL}


def recorded(code: Definition, seed: int) -> Recorded:
    """What a random world has made of it, up to its end."""
    random = Random(seed)
    world = World.of(code, random.randrange, forgetful=False)
    for _ in range(random.randrange(ACTIONS)):
        world.happen()
    world.settle_down()
    drive = world.drive
    assert drive.state.is_closed, (code, seed)
    head = Head(
        saga=code.name, version=code.version, id=drive.id, run=drive.state.run, fingerprint=code.fingerprint,
        status=drive.state.status, started_at=T0,
    )  # fmt: skip
    return Recorded(head, drive.rows)


def files() -> list[Path]:
    return sorted(HISTORIES.glob("*.jsonl"))


def shape_of(file: Path) -> str:
    return file.stem.rpartition("-")[0]


def load(file: Path) -> Recorded:
    with file.open("rb") as written:
        return read(written, what=file.name)


def main() -> None:
    HISTORIES.mkdir(exist_ok=True)
    known = {shape_of(file) for file in files()}
    for name, code in SHAPES.items():
        if name in known:
            continue
        for seed in SEEDS:
            file = HISTORIES / f"{name}-{seed}.jsonl"
            file.write_bytes(b"".join(lines(recorded(code, seed))))
            print(f"{file.name}: {load(file).head.status}, {len(load(file).rows)} rows")
        forget_all()


if __name__ == "__main__":
    main()
