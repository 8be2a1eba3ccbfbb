"""The pipeline alone, without a service: an engine with the namespace of the benchmarks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.records import ENCODER, NAMESPACE
from epistream.indexer.engine import Engine
from epistream.v1 import namespace_service_pb2 as ns


@contextmanager
def new_engine(folder: Path) -> Iterator[Engine]:
    """Over a new store in `folder`; closed in the end."""
    engine = Engine(folder)
    try:
        engine.namespaces.create(ns.CreateNamespaceRequest(name=NAMESPACE, encoder=ENCODER))
        yield engine
    finally:
        engine.close()
