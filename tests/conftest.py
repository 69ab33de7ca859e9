"""What all tests have: the real parts, and a last word on what was left out."""

pytest_plugins = ["tests.support.rings", "tests.support.real", "tests.support.reports"]
collect_ignore = ["house/user_project"]  # a user's project: checked, not run
