"""Every method of every service of the protos, found by its descriptor."""

from importlib import import_module
from pathlib import Path
from typing import Final

from google.protobuf.descriptor import MethodDescriptor

PROTOS: Final = Path(__file__).parents[2] / "proto" / "epistream" / "v1"


def _methods() -> dict[str, MethodDescriptor]:
    found = {}
    for proto in sorted(PROTOS.glob("*.proto")):
        module = import_module(f"epistream.v1.{proto.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                found[f"{service.name}/{method.name}"] = method
    return found


METHODS: Final = _methods()
"""By their names, such as `KnowledgeService/Get`."""
