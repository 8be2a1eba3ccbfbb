"""HDF5 files of one episode each: what is in them, not the numbers. The place in the file is 0 before it, 1 after."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epistream.clients.sources.formats.piece import Piece, needed, reading
from epistream.clients.sources.record import Json


def hdf5_episode(path: Path, start: int) -> Iterator[Piece]:
    """One record: `{"attributes": {…}, "datasets": {"/action": {"shape": […], "type": …}, …}}`.

    Links to other files are not followed.
    """
    h5py = needed("h5py", "HDF5")
    if start:
        return
    with reading(path, RuntimeError, KeyError, ValueError), h5py.File(path, "r") as file:
        datasets: dict[str, Json] = {}

        def note(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                datasets[f"/{name}"] = {"shape": list(node.shape or ()), "type": str(node.dtype)}

        file.visititems(note)
        attributes = {name: _plain(value) for name, value in file.attrs.items()}
        yield Piece({"attributes": attributes, "datasets": datasets}, 1, read=path.stat().st_size)


def _plain(value: Any) -> Json:
    """An attribute without NumPy's types."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
