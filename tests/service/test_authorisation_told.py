"""What is told of calls and to whom: the metrics, and the audit log."""

import asyncio
import time

import psutil
import pytest

from epistream.v1 import namespace_service_pb2 as ns_pb
from epistream.wire.errors import Denied
from tests.support.every_call import subscribe
from tests.support.rpc import Client, failure_of, submission
from tests.support.secured import Secured, metrics
from tests.support.waits import until


async def test_the_metrics_are_for_whoever_may_monitor_everything(secured: Secured, root: Client) -> None:  # noqa: ARG001
    page = await metrics(secured, "root")
    assert "epistream_tls_certificate_not_after_timestamp_seconds" in page
    for token in (None, "nobody", "read-a", "admin-a", "monitor-a"):
        with pytest.raises(OSError, match="401"):
            await metrics(secured, token)
    page = await metrics(secured, "root")
    assert 'epistream_auth_failures_total{reason="unauthenticated"}' in page
    lines = [line for line in secured.audit() if line["method"] == "metrics"]
    assert {(line["principal"], line["code"]) for line in lines} >= {
        (None, "UNAUTHENTICATED"),
        ("read-a", "PERMISSION_DENIED"),
        ("monitor-a", "PERMISSION_DENIED"),
    }
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in lines)


async def test_the_audit_log_says_who_did_what_and_holds_no_knowledge(secured: Secured, root: Client) -> None:
    await root.submit(submission("a", 81, content="The secret ingredient is salt."))
    async with secured.client("read-b") as client:
        await failure_of(client.submit(submission("a", 82)))
    async with secured.client("eyJhbGciOiJub25lIn0.e30.") as client:
        await failure_of(client.submit(submission("a", 82)))
    async with secured.client("watch-a") as client:
        await subscribe(client, "a")
    ended = ("SyncService/Subscribe", "CANCELLED")
    await until(lambda: ended in [(line["method"], line["code"]) for line in secured.audit()])
    lines = secured.audit()
    [written] = [
        line
        for line in lines
        if line["method"] == "IngestService/Submit"
        and line.get("outcomes") == {"ADMITTED": 1}
        and line["principal"] == "root"
        and line["time"] >= lines[-20 if len(lines) > 20 else 0]["time"]
    ][-1:]
    assert written["code"] == "OK"
    assert written["revisions"]["a"] >= 1
    assert written["peer"].startswith("ipv4:127.0.0.1:")
    assert any(line["principal"] == "read-b" and line["code"] == "PERMISSION_DENIED" for line in lines)
    assert any(line["principal"] is None and line["code"] == "UNAUTHENTICATED" for line in lines)
    opened = [line for line in lines if line["code"] == "OPENED" and line["principal"] == "watch-a"]
    assert opened[-1]["namespace"] == "a"
    assert opened[-1]["consumer"] == "model"
    text = (secured.folder / "audit.jsonl").read_text()
    assert "salt" not in text
    assert "eyJ" not in text


async def test_who_is_denied_leaves_nothing_behind_however_much_was_sent(secured: Secured, root: Client) -> None:  # noqa: ARG001
    process = psutil.Process(secured.service.pid)
    large = ns_pb.GetNamespaceRequest(name="x" * 15_000_000)
    async with secured.client("nobody") as unknown, secured.client("read-a") as denied:
        for client in (unknown, denied):
            await failure_of(client.namespaces.GetNamespace(large))
        before, log = process.memory_info().rss, (secured.folder / "audit.jsonl").stat().st_size
        for _ in range(15):
            for client in (unknown, denied):
                assert isinstance(await failure_of(client.namespaces.GetNamespace(large)), Denied)
    assert process.memory_info().rss - before < 200 * 2**20, "450 MB were sent"
    assert (secured.folder / "audit.jsonl").stat().st_size - log < 20_000


async def test_callers_whom_nobody_knows_cannot_fill_the_audit_log(secured: Secured, root: Client) -> None:  # noqa: ARG001
    before = len(secured.audit())
    async with secured.client("nobody") as client:
        calls = [failure_of(client.namespaces.ListNamespaces(ns_pb.ListNamespacesRequest())) for _ in range(500)]
        begun = time.monotonic()
        assert all(isinstance(error, Denied) for error in await asyncio.gather(*calls))
        seconds = time.monotonic() - begun
    lines = [line for line in secured.audit()[before:] if line["principal"] is None]
    assert 1 <= len(lines) <= 10 * (seconds + 2)
