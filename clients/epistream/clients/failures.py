"""What gRPC, or somebody between us and the service, reports of a failed call, as an error of ours.

The service's own errors carry details and are told in `epistream.wire.status`; here are the others.
"""

from typing import Final

import grpc

from epistream.wire.errors import Broken, Denied, EpistreamError, InvalidInput, Unavailable

# What gRPC itself reports when a connection breaks, a proxy resets a stream, or a process dies in the middle of an
# answer. The service's own errors carry details.
_BROKEN_CONNECTION: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED)

# What gRPC says when TLS cannot be agreed on, in the order in which it is looked for, and what a person can do then.
_TLS_FAILURES: Final = {
    "certificate has expired": "The service's certificate has expired: whoever runs it must renew it.",
    "certificate is not yet valid": "The service's certificate is not valid yet: compare both clocks.",
    "CERTIFICATE_VERIFY_FAILED": "The service's certificate is not one that is trusted here: check the address, and"
    " that tls_ca_file holds the authority that signed it.",
    "Hostname Verification Check failed": "The service's certificate is for another name than that of the address:"
    " connect by a name that is in it, or give that name as tls_server_name.",
    "WRONG_VERSION_NUMBER": "What listens there does not speak TLS: check the address; a service without TLS is reached"
    " without tls_ca_file and tls.",
    "Failed to create security handshaker": "The certificates given here cannot be used: check that all are in PEM, and"
    " that the key is the certificate's.",
    "ALERT": "The service ended the TLS handshake: check that it knows who signed the client's certificate.",
    "andshake failed": "TLS could not be agreed on with the service: check the certificates of both.",
}
_CLOSED_AT_ONCE: Final = (
    "It closed the connection at once. It may expect TLS (give tls_ca_file or tls), or a client certificate that it"
    " trusts and that has not expired (tls_cert_file), or it is going down."
)


def failure(code: grpc.StatusCode, details: str) -> EpistreamError:
    """The error of ours for one that gRPC, or somebody in between, tells of in `details`: the service says more."""
    if code in _BROKEN_CONNECTION:
        for sign, text in _TLS_FAILURES.items():
            if sign in details:
                return Unavailable(f"{text} (gRPC says: {details})", reason="TLS", retry_delay_seconds=0.0)
        hint = _CLOSED_AT_ONCE if _closed_at_once(details) else "Check the address and that the service runs."
        text = f"The service cannot be reached: {details}. {hint} Then try again."
        return Unavailable(text, retry_delay_seconds=0.0)
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return Denied(f"The call was turned away: {details}. Check the token or client certificate.", reason=code.name)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"No answer in time: {details}. Try again, or allow more time.", reason="DEADLINE")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return InvalidInput(f"{details}. Send or ask for less at a time.", reason="TOO_LARGE")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Unavailable(f"The service is overloaded: {details}.", reason="OVERLOADED")
    return Broken(f"{code.name}: {details}")


def _closed_at_once(details: str) -> bool:
    """Whether somebody took the connection and closed it before a word, as a service does that dislikes our TLS."""
    return "failed to connect" in details and "Socket closed" in details
