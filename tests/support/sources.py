"""Files in the formats that works publish, of invented records."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.wire_form import contest_problem, example, framed

Records = Sequence[Any]

_TESTS: Final = pa.struct([("input", pa.list_(pa.string())), ("output", pa.list_(pa.string()))])
_SOLUTIONS: Final = pa.struct([("language", pa.list_(pa.int64())), ("solution", pa.list_(pa.string()))])
CONTEST_COLUMNS: Final = pa.schema(
    {
        "name": pa.string(),
        "description": pa.string(),
        "public_tests": _TESTS,
        "private_tests": _TESTS,
        "generated_tests": _TESTS,
        "source": pa.int64(),
        "difficulty": pa.int64(),
        "solutions": _SOLUTIONS,
        "incorrect_solutions": _SOLUTIONS,
        "cf_contest_id": pa.int64(),
        "cf_index": pa.string(),
        "cf_points": pa.float32(),
        "cf_rating": pa.int32(),
        "cf_tags": pa.list_(pa.string()),
        "is_description_translated": pa.bool_(),
        "untranslated_description": pa.string(),
        "time_limit": pa.struct([("seconds", pa.int64()), ("nanos", pa.int64())]),
        "memory_limit_bytes": pa.int64(),
        "input_file": pa.string(),
        "output_file": pa.string(),
    }
)
"""Of CodeContests in Parquet, as it is on the Hub: tests and solutions are two lists each, and every row has all."""


def _write(path: Path, text: str) -> None:
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def json_lines(path: Path, records: Records) -> None:
    _write(path, "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records))


def json_array(path: Path, records: Records) -> None:
    _write(path, json.dumps(list(records), indent=1))


def json_object(path: Path, records: Records) -> None:
    path.write_text(json.dumps({record["key"]: record["value"] for record in records}))


def text_lines(path: Path, records: Records) -> None:
    _write(path, "".join(f"{record['text']}\n" for record in records))


def csv_table(path: Path, records: Records) -> None:
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, records[0])
    rows.writeheader()
    rows.writerows(records)
    _write(path, text.getvalue())


def parquet(path: Path, records: Records) -> None:
    pq.write_table(pa.Table.from_pylist(list(records)), path, row_group_size=2)


def wet(path: Path, records: Records) -> None:
    about = {"headers": {"WARC-Type": "warcinfo", "WARC-Date": "2024-05-01T09:00:00Z"}, "text": "software: none\r\n"}
    written = [_warc_record(record) for record in (about, *records)]
    path.write_bytes(b"".join(map(gzip.compress, written) if path.suffix == ".gz" else written))


def _warc_record(record: Any) -> bytes:
    body: bytes = record["text"].encode()
    headers = {**record["headers"], "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"WARC/1.0\r\n{lines}\r\n".encode() + body + b"\r\n\r\n"


def hdf5(path: Path, records: Records) -> None:
    (record,) = records
    with h5py.File(path, "w") as file:
        file.attrs.update(record["attributes"])
        for name, dataset in record["datasets"].items():
            file.create_dataset(name, data=np.zeros(dataset["shape"], dataset["type"]))


def rlds(path: Path, records: Records) -> None:
    path.write_bytes(b"".join(framed(example(record["features"])) for record in records))


def contest_problems(path: Path, records: Records) -> None:
    path.write_bytes(b"".join(framed(contest_problem(record)) for record in records))


def contest_rows(path: Path, records: Records) -> None:
    pq.write_table(pa.Table.from_pylist(list(records), CONTEST_COLUMNS), path, row_group_size=2)


def problem_folders(path: Path, records: Records) -> None:
    names = {
        "question": "question.txt",
        "solutions": "solutions.json",
        "input_output": "input_output.json",
        "metadata": "metadata.json",
        "starter_code": "starter_code.py",
    }
    for record in records:
        folder = path / record["problem_id"]
        folder.mkdir(parents=True)
        for column, name in names.items():
            if column in record:
                (folder / name).write_text(record[column])


Writer = Callable[[Path, Records], None]
PUBLISHED: Final[dict[str, tuple[str, Writer]]] = {
    "common-crawl": ("CC-MAIN-20240501-00000.warc.wet.gz", wet),
    "c4": ("c4-train.00000-of-01024.json.gz", json_lines),
    "codex": ("files.jsonl", json_lines),
    "the-stack": ("data-00000-of-00144.parquet", parquet),
    "laion-5b": ("part-00000.snappy.parquet", parquet),
    "webvid-10m": ("results_10M_train.csv", csv_table),
    "kinetics-400": ("train.csv", csv_table),
    "instruct-gpt": ("rankings.jsonl", json_lines),
    "llama": ("comparisons.jsonl", json_lines),
    "humaneval": ("HumanEval.jsonl.gz", json_lines),
    "mbpp": ("mbpp.jsonl", json_lines),
    "apps": ("train", problem_folders),
    "pick-a-pic": ("train-00000-of-00645.parquet", parquet),
    "magicbrush": ("train-00000-of-00051.parquet", parquet),
    "rt-1": ("fractal20220817_data-train.tfrecord-00000-of-00001", rlds),
    "mobile-aloha": ("episode_7.hdf5", hdf5),
    "self-instruct": ("all_instances_82K.jsonl", json_lines),
    "phi": ("textbook.jsonl", json_lines),
    "evol-instruct": ("alpaca_evol_instruct_70k.json", json_array),
    "oss-instruct": ("data-oss_instruct-decontaminated.jsonl", json_lines),
    "dall-e-3": ("captions.jsonl", json_lines),
    "sharegpt4video": ("sharegpt4video_40k.jsonl", json_lines),
    "miradata": ("miradata_v0.csv", csv_table),
    "rlaif": ("critiques.jsonl", json_lines),
    "superbrain": ("heuristics.jsonl", json_lines),
    "rlef": ("turns.jsonl", json_lines),
    "codecontests": ("code_contests_valid.tfrecord-00000-of-00001", contest_problems),
    "imagereward": ("test.json", json_array),
    "pick-a-pic-v2": ("train-00001-of-01016.parquet", parquet),
    "movie-gen": ("MovieGenVideoBench.csv", csv_table),
    "sora-physics": ("videophy_test.csv", csv_table),
}
"""Of each work the name of a file as it is published, and what writes it."""
ON_THE_HUB: Final[dict[str, tuple[str, Writer]]] = {
    "codecontests": ("train-00000-of-00039-e991a271dbfa9925.parquet", contest_rows),
}
"""Of works that are published there in other columns than elsewhere: the same."""
