"""What exceptions and authors say, as text that may stand in JSON, in a table and in a log.

An exception may be anybody's: its `__str__` may fail, its text may hold half a character or a whole web page. Both
sides tell of exceptions, and neither may be stopped by one.
"""

from __future__ import annotations

from typing import Final

MAX_WORDS: Final = 4_000
"""Characters of a reason or message. Longer ones are somebody's whole statement or page, and events have a limit."""


def plain(text: str, *, most: int = MAX_WORDS) -> str:
    """The text without lone surrogates, and with an end. most: characters, 100 at least."""
    if len(text) > most:
        text = f"{text[: most - 40]}… ({len(text)} characters)"
    return text.encode(errors="replace").decode()


def words_of(said: object, *, most: int = MAX_WORDS) -> str:
    """What an exception, or any other value, says of itself. It may be an author's own, whose `__str__` fails.

    Raises nothing but KeyboardInterrupt.
    """
    try:
        return plain(str(said), most=most)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:
        return f"(it does not say: {type(fault).__name__})"
