"""What all tests have: the real parts, a last word on what was left out, and no limit of time on an example."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.rings", "tests.support.real", "tests.support.reports"]
collect_ignore = ["house/user_project"]  # a user's project: checked, not run

# On a busy machine any example may take long: that says nothing of the code.
settings.register_profile("sagabus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sagabus")
