"""The word that somebody most likely meant: what other tools call it, its beginning, or a slip of the pen.

Pure. It knows no commands: the words that there are come as an argument, so a synonym of one that is not there is none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

MOST: Final = 2
"""Words that are named: more of them are a list to read."""

CLOSE: Final = 0.6
"""Of 1 for equal words; difflib's own measure of what people take for a slip."""

COMMANDS: Final[Mapping[str, Sequence[str]]] = {
    "abort": ["cancel"], "ack": ["acknowledge"], "admin": ["doctor"], "answer": ["complete"],
    "approve": ["event", "complete"], "begin": ["start"], "check": ["doctor"], "compensate": ["cancel"],
    "completions": ["completion"], "consumer": ["participant"], "continue": ["resume"], "create": ["start", "init"],
    "db": ["migrate"], "dead": ["dead-letters"], "deadletters": ["dead-letters"], "delete": ["cancel", "drop"],
    "describe": ["show"], "diagnose": ["doctor"], "dlq": ["dead-letters"], "emit": ["event"],
    "end": ["cancel", "terminate"], "example": ["demo"], "exec": ["start"], "execute": ["start"], "find": ["list"],
    "finish": ["complete"], "follow": ["watch", "show"], "get": ["show", "list"], "healthcheck": ["health"],
    "help": ["--help"], "history": ["show"], "hold": ["pause"], "ignore": ["skip"], "info": ["show"],
    "inspect": ["show"], "invoke": ["start"], "kill": ["cancel", "terminate"], "launch": ["start"], "log": ["show"],
    "logs": ["show"], "ls": ["list"], "new": ["init", "start"], "notify": ["event"], "ping": ["health"], "ps": ["list"],
    "publish": ["event"], "purge": ["drop"], "query": ["list", "show"], "ready": ["health"], "redo": ["retry"],
    "redrive": ["replay"], "remove": ["drop", "cancel"], "requeue": ["replay"], "rerun": ["retry"],
    "resend": ["replay", "retry"], "resolve": ["acknowledge"], "rm": ["drop", "cancel"], "rollback": ["cancel"],
    "run": ["start", "dev"], "sagas": ["list"], "scaffold": ["init"], "search": ["list"], "send": ["event"],
    "serve": ["coordinator", "dev"], "server": ["coordinator", "dev"], "setup": ["migrate", "topics"],
    "signal": ["event"], "stat": ["show"], "state": ["show"], "status": ["show"], "stop": ["cancel"],
    "submit": ["start"], "suspend": ["pause"], "tail": ["watch", "show"], "top": ["list"], "trace": ["show"],
    "trigger": ["start"], "undo": ["cancel"], "unpause": ["resume"], "up": ["dev"], "upgrade": ["migrate"],
    "validate": ["doctor"], "version": ["--version"], "view": ["show"], "worker": ["participant", "coordinator"],
}  # fmt: skip
"""What other tools, and other verbs here, call it: the best first. Those of `dead-letters` are among them."""

OPTIONS: Final[Mapping[str, Sequence[str]]] = {
    "-a": ["--all", "--attention"], "-d": ["--data"], "-f": ["--folder", "--input"], "-i": ["--input", "--id"],
    "-j": ["--json"], "-m": ["--reason"], "-n": ["--limit", "--name"], "-o": ["--json"], "-s": ["--status"],
    "-t": ["--timeout"], "-v": ["--version"], "-w": ["--wait"], "--args": ["--input"], "--body": ["--input", "--data"],
    "--clean": ["--fresh"], "--comment": ["--reason"], "--count": ["--limit"], "--data": ["--input"],
    "--dir": ["--folder"], "--directory": ["--folder"], "--events": ["--history"], "--file": ["--input", "--data"],
    "--format": ["--json"], "--input": ["--data"], "--key": ["--id"], "--log": ["--history"], "--max": ["--limit"],
    "--message": ["--reason"], "--name": ["--saga"], "--output": ["--json"], "--payload": ["--input", "--data"],
    "--reset": ["--fresh"], "--result": ["--output"], "--state": ["--status"], "--steps": ["--history"],
    "--sync": ["--wait"], "--type": ["--saga"], "--user": ["--actor"], "--verbose": ["--history"], "--who": ["--actor"],
    "--why": ["--reason"], "--workflow-id": ["--id"],
}  # fmt: skip
"""The same for options."""


def nearest(word: str, known: Collection[str], synonyms: Mapping[str, Sequence[str]]) -> list[str]:
    """Of the known words those that may be meant, the likeliest first; at most `MOST`, perhaps none."""
    lower = word.lower()
    meant = [one for one in synonyms.get(lower, ()) if one in known]
    begun = [one for one in sorted(known) if len(_bare(lower)) > 1 and one.startswith(lower)]
    return [*dict.fromkeys([*meant, *begun])][:MOST] or _close(lower, known)


def did_you_mean(meant: Sequence[str]) -> str:
    """The end of a sentence that has said what there is not; empty for no words."""
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def _close(word: str, known: Collection[str]) -> list[str]:
    """Dashes are no likeness: all options have them."""
    from difflib import get_close_matches

    bare = {_bare(one): one for one in sorted(known)}
    return [bare[one] for one in get_close_matches(_bare(word), [*bare], n=MOST, cutoff=CLOSE)]


def _bare(word: str) -> str:
    return word.lstrip("-")
