"""What a saga's code must not touch, since a replay would find it otherwise, or the process would wait for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sagabus.commands.check.finding import Finding, error, warning
from sagabus.commands.check.lints.saga_source import SagaFunction, Use

_IN_AN_ACTIVITY: Final = "do it in an activity, and let the saga have its output"


@dataclass(frozen=True, slots=True)
class _Outside:
    """names: whole names; one that ends with a dot means all that begin with it."""

    code: str
    names: Sequence[str]
    why: str
    cure: str


RULES: Final = (
    _Outside(
        "blocking",
        ("time.sleep", "builtins.input", "asyncio.run", "asyncio.runners.run", "builtins.breakpoint", "select."),
        "it stops this process, with all of its sagas",
        "write `await asyncio.sleep(seconds)`: it is a timer of the saga, and takes no thread",
    ),
    _Outside(
        "clock",
        (
            "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
            "time.perf_counter_ns", "time.localtime", "time.gmtime", "time.ctime", "time.strftime",
            "time.process_time", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
            "datetime.date.today",
        ),
        "a replay reads another time",
        "use `ctx.now()`",
    ),
    _Outside(
        "random",
        ("random.", "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "uuid.getnode", "secrets.", "os.urandom",
         "os.getrandom", "numpy.random."),
        "a replay gets another value",
        "use `ctx.random()`, or `ctx.uuid()`",
    ),
    _Outside(
        "thread",
        ("threading.", "_thread.", "concurrent.futures.", "multiprocessing.", "asyncio.to_thread",
         "asyncio.threads.to_thread", "queue."),
        "what a thread does is in no history",
        _IN_AN_ACTIVITY,
    ),
    _Outside(
        "process",
        ("subprocess.", "os.system", "os.popen", "os.fork", "os.forkpty", "os.exec", "os.spawn", "os.posix_spawn",
         "os.kill", "asyncio.create_subprocess_", "asyncio.subprocess."),
        "a replay would do it again",
        _IN_AN_ACTIVITY,
    ),
    _Outside(
        "network",
        ("socket.", "ssl.", "http.client.", "urllib.request.", "urllib.error.", "requests.", "httpx.", "aiohttp.",
         "smtplib.", "ftplib.", "asyncpg.", "psycopg.", "psycopg2.", "redis.", "boto3.", "asyncio.open_connection",
         "asyncio.streams.", "asyncio.start_server", "sqlite3.", "sqlalchemy."),
        "a replay would ask again, and get another answer",
        _IN_AN_ACTIVITY,
    ),
    _Outside(
        "file",
        ("builtins.open", "io.open", "_io.open", "os.open", "os.read", "os.write", "os.listdir", "os.scandir",
         "os.stat", "os.remove", "os.rename", "os.replace", "os.mkdir", "os.makedirs", "os.unlink", "posix.",
         "os.path.exists", "genericpath.", "shutil.", "tempfile.", "glob.", "sys.stdin"),
        "a replay finds another file, or writes it again",
        _IN_AN_ACTIVITY,
    ),
    _Outside(
        "environment",
        ("os.environ", "os.getenv", "os.getpid", "os.getcwd", "os.uname", "os.cpu_count", "platform.", "sys.argv",
         "getpass.", "locale.getlocale"),
        "the next process has another environment",
        "give it to the saga in its input, or have an activity read it",
    ),
)  # fmt: skip

_OF_PATHS: Final = frozenset((
    "chmod", "exists", "glob", "is_dir", "is_file", "iterdir", "mkdir", "open", "read_bytes", "read_text", "rename",
    "replace", "resolve", "rglob", "rmdir", "stat", "touch", "unlink", "write_bytes", "write_text",
))  # fmt: skip
_POSIX: Final = {"posix.urandom": "random", "posix.getpid": "environment", "posix.getcwd": "environment",
                 "posix.uname": "environment", "posix.cpu_count": "environment", "posix.getrandom": "random",
                 "posix.system": "process", "posix.fork": "process", "posix.kill": "process"}  # fmt: skip
"""Functions of `os` that are those of `posix`."""

_PURE: Final = frozenset((
    "random.Random", "uuid.UUID", "socket.gaierror", "posix.fspath", "concurrent.futures._base.CancelledError",
))  # fmt: skip


def found(function: SagaFunction) -> Iterator[Finding]:
    for use in function.uses:
        rule = _rule_of(use)
        if rule is not None:
            shown = ast.unparse(use.node)
            yield error(
                rule.code, f"`{shown}`: {rule.why}", rule.cure, place=function.place(use.node), saga=function.saga
            )
        elif use.name == "builtins.print":
            what, cure = (
                "`print` says it again in each replay",
                "use `ctx.log`, which is silent while a saga is replayed",
            )
            yield warning("print", what, cure, place=function.place(use.node), saga=function.saga)
    yield from _executors(function)


def _executors(function: SagaFunction) -> Iterator[Finding]:
    for node in function.nodes:
        if isinstance(node, ast.Attribute) and node.attr == "run_in_executor":
            what = "`run_in_executor`: what a thread does is in no history"
            yield error("thread", what, _IN_AN_ACTIVITY, place=function.place(node), saga=function.saga)


def _rule_of(use: Use) -> _Outside | None:
    name = use.name
    if name == "random.Random" and use.call is not None and not use.call.args and not use.call.keywords:
        return _BY_CODE["random"]  # seeded by chance
    if name in _PURE or ("()" in name and not name.startswith("pathlib.")):
        return None
    if name.startswith("pathlib.Path"):
        is_asked = name.rpartition(".")[2] in {*_OF_PATHS, "cwd", "home"}
        return _BY_CODE["file"] if is_asked else None
    if name in _POSIX:
        return _BY_CODE[_POSIX[name]]
    return next((rule for rule in RULES if _is_one_of(name, rule.names)), None)


def _is_one_of(name: str, names: Sequence[str]) -> bool:
    return any(
        name.startswith(one) if one.endswith((".", "_")) else name == one or name.startswith(f"{one}.") for one in names
    )


_BY_CODE: Final = {rule.code: rule for rule in RULES}
