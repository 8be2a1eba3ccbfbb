"""What costs seconds to import is imported where it is used."""

import subprocess
import sys


def test_nothing_heavy_is_imported_before_the_model_is_loaded() -> None:
    program = (
        "import sys\n"
        "from epistream.indexer.encoder import SentenceTransformerEmbedder\n"
        "embedder = SentenceTransformerEmbedder()\n"
        "print(embedder.model, embedder.dimension, embedder.ready)\n"
        "print(sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["all-MiniLM-L6-v2 384 False", "[]"]


def test_numpy_is_not_loaded_before_the_service_has_set_how_many_threads_it_may_use() -> None:
    program = "import sys, epistream.services.__main__\nprint(sorted({'numpy', 'faiss'} & set(sys.modules)))\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["[]"]


def test_clients_tell_of_traces_without_importing_opentelemetry() -> None:
    program = (
        "import sys, epistream.clients, epistream.clients.kafka_producer\n"
        "from epistream.clients.tracing import traceparent\n"
        "print(traceparent(), [name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["None []"]


def test_the_readers_of_sources_import_their_libraries_when_they_read() -> None:
    program = (
        "import sys\n"
        "import epistream.clients.cli.importing, epistream.clients.sources.importing\n"
        "import epistream.clients.sources.mapping, epistream.clients.sources.table\n"
        "print(sorted({'pyarrow', 'h5py', 'warcio', 'ijson', 'yaml', 'crc32c'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["[]"]
