"""The servicer of `epistream.v1.KnowledgeService`."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from google.protobuf.message import Message

from epistream.indexer.knowledge import Knowledge
from epistream.services.calls import Call, Calls, Handler
from epistream.services.security.rules import RULES
from epistream.v1 import knowledge_service_pb2 as api

SERVICE: Final = api.DESCRIPTOR.services_by_name["KnowledgeService"].full_name

_OF_REVIEWERS: Final = RULES["ReviewService/GetReview"]
"""What reviewers say of a submission is for whoever may see its review."""

_Request = TypeVar("_Request", bound=Message)


class KnowledgeServicer:
    """Every question runs on the readers, its answer's encoding included."""

    def __init__(self, knowledge: Knowledge, readers: Executor) -> None:
        self._knowledge, self._readers = knowledge, readers

    def handlers(self, calls: Calls) -> dict[str, Handler]:
        """The service's methods."""
        known = self._knowledge
        return {
            "Get": calls.unary("KnowledgeService/Get", api.GetRequest.FromString, self._asking(known.get)),
            "History": calls.unary(
                "KnowledgeService/History", api.HistoryRequest.FromString, self._asking(known.history)
            ),
            "Search": calls.unary("KnowledgeService/Search", api.SearchRequest.FromString, self._asking(known.search)),
            "Diff": calls.unary("KnowledgeService/Diff", api.DiffRequest.FromString, self._asking(known.diff)),
            "ListFeedback": calls.unary(
                "KnowledgeService/ListFeedback", api.ListFeedbackRequest.FromString, self._asking(known.list_feedback)
            ),
            "Explain": calls.unary("KnowledgeService/Explain", api.ExplainRequest.FromString, self._explain),
            "ListAlarms": calls.unary(
                "KnowledgeService/ListAlarms", api.ListAlarmsRequest.FromString, self._asking(known.list_alarms)
            ),
            "ListSignals": calls.unary(
                "KnowledgeService/ListSignals", api.ListSignalsRequest.FromString, self._asking(known.list_signals)
            ),
        }

    async def _explain(self, request: api.ExplainRequest, call: Call) -> bytes:
        reviews = call.caller.may_see(_OF_REVIEWERS, request.namespace)

        def explained() -> bytes:
            answer = self._knowledge.explain(request)
            for one in () if reviews else answer.explanations:
                one.ClearField("decided_by")
                one.ClearField("comment")
            return answer.SerializeToString()

        return await asyncio.get_running_loop().run_in_executor(self._readers, explained)

    def _asking(self, ask: Callable[[_Request], Message]) -> Callable[[_Request, Call], Awaitable[bytes]]:
        async def answer(request: _Request, _: Call) -> bytes:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, lambda: ask(request).SerializeToString())

        return answer
