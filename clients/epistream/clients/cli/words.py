"""What others said, as it is printed: text that a terminal shows and does not obey, and JSON for programs.

Whatever a command prints of the service's words becomes a `Text` by `words`, and by nothing else.
"""

import math
from typing import TYPE_CHECKING

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

from epistream.wire.printable import printable, printable_json

if TYPE_CHECKING:
    from rich.text import Text


def words(text: str, style: str = "") -> "Text":
    """Somebody's words as they are: no markup, no emoji by name, and no control sequences."""
    from rich.text import Text

    return Text(printable(text), style)


def json_line(message: Message) -> str:
    """A message in protobuf's JSON form on one line. A number that JSON cannot say is null."""
    from google.protobuf.json_format import MessageToJson, SerializeToJsonError

    def said(one: Message) -> str:
        return MessageToJson(one, indent=None, preserving_proto_field_name=True, ensure_ascii=False)

    try:
        text = said(message)
    except SerializeToJsonError:  # a store may be older than the rule that refuses such numbers
        text = said(_with_finite_numbers(message))
    return printable_json(text)


def _with_finite_numbers(message: Message) -> Message:
    """A copy with null for each `Value` of a number that is none."""
    copy = type(message)()
    copy.CopyFrom(message)
    remaining: list[Message] = [copy]
    while remaining:
        one = remaining.pop()
        if isinstance(one, Value) and not math.isfinite(one.number_value):
            one.null_value = 0  # type: ignore[assignment] # the enum's only value
        for field, value in one.ListFields():
            if field.message_type is not None:
                parts = [value] if isinstance(value, Message) else value.values() if hasattr(value, "values") else value
                remaining += [part for part in parts if isinstance(part, Message)]
    return copy
