"""The publisher without what makes it stand back, for tests that wait for it.

It takes its share of the processor as anything else does. It gives a record up after as many seconds as the environment
says, for tests in which Kafka is away; without that after as many as ever.

    python -m tests.support.eager_publisher FOLDER BOOTSTRAP SECURITY GROUP [TOPIC ...]
"""

import os
import sys
from dataclasses import replace
from typing import Final

from epistream.services.kafka import publisher

PATIENCE_VARIABLE: Final = "PUBLISHER_PATIENCE_SECONDS"


def main(*arguments: str) -> None:
    """As `publisher.main`."""
    patience = float(os.environ.get(PATIENCE_VARIABLE, publisher._LIMITS.delivery_timeout_seconds))
    publisher._LIMITS = replace(publisher._LIMITS, delivery_timeout_seconds=patience)  # type: ignore[misc]
    publisher._yield_to_others = lambda: None
    publisher.main(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
