"""A client that knows nothing of Epistream but the names of two methods: the messages come from server reflection.

`python reflecting_client.py HOST:PORT NAMESPACE [NUMBER …]` lists the namespaces, searches one by a vector of these
numbers, and prints what it was told as one JSON object.
"""

import json
import sys
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]
    ProtoReflectionDescriptorDatabase,
)


class Service:
    """The methods of a service, as the server describes them."""

    def __init__(self, channel: grpc.Channel, pool: DescriptorPool, name: str) -> None:
        self._channel, self._descriptor = channel, pool.FindServiceByName(name)

    def call(self, method: str, **fields: object) -> Any:
        """The answer to a request with these fields."""
        described = self._descriptor.methods_by_name[method]
        request, response = GetMessageClass(described.input_type), GetMessageClass(described.output_type)
        call: Any = self._channel.unary_unary(
            f"/{self._descriptor.full_name}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request(**fields), timeout=20)


def main(address: str, namespace: str, *numbers: str) -> None:
    """Ask, and print what was answered."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        listed = Service(channel, pool, "epistream.v1.NamespaceService").call("ListNamespaces")
        answer = Service(channel, pool, "epistream.v1.KnowledgeService").call(
            "Search", namespace=namespace, vector={"values": [float(number) for number in numbers]}, limit=1
        )
        seen = {
            "services": sorted(database.get_services()),
            "namespaces": MessageToDict(listed)["namespaces"],
            "hits": MessageToDict(answer)["hits"],
            "modules_of_ours": [name for name in sys.modules if name.startswith("epistream")],
        }
        print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
