"""`epistream verify`, for people and for programs."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from google.protobuf.json_format import Parse, ParseError

from epistream.services.execution.verdict import Result, Verdict
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import InvalidInput
from epistream.wire.printable import printable


def verify_command(file: Path, bubblewrap: Path | None, *, allow_none: bool, as_json: bool) -> bool:
    """Verify the code of a submission and print the result.

    Returns:
        Whether it is verified.

    Raises:
        InvalidInput: the file is no submission of code.
        NoIsolation: there is no sandbox here, and none is not allowed.
    """
    submission = _read(file)
    result = Verifier.find(bubblewrap, allow_none=allow_none).verify(submission.content, submission.tests)
    if as_json:
        print(json.dumps({**asdict(result), "kill_rate": result.kill_rate}))
    else:
        for line in _told(result):
            print(printable(line))
    return result.verdict == Verdict.VERIFIED


def _read(file: Path) -> pb.Submission:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        submission = Parse(text, pb.Submission())
    except (OSError, ValueError, ParseError) as error:
        raise InvalidInput.at("file", f"no submission in JSON can be read from {file}: {error}") from error
    if submission.modality != pb.MODALITY_CODE:
        raise InvalidInput.at("modality", "only the code of MODALITY_CODE can be verified")
    return submission


def _told(result: Result) -> Iterator[str]:
    yield f"{result.verdict}: {result.reason}"
    for failed in result.failed:
        yield f"  {failed.test}: {failed.verdict}: {failed.reason}"
    rate = "" if result.kill_rate is None else f", {result.killed} of {result.mutants} mutants noticed"
    yield f"{result.seconds:.2f} s{rate}, Python {result.interpreter or '-'}, isolation: {result.isolation}"
    if result.output:
        yield f"it wrote:\n{result.output}"
