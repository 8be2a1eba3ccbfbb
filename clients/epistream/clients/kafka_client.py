"""What every Kafka client of ours needs: the address read, and Kafka's errors as ours."""

import re
import ssl
from typing import Any, Final

from epistream.wire.errors import Broken, Denied, EpistreamError, InvalidInput, Unavailable

_ADDRESS: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:,\[\]]+):\d{1,5}")


def broker_list(bootstrap: str) -> list[str]:
    """The brokers of `host:port[,host:port…]`.

    >>> broker_list("kafka-0:9092, [::1]:9092")
    ['kafka-0:9092', '[::1]:9092']

    Raises:
        InvalidInput: it is not such a list.
    """
    brokers = [part.strip() for part in bootstrap.split(",")]
    for broker in brokers:
        if not _ADDRESS.fullmatch(broker):
            raise InvalidInput.at("bootstrap", f"expected host:port, or several with commas between; found {broker!r}")
    return brokers


def translated(error: Any, bootstrap: str, doing: str) -> EpistreamError:
    """The error to raise, or to fail a future with, for one of kafka-python's hundred and more. Chain the cause.

    Args:
        error: an instance of `kafka.errors.KafkaError`.
        bootstrap: the address that the client was given.
        doing: what was tried, such as `sending to epistream.changes.v1`.
    """
    from kafka import errors as kafka

    what = f"{doing} (Kafka at {bootstrap}): {error}"
    if (of_tls := _tls_error(error)) is not None:
        return _translated_tls(of_tls, what)
    match error:
        case kafka.SaslAuthenticationFailedError():
            return Denied(f"{what}. {_WRONG_USER}", reason="UNAUTHENTICATED")
        case kafka.UnsupportedSaslMechanismError() | kafka.IllegalSaslStateError():
            return Denied(f"{what}. {_WRONG_MECHANISM}", reason="UNAUTHENTICATED")
        case kafka.AuthorizationError():
            return Denied(f"{what}. Not authorised{_topics(error)}: {_ACL_NEEDED}")
        case kafka.MessageSizeTooLargeError() | kafka.RecordListTooLargeError():
            return InvalidInput(f"{what}. Send less in one record.", reason="TOO_LARGE")
        case kafka.InvalidTimestampError() | kafka.InvalidRecordError():
            return InvalidInput(f"{what}. The topic does not take such a record.")
        case _ if type(error) is kafka.KafkaError:  # what kafka-python gives to the other records of a refused batch
            return Unavailable(f"{what}. This record was not written; send it again.")
        case kafka.InvalidReceiveError():
            return Unavailable(f"{what}. This is not Kafka's protocol: does the listener speak TLS (kafka_security)?")
        case kafka.IllegalStateError():
            return Unavailable(f"{what}. The client was closed.")
        case _ if error.retriable:
            return Unavailable(f"{what}. {_NOT_THERE}")
        case _:
            return Broken(what)


def is_refusal(error: Exception) -> bool:
    """Whether a connection failed since one end does not take what the other shows, which does not pass by itself."""
    from kafka import errors as kafka

    refusals = (
        kafka.SaslAuthenticationFailedError,
        kafka.UnsupportedSaslMechanismError,
        kafka.IllegalSaslStateError,
        kafka.AuthorizationError,
    )
    if (of_tls := _tls_error(error)) is not None:
        return _translated_tls(of_tls, "").reason in {"UNTRUSTED", "UNAUTHENTICATED"}
    return isinstance(error, refusals)


_WRONG_USER: Final = (
    "Authentication failed: Kafka does not take this user name with this password (kafka_username, "
    "kafka_password_file)."
)
_WRONG_MECHANISM: Final = (
    "Authentication failed: this listener of Kafka does not take kafka_sasl_mechanism, or asks for no password at all "
    "(kafka_security)."
)
_ACL_NEEDED: Final = "an ACL of Kafka must allow it to this user; docs/kafka.md lists what is needed."
_WRONG_HOST: Final = (
    "The broker's certificate is for another host name: use the name that is in it, here and in the broker's "
    "advertised.listeners."
)
_UNTRUSTED: Final = "The broker's certificate is not trusted: kafka_ca_file must hold the authority that signed it."
_CERTIFICATE_REFUSED: Final = (
    "Authentication failed: the broker does not take our certificate, or misses one (kafka_cert_file, kafka_key_file)."
)
_NOT_THERE: Final = "Is Kafka running, are the address and kafka_security right, and does the topic exist?"
_NO_TLS: Final = "Does this listener of Kafka speak TLS (kafka_security)?"
_HOST_MISMATCHES: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""
_REFUSALS: Final = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "HANDSHAKE_FAILURE")
"""What brokers say to a certificate of ours that they do not take, or miss."""


def _translated_tls(error: ssl.SSLError, what: str) -> EpistreamError:
    match error:
        case ssl.SSLCertVerificationError():
            advice = _WRONG_HOST if error.verify_code in _HOST_MISMATCHES else _UNTRUSTED
            return Unavailable(f"{what}. {advice}", reason="UNTRUSTED")
        case _ if any(said in (getattr(error, "reason", "") or "") for said in _REFUSALS):
            return Denied(f"{what}. {_CERTIFICATE_REFUSED}", reason="UNAUTHENTICATED")
        case _:
            return Unavailable(f"{what}. {_NO_TLS}")


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """What a connection failed with in TLS: kafka-python wraps it, or has it among the arguments of its own error."""
    while error is not None:
        inner = error.args[0] if error.args else None
        for each in (error, inner):
            if isinstance(each, ssl.SSLError):
                return each
        error = error.__cause__ or error.__context__
    return None


def _topics(error: Any) -> str:
    """` for the topic …` of an error of Kafka that is about topics, else nothing."""
    from kafka.errors import TopicAuthorizationFailedError

    about = error.args[0] if isinstance(error, TopicAuthorizationFailedError) and error.args else ()
    names = [about] if isinstance(about, str) else sorted(map(str, about))
    return f" for the topic {', '.join(names)}" if names else ""
