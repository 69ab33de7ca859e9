"""The tables of docs/performance.md, as Markdown, from the latest line of each command in a file of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.load_run import COORDINATORS, KAFKA, PARTICIPANTS, POSTGRESQL
from bench.processor_time import ALL
from bench.results import latest

KINDS: Final = (COORDINATORS, PARTICIPANTS, KAFKA, POSTGRESQL)
MODES: Final = ("bare", "happy", "undo", "mixed", "shop")
USUAL: Final = {"fsync": False}
ONE: Final = {"coordinators": 1, "partitions": None, **USUAL}
"""The usual runs: PostgreSQL does not wait for its disk, and the product has the partitions that it has by default."""

Row = Mapping[str, Any]


def compare_table(results: Path) -> str:
    row = latest("compare", results, **ONE)
    if row is None:
        return missing("python -m bench.compare")
    lines = [
        [mode, f"{of['sagas_per_s']:.0f}", share(of, "share_of_bare"), share(of, "share_of_lean"),
         *(f"{of[f'cpu_ms.{kind}']:.2f}" for kind in (*KINDS, ALL)), f"{of['wal_kib']:.1f}"]
        for mode in MODES if (of := row.get(mode))
    ]  # fmt: skip
    head = ["run", "sagas/s", "of bare", "of lean", *KINDS, ALL, "WAL, KiB"]
    return source(row) + grid(head, lines)


def variants_table(results: Path) -> str:
    """Other numbers of processes, and commits that take longer."""
    variants = {
        "one coordinator": ("", latest("compare", results, **ONE)),
        "two coordinators": (" --coordinators 2", latest("compare", results, coordinators=2, fsync=False)),
        "four partitions of each topic, as bare has": (
            " --partitions 4", latest("compare", results, coordinators=1, fsync=False, partitions=4)
        ),
        "commits wait for the disk": (
            " --fsync", latest("compare", results, coordinators=1, fsync=True, commit_delay_us=0)
        ),
        "commits take 1 ms or more": (" --commit-delay 1000", latest("compare", results, commit_delay_us=1_000)),
    }  # fmt: skip
    lines = []
    for name, (options, row) in variants.items():
        command = f"`python -m bench.compare{options}`"
        if row is None or "happy" not in row:
            lines.append([name, "not measured yet", "", "", command])
            continue
        bare, happy = row["bare"]["sagas_per_s"], row["happy"]
        lines.append([name, f"{bare:.0f}", f"{happy['sagas_per_s']:.0f}", share(happy, "share_of_bare"), command])
    return grid(["", "bare, sagas/s", "happy, sagas/s", "of bare", "command"], lines)


def sizing_table(results: Path) -> str:
    """What a core carries, if it did nothing else: from the processor time of a saga."""
    row = latest("compare", results, **ONE)
    if row is None:
        return missing("python -m bench.compare")
    modes = [mode for mode in MODES[1:] if mode in row]
    lines = [
        [kind, *(f"{1_000 / max(row[mode][f'cpu_ms.{kind}'], 0.001):,.0f}" for mode in modes)]
        for kind in KINDS
    ]  # fmt: skip
    return source(row) + grid(["sagas a second and core", *modes], lines)


def latency_table(results: Path) -> str:
    row = latest("latency", results, **ONE)
    if row is None:
        return missing("python -m bench.latency")
    alone = row["alone"]
    loads = {
        "alone, bare engine": alone["bare"], "alone": alone["product"], **slow_commits(results),
        **{f"{load['share']:.0%} of the peak: {load['sagas_per_s']}/s": load["latency_ms"] for load in row["rates"]},
        **{f"bare engine at {load['sagas_per_s']}/s": load["latency_ms"] for load in row.get("bare_rates", ())},
    }  # fmt: skip
    lines = [[name, *(f"{of[key]:.1f}" for key in ("p50", "p90", "p99", "worst")), str(of["count"])]
             for name, of in loads.items()]  # fmt: skip
    return source(row) + grid(["sagas", "p50 ms", "p90 ms", "p99 ms", "worst", "count"], lines)


def slow_commits(results: Path) -> dict[str, Row]:
    """Sagas alone, if that was measured: `python -m bench.latency --commit-delay 1000`."""
    row = latest("latency", results, coordinators=1, commit_delay_us=1_000)
    if row is None:
        return {}
    alone = row["alone"]
    return {
        "alone, bare engine, commits of 1 ms or more": alone["bare"], "alone, commits of 1 ms or more": alone["product"]
    }  # fmt: skip


def idle_table(results: Path) -> str:
    row = latest("latency", results, **ONE)
    if row is None:
        return missing("python -m bench.latency")
    idle = row["idle_cpu_ms_per_s"]
    return source(row) + grid([*KINDS, ALL], [[f"{idle[kind]:.1f}" for kind in (*KINDS, ALL)]])


def recovery_table(results: Path) -> str:
    row = latest("recovery", results, **USUAL)
    if row is None:
        return missing("python -m bench.recovery")
    names = ("sagas_per_s", "first_s", "everywhere_s", "full_s", "stall_s", "memory_mib")
    head = ["way", "sagas/s before", "first, s", "every shard, s", "full rate, s", "longest callback, s", "memory, MiB"]
    lines = [[way, *(f"{of[name]:g}" for name in names)] for way, of in row["ways"].items()]
    return source(row, f"{row['open']:,} open sagas") + grid(head, lines)


def open_sagas_table(results: Path) -> str:
    row = latest("open_sagas", results, **USUAL)
    if row is None:
        return missing("python -m bench.open_sagas --open 1000000 --rows 10000000")
    names = ("sagas_per_s", f"cpu_ms.{COORDINATORS}", f"cpu_ms.{POSTGRESQL}", f"cpu_ms.{ALL}", "memory_mib")
    head = ["tables", "sagas/s", "coordinators, ms", "postgresql, ms", "all, ms", "coordinators, MiB"]
    lines = [[name, *(f"{row[name][key]:g}" for key in names)] for name in ("empty", "full")]
    takes = [f"- take, {way}: first saga after {of['first_s']} s, full rate after {of['full_s']} s, longest callback "
             f"{of['stall_s']} s, {of['memory_mib']} MiB" for way, of in row["takes"].items()]  # fmt: skip
    about = f"full: {row['open']:,} open sagas, {row['history_rows']:,} rows of history; {row['database_mib']:,} MiB"
    return source(row, about) + grid(head, lines) + "".join(f"\n{take}" for take in takes) + "\n"


def peers_table(results: Path) -> str:
    row = latest("peers", results)
    if row is None:
        return missing("python -m bench.peers")
    lines = [
        [name, f"{of['sagas_per_s']:.0f}", *(f"{of[key]:.1f}" for key in ("cpu_ms.all", "alone.p50", "alone.p99")),
         f"{of['product_times']:.1f}" if "product_times" in of else ""]
        for name, of in row["engines"].items()
    ]  # fmt: skip
    head = [
        "engine",
        "sagas/s",
        "CPU, ms a saga",
        "alone p50, ms",
        "alone p99, ms",
        "sagabus does so many times as many",
    ]
    about = ", ".join([*row["requirements"].values(), *(f"{peer} could not be installed" for peer in row["missing"])])
    return source(row, about) + grid(head, lines)


TABLES: Final[Mapping[str, Callable[[Path], str]]] = {
    "compare": compare_table, "variants": variants_table, "sizing": sizing_table, "latency": latency_table,
    "idle": idle_table, "recovery": recovery_table, "open_sagas": open_sagas_table, "peers": peers_table,
}  # fmt: skip


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def source(row: Row, about: str = "") -> str:
    """Above a table: with what, when and where it was measured."""
    told = [
        f"`{row['command']}`",
        f"commit {row['commit']}",
        row["at"][:10],
        row["machine"],
        *([about] if about else []),
    ]
    return f"{'; '.join(told)}.\n\n"


def missing(command: str) -> str:
    return f"Not measured yet: `{command}`.\n"


def share(row: Row, key: str) -> str:
    return f"{row[key]:.2f}" if key in row else ""
