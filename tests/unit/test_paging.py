"""How much of an answer is sent at a time."""

from collections.abc import Iterator

import pytest

from epistream.indexer.paging import fitting
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api


@pytest.mark.parametrize(
    ("bytes_max", "count", "taken"), [(10_000, 9, 10), (2_000, 1, 2), (500, 1, 2), (10**6, 20, 20)]
)
def test_rows_are_taken_until_an_answer_is_full(bytes_max: int, count: int, taken: int) -> None:
    asked = []

    def rows() -> Iterator[pb.Change]:
        for revision in range(1, 21):
            asked.append(revision)
            yield pb.Change(revision=revision, item_id="i" * 1000)

    page = fitting(rows(), bytes_max)
    assert [change.revision for change in page] == [*range(1, count + 1)]
    assert len(asked) == taken
    answer = api.HistoryResponse(changes=page, revision=2**64 - 1)
    assert answer.ByteSize() <= bytes_max or len(page) == 1
