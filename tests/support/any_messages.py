"""Made-up messages of any kind, for hypothesis: every field may be there or not, and hold whatever its type can."""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

DEPTH_MAX: Final = 5
"""Of messages in each other; deeper ones are left out."""
_REPEATED_MAX: Final = 3
_INT32: Final = st.one_of(st.integers(-1, 9), st.integers(-(2**31), 2**31 - 1))
_INT64: Final = st.one_of(st.integers(-1, 9), st.integers(-(2**63), 2**63 - 1))
_UINT32: Final = st.one_of(st.integers(0, 9), st.integers(0, 2**32 - 1))
_UINT64: Final = st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))
_SCALARS: Final[dict[int, st.SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=70),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_STRING: st.text(st.characters(codec="utf-8"), max_size=20),
}

Named = Mapping[str, st.SearchStrategy[Any]]
"""What fields of these names, or messages of these full names, hold as often as anything else: so that what is sent
gets further than to the first check."""


def messages(kind: Descriptor, named: Named, depth: int = DEPTH_MAX) -> st.SearchStrategy[Message]:
    """Messages of a kind."""
    made: type[Message] = message_factory.GetMessageClass(kind)
    fields = {
        field.name: _value(field, named, depth)
        for field in kind.fields
        if depth > 1 or field.type != FieldDescriptor.TYPE_MESSAGE
    }
    any_one = st.fixed_dictionaries({}, optional=fields).map(lambda values: made(**values))
    return st.one_of(named[kind.full_name], any_one) if kind.full_name in named else any_one


def _value(field: FieldDescriptor, named: Named, depth: int) -> st.SearchStrategy[Any]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key, value = (_single(entry.fields_by_name[part], named, depth) for part in ("key", "value"))
        return st.dictionaries(key, value, max_size=_REPEATED_MAX)
    single = _single(field, named, depth)
    return st.lists(single, max_size=_REPEATED_MAX) if field.is_repeated else single


def _single(field: FieldDescriptor, named: Named, depth: int) -> st.SearchStrategy[Any]:
    if (kind := field.message_type) is not None:
        return st.deferred(lambda: messages(kind, named, depth - 1))
    if field.enum_type is not None:
        return st.one_of(st.sampled_from([value.number for value in field.enum_type.values]), _INT32)
    scalar = _SCALARS[field.type]
    return st.one_of(named[field.name], scalar) if field.name in named else scalar
