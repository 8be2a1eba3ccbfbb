"""A replica in a process of its own, to be killed: `python -m tests.support.replica_process FILE ADDRESS`.

It follows the service until its input is closed, and prints every revision that it has applied.
"""

import asyncio
import sys

from epistream.clients import Replica


async def follow(path: str, address: str) -> None:
    revision = -1
    async with Replica.open(path, address, "tests", "killed", progress_interval_seconds=0.1) as replica:
        await replica.wait_current()
        while replica.error is None:
            if replica.revision != revision:
                revision = replica.revision
                print(revision, flush=True)
            await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], sys.argv[2]))
