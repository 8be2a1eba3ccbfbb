"""What all tests share."""

from hypothesis import HealthCheck, settings

from tests.support.kafka import which_kafka

# On a busy machine any example may be slow: that is for bench to measure.
settings.register_profile("any pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any pace")
settings.register_profile("long", max_examples=3000)


def pytest_report_header() -> str:
    return which_kafka()
