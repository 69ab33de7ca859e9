"""What all tests have: the real parts, a last word on what was left out, and examples that are the same each time."""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.rings", "tests.support.real", "tests.support.reports"]
collect_ignore = ["house/user_project"]  # a user's project: checked, not run

# On a busy machine any example may take long: that says nothing of the code. The same tree has the same verdict, so the
# examples of `repeatable` are the same in each run; `explore` looks for new ones (tests/README.md).
_SLOW = [HealthCheck.too_slow]
settings.register_profile("repeatable", deadline=None, suppress_health_check=_SLOW, derandomize=True)
settings.register_profile("explore", deadline=None, suppress_health_check=_SLOW)
settings.load_profile("repeatable")

# A worker of pytest-xdist has it: lists would be cut to that width there, and not where a test runs alone.
os.environ.pop("COLUMNS", None)
