"""Runs inside the image, as its user: starts the service as the pod would, uses it, and stops it. Prints what was so.

python inside.py HEALTH_PORT ENCODER SOURCES COMMAND...
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

STATEMENT = "The image answers what it was told."
DATA_SET = Path(__file__).with_name("humaneval.parquet")
READY = "epistream.v1.KnowledgeService"
PATIENCE_SECONDS = 240.0


def main(health_port: str, encoder: str, sources: str, *command: str) -> int:
    """Every check, one line each; 1 at the first that fails."""
    service = subprocess.Popen(command)
    try:
        for line in _checks(int(health_port), encoder, sources, service):
            print(f"  ok    {line}", flush=True)
    except (AssertionError, subprocess.CalledProcessError, grpc.RpcError) as error:
        print(f"  WRONG {error!r}", flush=True)
        return 1
    finally:
        service.kill()
    return 0


def _checks(health_port: int, encoder: str, sources: str, service: "subprocess.Popen[bytes]") -> Iterator[str]:
    yield f"runs as {os.getuid()}:{os.getgid()}, not as root: {_not_root()}"
    yield f"cannot write to {', '.join(_read_only())}"
    version = subprocess.run(["bwrap", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    yield f"has {version} for the sandbox"
    for name in ("", READY):
        _wait_healthy(health_port, name, service)
        yield f"gRPC health on port {health_port} says SERVING for {name!r}"
    yield from _used(encoder)
    yield _imported(sources)
    yield f"the service's peak of resident memory: {_peak_mebibytes(service.pid)} MiB"
    service.send_signal(signal.SIGTERM)
    code = service.wait(60)
    assert code == 0, f"exit code {code} after SIGTERM"
    yield "SIGTERM ends it with exit code 0"


def _used(encoder: str) -> Iterator[str]:
    """Knowledge in, and out again: by the packaged model, or with vectors of one's own where there is none."""
    if encoder == "none":
        _epistream("namespaces", "create", "check", "--encoder", "none", "--dimension", "3", "--own-vectors")
    else:
        _epistream("namespaces", "create", "check")
    line: dict[str, Any] = {"item_id": "fact", "content": STATEMENT}
    if encoder == "none":
        line |= {"embedding": {"values": [1.0, 2.0, 2.0]}}
    arguments = ["-", "-n", "check", "-o", "expert", "-p", "image-check", "--timeout", str(PATIENCE_SECONDS), "--json"]
    receipt = json.loads(_epistream("submit", *arguments, given=json.dumps(line)))
    assert receipt["outcome"] == "OUTCOME_ADMITTED", receipt
    yield f"a submitted statement is admitted{'' if encoder == 'none' else ', with a vector from the packaged model'}"
    if encoder != "none":
        assert STATEMENT in _epistream("search", "What does the image answer?", "-n", "check", "--json")
        yield "a search for its sense finds it"
    assert STATEMENT in _epistream("get", "fact", "-n", "check", "--json")
    yield "it is read back"


def _imported(sources: str) -> str:
    """A published data set in Parquet is read where the image has what reads it, and only there."""
    command = ["epistream", "import", "humaneval", str(DATA_SET), "--dry-run"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if sources == "yes":
        assert done.returncode == 0, done.stderr
        (item,) = map(json.loads, done.stdout.splitlines())
        assert item["item_id"].startswith("humaneval:"), item
        return "`epistream import` reads a published data set in Parquet"
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Reading Parquet needs pyarrow" in done.stderr, done.stderr
    return "`epistream import` of Parquet says what is left out"


def _not_root() -> bool:
    assert os.getuid() > 10000, os.getuid()
    return True


def _read_only() -> list[str]:
    folders = ["/", "/etc", "/opt/epistream/bin", sys.prefix]
    for folder in folders:
        try:
            Path(folder, "written").touch()
        except OSError:
            continue
        raise AssertionError(f"{folder} can be written")
    return folders


def _wait_healthy(port: int, name: str, service: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and service.poll() is None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                request = health_pb2.HealthCheckRequest(service=name)
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                time.sleep(0.2)
    raise AssertionError(f"not healthy: {name!r}, exit code {service.poll()}")


def _epistream(*arguments: str, given: str = "") -> str:
    done = subprocess.run(["epistream", *arguments], check=False, capture_output=True, text=True, input=given)
    assert done.returncode == 0, f"epistream {arguments[0]}: exit code {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout


def _peak_mebibytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("the kernel tells no VmHWM")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
