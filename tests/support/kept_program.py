"""A program for a keeper to keep: it tells what it hears, and does what that says."""

import logging
import os
import sys
import time

from epistream.services.kafka.keeper import Service


def main(*arguments: str) -> None:
    """Run until the service stops it."""
    if "print" in arguments:
        print("before the service listens")
    service = Service()
    print("after")
    service.tell(began=[*arguments])
    for heard in service.heard():
        match heard:
            case "crash":
                sys.exit(7)
            case "log":
                logging.getLogger("anything").warning("from the program")
            case "hang":
                service.tell(hangs=True)
                time.sleep(600)
            case "large":
                service.tell(large=os.urandom(8_000_000))
                sys.exit(0)
            case _:
                service.tell(heard=heard)


if __name__ == "__main__":
    main(*sys.argv[1:])
