"""What a submission's fields may hold, as the contract says: the service checks it, and clients keep to it."""

import re
from datetime import UTC, datetime
from typing import Final

SUBMISSION_BYTES_MAX: Final = 1024 * 1024
"""Of all of it, as protobuf, or as JSON where it comes so."""
CONTENT_BYTES_MAX: Final = 256 * 1024
"""Of a content, and of a prompt, in UTF-8."""
ID_CHARACTERS_MAX: Final = 200
"""Of a submission id, an item id, a producer's name; and of a generator's, a licence's and a rater's."""
ADDRESS_CHARACTERS_MAX: Final = 2000
"""Of a source and of a URI."""
PARENTS_MAX: Final = 64
FURTHER_MEDIA_MAX: Final = 64
SPAN_SECONDS_MAX: Final = 1_000_000_000
"""Of a part of a recording."""
TESTS_MAX: Final = 1000
"""Of asserts, and of cases."""
DETAILS_BYTES_MAX: Final = 64 * 1024
VALUE_CHARACTERS_MAX: Final = 1000
"""Of an attribute's value."""
TIME_END: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""Times are from 1970 to before this."""
PLACE_MAX: Final = 2**32 - 1
"""Of a ranking, which has as many items as fit into its submission."""
RATIONALE_BYTES_MAX: Final = 64 * 1024
WORD_CHARACTERS_MAX: Final = 100
"""Of a rater's aspect and degree, an attribute's key, and the role of an image or video."""
REASON_CHARACTERS_MAX: Final = 1000
"""Of a producer's reason why it could not read something."""

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What no name has: control characters and line ends."""
LANGUAGE: Final = re.compile(r"[a-z0-9][a-z0-9+#._-]{0,39}")
"""The language of tests."""
