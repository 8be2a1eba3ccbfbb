"""What all tests share."""

from tests.support.fuzzing import register_profiles
from tests.support.kafka import which_kafka

register_profiles()


def pytest_report_header() -> str:
    return which_kafka()
