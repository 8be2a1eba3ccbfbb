"""How many examples hypothesis makes up: some in `make test`, many more in `make robustness`."""

from typing import Final

from hypothesis import HealthCheck, settings

LONG: Final = "long"
LONG_TIMES: Final = 30
"""With `--hypothesis-profile=long` there are so many times more, also where a test says how many it wants."""

_USUAL: Final = "usual"
_USUAL_EXAMPLES: Final = 100


def register_profiles() -> None:
    """Have hypothesis know both, and take the usual one."""
    # On a busy machine any example may be slow: that is for bench to measure.
    usual = settings(max_examples=_USUAL_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile(_USUAL, usual)
    settings.register_profile(LONG, usual, max_examples=LONG_TIMES * _USUAL_EXAMPLES)
    settings.load_profile(_USUAL)


def examples(count: int, *, long: int = 0) -> settings:
    """For a test that wants fewer or more than usual.

    Args:
        count: how many by `make test`.
        long: of how many `make robustness` makes LONG_TIMES as many; 0 for `count`.
    """
    if settings.get_current_profile_name() == LONG:
        return settings(max_examples=(long or count) * LONG_TIMES)
    return settings(max_examples=count)
