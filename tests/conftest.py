"""What all tests share."""

from tests.support.kafka import which_kafka


def pytest_report_header() -> str:
    return which_kafka()
