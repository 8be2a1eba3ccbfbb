"""A Kafka that asks who is there: all the way in and out, what is said when it says no, and where passwords are not."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from epistream.clients import KafkaProducer, KafkaSecurity, SyncKnowledgeClient, SyncReplica
from epistream.clients.kafka_producer import CappedProducer, ProducerLimits
from epistream.services.kafka import clients
from epistream.services.kafka.redrive import redrive
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.errors import Denied, EpistreamError, Unavailable
from epistream.wire.topics import CHANGES, EXPERT, OUTCOMES, SYNTHETIC, UPDATES, dead_letter_topic
from tests.support.certificates import Authority
from tests.support.cli import epistream
from tests.support.intake import admitted, facts, make_namespace, taking
from tests.support.knowing import DIMENSION, submission
from tests.support.secure_kafka import Acl, SecureKafka, a_secure_kafka, documented
from tests.support.service import RunningService, running_service
from tests.support.waits import wait_until

PASSWORD = "ein langes Geheimnis"
NEW_PASSWORD = "noch ein langes Geheimnis"
HURRIED = ProducerLimits(room_timeout_seconds=5, connect_timeout_seconds=1.5)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with a_secure_kafka(tmp_path_factory.mktemp("secure")) as kafka:
        yield kafka


def flags(security: KafkaSecurity) -> dict[str, str]:
    """The settings of a service, or the flags of a command, that say how Kafka is reached."""
    named = {
        "kafka_security": security.protocol,
        "kafka_sasl_mechanism": security.sasl_mechanism,
        "kafka_username": security.username,
        "kafka_password_file": security.password_file,
        "kafka_ca_file": security.ca_file,
        "kafka_cert_file": security.cert_file,
        "kafka_key_file": security.key_file,
    }
    return {name: str(value) for name, value in named.items() if value}


def variables(security: KafkaSecurity) -> Mapping[str, str]:
    return {f"EPISTREAM_{name.upper()}": value for name, value in flags(security).items()}


@contextmanager
def serving(folder: Path, address: str, security: KafkaSecurity, namespace: str) -> Iterator[RunningService]:
    with running_service(folder, flags(security), kafka=address) as service:
        with SyncKnowledgeClient(service.address) as client:
            client.create_namespace(namespace, encoder=ns.Encoder(model="none", dimension=DIMENSION))
        yield service


def produce(address: str, security: KafkaSecurity, namespace: str, numbers: range) -> None:
    with KafkaProducer(address, security=security) as producer:
        for one in facts(namespace, numbers):
            producer.send(one)


def await_published(service: RunningService) -> None:
    wait_until(lambda: not service.metric("epistream_outbox_pending"), "an empty outbox")


def assert_nowhere(secret: str, pid: int) -> None:
    """No process of the service has it where other users of the machine could see it."""
    service = psutil.Process(pid)
    processes = [service, *service.children(recursive=True)]
    assert {"poller", "publisher"} <= {part.rpartition(".")[2] for one in processes for part in one.cmdline()}
    for one in processes:
        assert not any(secret in text for text in (*one.cmdline(), *one.environ().values()))


def connections(pid: int, address: str) -> set[int]:
    """The ports by which a service's processes are connected to an address."""
    service = psutil.Process(pid)
    return {
        connection.laddr.port
        for one in [service, *service.children(recursive=True)]
        for connection in one.net_connections()
        if connection.status == psutil.CONN_ESTABLISHED and str(connection.raddr.port) == address.rpartition(":")[2]
    }


@pytest.mark.slow
def test_the_whole_way_over_tls_with_users_that_may_do_only_what_the_document_says(
    secure: SecureKafka, tmp_path: Path
) -> None:
    epi, ada = secure.user("epi", PASSWORD), secure.user("ada", "another", "SCRAM-SHA-256")
    mender = secure.user("mender", "a third")
    for who, user in (("service", "epi"), ("producer", "ada"), ("redrive", "mender")):
        secure.allow(*documented(who, user))
    with serving(tmp_path / "data", secure.users, epi, "users") as service:
        wait_until(lambda: f"{secure.users} over SASL_SSL as epi (SCRAM-SHA-512)" in service.logged(), "the line")
        with SyncReplica(tmp_path / "replica", service.address, "users", consumer="test") as copy:
            produce(secure.users, ada, "users", range(10))
            refused = '{"namespace": "nowhere", "content": "x", "submissionId": "lost"}'
            options = ("-k", secure.users, "-o", "expert", "-p", "ada")
            done = epistream("produce", "-", *options, stdin=refused.encode(), **variables(ada))
            assert done.code == 0, done.err
            copy.wait_for(10, 60)
        wait_until(lambda: secure.kafka.read(dead_letter_topic(EXPERT)), "the dead letter")
        await_published(service)
        assert len([r for r in secure.kafka.read(CHANGES) if r.key == b"users"]) == 10
        assert len([r for r in secure.kafka.read(OUTCOMES) if r.key and r.key.startswith(b"users/")]) == 10
        assert redrive(secure.users, [dead_letter_topic(EXPERT)], security=mender)[dead_letter_topic(EXPERT)].redriven
        with clients.admin(secure.kafka.bootstrap, "test") as admin:
            wait_until(lambda: any(p.offset for p in admin.list_group_offsets("epistream")["epistream"].values()), "it")
        assert_nowhere(PASSWORD, service.pid)
        assert PASSWORD not in service.logged()
        assert "does not take our positions" not in service.logged()
        # A renewed password is used from the next connection on.
        before = connections(service.pid, secure.users)
        secure.user("epi", NEW_PASSWORD)
        wait_until(lambda: before.isdisjoint(connections(service.pid, secure.users)), "new connections")
        produce(secure.users, ada, "users", range(10, 13))
        with SyncKnowledgeClient(service.address) as client:
            wait_until(lambda: client.namespace("users").head_revision == 13, "the three more")
        await_published(service)


def test_in_and_out_over_tls_with_certificates(secure: SecureKafka, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    namespace = make_namespace(folder)
    owner, ada = secure.owner("epi-cert"), secure.owner("ada-cert")
    secure.allow(*documented("service", "epi-cert"), *documented("producer", "ada-cert"))
    with taking(folder, secure.certificates, EXPERT, group="epistream", publish=True, security=owner) as process:
        produce(secure.certificates, ada, namespace, range(5))
        process.await_head(namespace, 5)
        wait_until(lambda: not process.engine.outbox.count(), "an empty outbox")
    assert len([r for r in secure.kafka.read(CHANGES) if r.key == namespace.encode()]) == 5


def test_who_may_write_to_the_topic_of_what_is_generated_can_do_just_that(secure: SecureKafka, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    namespace, writer = make_namespace(folder), secure.user("writer", PASSWORD)
    secure.allow(Acl("writer", "topic", SYNTHETIC, "WRITE"))
    generated, experts = (
        submission(f"Said by {pb.Origin.Name(origin)}.", id=f"s-{origin}", namespace=namespace, origin=origin)
        for origin in (pb.ORIGIN_SYNTHETIC, pb.ORIGIN_EXPERT)
    )

    def send(one: pb.Submission, topic: str) -> None:
        with KafkaProducer(secure.users, HURRIED, security=writer) as producer:
            producer.send(one, topic=topic)

    send(generated, SYNTHETIC)
    for topic in (EXPERT, UPDATES, CHANGES, OUTCOMES, dead_letter_topic(SYNTHETIC)):
        with pytest.raises(Denied, match=f"Not authorised for the topic {topic}"):
            send(experts, topic)
    send(experts, SYNTHETIC)  # it may, but not as somebody else
    with taking(folder, secure.kafka.bootstrap, EXPERT, SYNTHETIC, UPDATES) as process:
        wait_until(lambda: process.engine.store.dead_letters(0, 1), "the one that was refused")
    assert admitted(folder, namespace) == [(1, f"s-{pb.ORIGIN_SYNTHETIC}")]


@pytest.fixture(scope="module")
def refusals(secure: SecureKafka) -> dict[str, EpistreamError]:
    """What a client gets told that cannot get in, tried all at once."""
    eve = secure.user("eve", "right")
    stranger = replace(secure, authority=Authority(secure.folder / "strange")).owner("stranger")
    tls = KafkaSecurity("SSL", ca_file=secure.authority.ca_file)
    at_ip = secure.users.replace("localhost", "127.0.0.1")
    attempts = {
        "wrong password": (secure.users, secure.claims_to_be("mallory", "wrong")),
        "wrong mechanism": (secure.users, replace(eve, sasl_mechanism="PLAIN")),
        "no password asked for": (secure.kafka.bootstrap, replace(eve, protocol="SASL_PLAINTEXT", ca_file=None)),
        "unknown authority": (secure.users, replace(eve, ca_file=None)),
        "wrong host name": (at_ip, eve),
        "no certificate": (secure.certificates, tls),
        "certificate of a stranger": (secure.certificates, replace(stranger, ca_file=secure.authority.ca_file)),
        "no TLS there": (secure.kafka.bootstrap, tls),
        "TLS there": (secure.users, KafkaSecurity()),
        "no ACL": (secure.users, eve),
    }

    def refusal(address: str, security: KafkaSecurity) -> EpistreamError:
        with pytest.raises(EpistreamError) as refused, CappedProducer(address, HURRIED, security=security) as producer:
            producer.send(EXPERT, b"x").result(10)
        return refused.value

    with ThreadPoolExecutor(len(attempts)) as pool:
        made = {name: pool.submit(refusal, *attempt) for name, attempt in attempts.items()}
        return {name: one.result() for name, one in made.items()}


@pytest.mark.parametrize(
    ("what", "kind", "reason", "said"),
    [
        ("wrong password", Denied, "UNAUTHENTICATED", "does not take this user name with this password"),
        ("wrong mechanism", Denied, "UNAUTHENTICATED", "does not take kafka_sasl_mechanism"),
        ("no password asked for", Denied, "UNAUTHENTICATED", "asks for no password at all"),
        ("unknown authority", Unavailable, "UNTRUSTED", "certificate is not trusted: kafka_ca_file"),
        ("wrong host name", Unavailable, "UNTRUSTED", "for another host name"),
        ("no certificate", Denied, "UNAUTHENTICATED", "or misses one"),
        ("certificate of a stranger", Denied, "UNAUTHENTICATED", "does not take our certificate"),
        ("no TLS there", Unavailable, "UNAVAILABLE", "speak TLS"),
        ("TLS there", Unavailable, "UNAVAILABLE", "kafka_security"),
        ("no ACL", Denied, "PERMISSION_DENIED", f"Not authorised for the topic {EXPERT}"),
    ],
)
def test_each_way_of_being_refused_is_told_from_the_others(
    refusals: dict[str, EpistreamError], what: str, kind: type[EpistreamError], reason: str, said: str
) -> None:
    error = refusals[what]
    assert (type(error), error.reason) == (kind, reason), error.message
    assert said in error.message


def test_what_is_not_allowed_waits_by_name_delays_nothing_else_and_goes_on_when_it_is(
    secure: SecureKafka, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    namespace, open_, closed = make_namespace(folder), secure.kafka.new_topic(), secure.kafka.new_topic()
    user = secure.claims_to_be("reader", PASSWORD)
    secure.allow(Acl("reader", "topic", open_, "READ"), Acl("reader", "topic", closed, "DESCRIBE"))
    secure.allow(Acl("reader", "topic", OUTCOMES, "WRITE"), Acl("reader", "topic", CHANGES, "DESCRIBE"))
    with (
        taking(folder, secure.users, open_, closed, publish=True, security=user) as process,
        KafkaProducer(secure.kafka.bootstrap) as producer,
    ):
        wait_until(lambda: "does not take this user name with this password" in caplog.text, "the refusal")
        secure.user("reader", PASSWORD)
        wait_until(lambda: (closed, 0) in process.intake.stopped(), "the topic to be left alone")
        for topic, numbers in ((closed, range(3)), (open_, range(3, 6))):
            for one in facts(namespace, numbers):
                producer.send(one, topic=topic)
        producer.flush()
        process.await_head(namespace, 3)
        why = process.intake.stopped()
        assert [*why] == [(closed, 0)]
        assert why[closed, 0].reason == "PERMISSION_DENIED"
        assert f'partition="0",reason="PERMISSION_DENIED",topic="{closed}"' in process.metrics()
        assert caplog.text.count(f"{closed} is not read") == 1
        wait_until(lambda: f"Not authorised for the topic {CHANGES}" in caplog.text, "what is not allowed")
        wait_until(lambda: "does not take our positions" in caplog.text, "the group")
        assert process.engine.outbox.count()
        secure.allow(Acl("reader", "topic", closed, "READ"), Acl("reader", "topic", CHANGES, "WRITE"))
        process.await_head(namespace, 6)
        wait_until(lambda: not process.intake.stopped(), "no topic to be left alone")
        wait_until(lambda: not process.engine.outbox.count(), "an empty outbox")
