"""What all tests share."""

from hypothesis import settings

from tests.support.kafka import which_kafka

settings.register_profile("long", max_examples=3000, deadline=None)


def pytest_report_header() -> str:
    return which_kafka()
