"""Where settings come from, and what is wrong with them."""

from pathlib import Path

import pytest

from epistream.services.settings import Settings, is_loopback, split_address
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.errors import InvalidInput
from epistream.wire.topics import EXPERT


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"EPISTREAM_{name.upper()}", raising=False)


def test_a_flag_goes_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('folder = "of-the-file"\nencoder = "of-the-file"\nlog_level = "debug"\nkafka_topics = ["a", "b"]\n')
    monkeypatch.setenv("EPISTREAM_ENCODER", "of-the-environment")
    monkeypatch.setenv("EPISTREAM_FOLDER", "of-the-environment")
    settings = Settings.load(config=str(file), folder="of-the-flag")
    assert settings.folder == Path("of-the-flag")
    assert settings.encoder == "of-the-environment"
    assert settings.log_level == "debug"
    assert settings.kafka_topics == ("a", "b")
    assert settings.address == Settings.load().address


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("max_streams = 7\n")
    monkeypatch.setenv("EPISTREAM_CONFIG", str(file))
    assert Settings.load().max_streams == 7


def test_topics_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPISTREAM_KAFKA_TOPICS", "one, two,")
    assert Settings.load().kafka_topics == ("one", "two")


def test_a_topic_carries_the_origins_that_are_set_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().carried() == {
        "epistream.submissions.expert.v1": {pb.ORIGIN_EXPERT, pb.ORIGIN_COLLABORATIVE},
        "epistream.submissions.synthetic.v1": {pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC},
        "epistream.submissions.updates.v1": {pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC},
    }
    monkeypatch.setenv("EPISTREAM_KAFKA_TOPICS", f"one,two,{EXPERT}")
    monkeypatch.setenv("EPISTREAM_KAFKA_TOPIC_ORIGINS", f"one=CRAWLED+SYNTHETIC, {EXPERT}=EXPERT")
    carried = Settings.load().carried()
    assert carried["one"] == {pb.ORIGIN_CRAWLED, pb.ORIGIN_SYNTHETIC}
    assert carried[EXPERT] == {pb.ORIGIN_EXPERT}
    assert "two" not in carried
    assert Settings.load().topics_of_people() == {EXPERT}
    monkeypatch.setenv("EPISTREAM_KAFKA_TOPIC_ORIGINS", f"one=COLLABORATIVE,{EXPERT}=EXPERT+CRAWLED")
    assert Settings.load().topics_of_people() == {"one"}


@pytest.mark.parametrize(
    ("origins", "why"),
    [
        ("other=EXPERT", "'other' is not among kafka_topics"),
        ("one=EXPERT,one=CRAWLED", "'one' is there twice"),
        ("one", "expected some of .*CRAWLED.* with . between, found ''"),
        ("one=EXPERT+expert", "found 'expert'"),
        ("one=UNSPECIFIED", "found 'UNSPECIFIED'"),
    ],
)
def test_wrong_origins_of_topics_are_said(origins: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Settings.load(kafka_topics="one", kafka_topic_origins=origins)


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"address": "7443"}, "address"),
        ({"address": "127.0.0.1:70000"}, "address"),
        ({"max_streams": "0"}, "max_streams"),
        ({"trace_endpoint": "127.0.0.1:4317"}, "trace_endpoint"),
        ({"trace_ratio": "1.1"}, "trace_ratio"),
        ({"drain_seconds": "-1"}, "drain_seconds"),
        ({"instance_index": "-1"}, "instance_index"),
        ({"log_level": "loud"}, "log_level"),
        ({"kafka_topics": ""}, "kafka_topics"),
        ({"unknown": "1"}, "unknown"),
    ],
)
def test_a_wrong_value_is_named(flags: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as wrong:
        Settings.load(**flags)
    assert [violation.field for violation in wrong.value.violations] == [field]


@pytest.mark.parametrize(
    "content",
    [
        b"not toml",
        b"unknown = 1",
        b"max_streams = 'many'",
        b"\x80 is no UTF-8",
        pytest.param(b"max_streams = " + b"[" * 3000, id="deep"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    with pytest.raises(InvalidInput):
        Settings.load(config=file)
    with pytest.raises(InvalidInput, match="cannot be read"):
        Settings.load(config=tmp_path / "missing.toml")


def test_a_connection_has_an_age_where_clients_have_certificates() -> None:
    tls = {"tls_cert_file": "a", "tls_key_file": "b"}
    assert Settings.load(**tls).connection_seconds is None
    assert Settings.load(**tls, tls_client_ca_file="c").connection_seconds == 3600
    assert Settings.load(**tls, tls_client_ca_file="c", max_connection_age_seconds="0").connection_seconds is None
    assert Settings.load(max_connection_age_seconds="7").connection_seconds == 7


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.1.2.3:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("example.org:1", False),
    ],
)
def test_only_loopback_is_out_of_reach_of_others(address: str, loopback: bool) -> None:
    assert is_loopback(address) == loopback


def test_an_address_is_split_at_its_port() -> None:
    assert split_address("[::1]:7443") == ("::1", 7443)
    assert split_address("localhost:0") == ("localhost", 0)
