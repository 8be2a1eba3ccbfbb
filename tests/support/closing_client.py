"""A process that opens and closes clients which show a token, one after the other.

python -m tests.support.closing_client ADDRESS ROUNDS
"""

import asyncio
import sys

from epistream.clients import Credentials, KnowledgeClient


async def _ask(address: str) -> None:
    shown = Credentials(token="secret")
    async with KnowledgeClient(address, credentials=shown) as one, KnowledgeClient(address, credentials=shown) as other:
        await asyncio.gather(one.search("tests", "anything"), other.search("tests", "anything"))


def _main(address: str, rounds: str) -> None:
    for _ in range(int(rounds)):
        asyncio.run(_ask(address))
    print(rounds)


if __name__ == "__main__":
    _main(*sys.argv[1:])
