"""What a test hears when something is not as it says: failures of the test, in words."""

from __future__ import annotations


class ReplayDiffers(AssertionError):
    """The saga's code decides otherwise when it is run again on its own history. A coordinator would stop this saga."""

    def __init__(self, saga_id: str, words: str) -> None:
        super().__init__(f"saga {saga_id} is not the same in a replay: {words}")


class NoAnswer(AssertionError):
    """The saga asks for what the test has no answer to."""


class NotEnded(AssertionError):
    """The saga does not end, however long it is waited for."""


class Unexpected(AssertionError):
    """The saga does something else than the test expects."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}; found {found}")
