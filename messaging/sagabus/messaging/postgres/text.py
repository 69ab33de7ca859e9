"""Text that PostgreSQL takes, whoever has chosen it. A text that is refused would stop its shard."""

from __future__ import annotations


def storable(text: str) -> str:
    """NUL becomes U+FFFD, a lone surrogate becomes `?`. All else stays as it is."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
