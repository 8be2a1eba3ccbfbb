"""The publisher without what makes it stand back, for tests that wait for it.

It takes its share of the processor as anything else does, and gives a record up after three seconds instead of twenty.

    python -m tests.support.eager_publisher FOLDER BOOTSTRAP SECURITY GROUP [TOPIC ...]
"""

import sys
from dataclasses import replace

from epistream.services.kafka import publisher


def main(*arguments: str) -> None:
    """As `publisher.main`."""
    publisher._LIMITS = replace(publisher._LIMITS, delivery_timeout_seconds=3.0)  # type: ignore[misc]
    publisher._yield_to_others = lambda: None
    publisher.main(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
