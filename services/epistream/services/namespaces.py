"""The servicer of `epistream.v1.NamespaceService`."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from epistream.indexer.namespaces import Namespaces
from epistream.services.calls import Call, Calls, Handler
from epistream.services.writer import Writer
from epistream.v1 import namespace_service_pb2 as api

SERVICE: Final = api.DESCRIPTOR.services_by_name["NamespaceService"].full_name


class NamespaceServicer:
    """Changes run on the writer thread, questions on the readers."""

    def __init__(self, namespaces: Namespaces, writer: Writer, readers: Executor) -> None:
        self._namespaces, self._writer, self._readers = namespaces, writer, readers

    def handlers(self, calls: Calls) -> dict[str, Handler]:
        """The service's methods."""
        return {
            "CreateNamespace": calls.unary(
                "NamespaceService/CreateNamespace", api.CreateNamespaceRequest.FromString, self._create
            ),
            "GetNamespace": calls.unary("NamespaceService/GetNamespace", api.GetNamespaceRequest.FromString, self._get),
            "ListNamespaces": calls.unary(
                "NamespaceService/ListNamespaces", api.ListNamespacesRequest.FromString, self._list
            ),
            "ListPolicies": calls.unary(
                "NamespaceService/ListPolicies", api.ListPoliciesRequest.FromString, self._policies
            ),
            "UpdatePolicy": calls.unary(
                "NamespaceService/UpdatePolicy", api.UpdatePolicyRequest.FromString, self._update
            ),
        }

    async def _create(self, request: api.CreateNamespaceRequest, _: Call) -> bytes:
        made = await asyncio.wrap_future(self._writer.run(lambda: self._namespaces.create(request)))
        return api.CreateNamespaceResponse(namespace=made).SerializeToString()

    async def _update(self, request: api.UpdatePolicyRequest, _: Call) -> bytes:
        changed = await asyncio.wrap_future(self._writer.run(lambda: self._namespaces.update_policy(request)))
        return api.UpdatePolicyResponse(namespace=changed).SerializeToString()

    async def _get(self, request: api.GetNamespaceRequest, _: Call) -> bytes:
        return await self._read(
            lambda: api.GetNamespaceResponse(namespace=self._namespaces.get(request.name)).SerializeToString()
        )

    async def _policies(self, request: api.ListPoliciesRequest, _: Call) -> bytes:
        return await self._read(lambda: self._namespaces.policies(request).SerializeToString())

    async def _list(self, _request: api.ListNamespacesRequest, call: Call) -> bytes:
        listed = await asyncio.get_running_loop().run_in_executor(self._readers, self._namespaces.list)
        seen = [namespace for namespace in listed if call.caller.may_see(call.rule, namespace.name)]
        return api.ListNamespacesResponse(namespaces=seen).SerializeToString()

    async def _read(self, answer: Callable[[], bytes]) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._readers, answer)
