"""Settings that the manifests use and the service is about to have."""

from typing import Final

SETTINGS_TO_COME: Final = frozenset(
    {
    }
)
"""Empty this when they are there: the files are then loaded whole, and the image's health is asked at its own port."""
