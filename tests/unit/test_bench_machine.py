"""What the benchmark of freshness takes off where the disk stood still."""

import numpy as np

from bench.machine import Meanwhile


def test_waited_counts_the_part_of_a_span_in_which_the_disk_stood_still() -> None:
    meanwhile = Meanwhile(writes=[(10.0, 10.3), (11.0, 11.05), (12.0, 12.2)])
    spans = np.array([(9.0, 9.5), (9.9, 10.1), (10.1, 10.2), (9.0, 13.0), (11.0, 11.5), (12.1, 12.9)])

    waited = meanwhile.waited(spans[:, 0], spans[:, 1])

    np.testing.assert_allclose(waited, [0, 0.1, 0.1, 0.5, 0, 0.1], atol=1e-9)
