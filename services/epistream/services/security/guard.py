"""At the border: who calls, whether they may, and whether they still may. Used on the event loop's thread only."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from epistream.services.security.access import Access, Principal, Verb, origin_name
from epistream.services.security.audit import UNAUTHENTICATED
from epistream.services.security.files import Watched
from epistream.services.security.limits import Allowance, Allowances
from epistream.services.security.rules import Rule
from epistream.v1.raw_pb2 import RawSubmissionClaims
from epistream.wire.errors import Denied, EpistreamError, InvalidInput, Unavailable

_LOG: Final = logging.getLogger(__name__)
Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

LOOK_SECONDS: Final = 1.0
"""How often the access file and the keys are looked at, and the credentials of open calls for their end."""
NAME_CHARACTERS_MAX: Final = 200
"""Of a name in an error: a caller may have given any."""
_BEARER: Final = "bearer "
_MONITOR: Final = frozenset((Verb.MONITOR,))
_ALTERNATIVE_NAMES: Final = "x509_subject_alternative_name"
"""Of a certificate, of every kind. Where there are any the common name does not count (RFC 6125, section 6.4.4)."""
_HOSTS_AND_URIS: Final = ("peer_dns", "peer_uri")
"""Those that name a caller. Others, such as mail addresses, are often the caller's own to choose."""

# One text for whatever is wrong with credentials: which it was is nobody's business but the log's.
_UNKNOWN: Final = (
    "the service does not know who calls: send a valid token as `authorization: Bearer …`, or a client certificate"
    " that its access file names"
)


@dataclass(frozen=True, slots=True)
class Presented:
    """What a caller brought to show who it is."""

    token: str | None
    certificate_names: tuple[str, ...] = ()


class Guard:
    """Knows everybody who may call. Without an access file it lets anybody do anything."""

    def __init__(self, access_file: Path | None, failed: Callable[[str], None]) -> None:
        """Reads the file. Blocks.

        Args:
            access_file: who may what; None where nobody is asked.
            failed: called with a reason, `unauthenticated` or `permission_denied`, for each caller that is denied, and
                with `access_file` each second in which the file was changed and cannot be used.

        Raises:
            InvalidInput: the file is wrong.
        """
        self._failed = failed
        self._path, self._watched = access_file, Watched()
        self._access = Access.unguarded() if access_file is None else Access.read(access_file, self._watched)
        self._allowances = Allowances(time.monotonic)
        self._standing: set[_Standing] = set()
        self._complaint = ""
        """What is wrong with the access file, so that it is said once."""
        self.generation = 0
        """Counts the changes of the access file."""

    @property
    def guarded(self) -> bool:
        """Whether callers must say who they are."""
        return self._access.guarded

    async def keep_reading(self) -> None:
        """Look at the files, and at the credentials of calls that last, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self._watched.changed):
                    await self._read_again()
                now = time.time()
                for standing in [s for s in self._standing if s.expires_at is not None and s.expires_at <= now]:
                    standing.expire()
            except Exception as error:  # noqa: BLE001 - it lives as long as the service: nobody else revokes anything
                self._failed("access_file")
                _LOG.error("Looking after the access file failed; trying again", exc_info=error)

    async def _read_again(self) -> None:
        """Take the access file as it is now; when it is wrong, go on with what was read before."""
        assert self._path is not None  # noqa: S101 - without one nothing is watched
        watched = Watched()
        try:
            self._access = await asyncio.to_thread(Access.read, self._path, watched)
        except InvalidInput as error:
            self._watched.look_again()  # what it lacks may come without another change of what was read before
            self._failed("access_file")  # each time, so that whoever looks at the newest minutes sees that it lasts
            if self._complaint != str(error):
                self._complaint = str(error)
                _LOG.error("The access file was changed and cannot be used; what was read before holds: %s", error)
            return
        self._watched, self._complaint = watched, ""
        self.generation += 1
        _LOG.info("The access file was read again: %d principals", len(self._access.principals))
        for standing in list(self._standing):
            standing.ask_again()

    def caller_of(self, context: Context) -> "Caller":
        """Who makes a call.

        Raises:
            Denied: UNAUTHENTICATED, nobody who is known.
        """
        if not self._access.guarded:
            return Caller(self, Presented(None), self.identify(Presented(None)))
        presented = _presented(context)
        return Caller(self, presented, self.identify(presented))

    def caller_with(self, token: str | None) -> "Caller":
        """Who shows a token outside gRPC. Raises as `caller_of`."""
        return Caller(self, Presented(token), self.identify(Presented(token)))

    def identify(self, presented: Presented) -> Principal:
        """Who showed this. Raises as `caller_of`."""
        access = self._access
        if presented.token is not None:
            principal = access.of_token(presented.token)
        elif presented.certificate_names:
            principal = access.of_certificate(presented.certificate_names)
        else:
            principal = access.of_nobody()
        if principal is None:
            self._failed("unauthenticated")
            raise Denied(_UNKNOWN, reason=UNAUTHENTICATED)
        return principal

    def allowance_of(self, principal: Principal) -> Allowance:
        """What a principal has used of its limits."""
        return self._allowances.of(principal)

    def denied(self, principal: Principal, what: str) -> Denied:
        """What somebody hears who may not; says nothing about whether it is there."""
        self._failed("permission_denied")
        return Denied(f"{principal.name} may not {what}: ask whoever keeps the service's access file for a role")

    @contextmanager
    def stands(self, standing: "_Standing") -> Iterator[None]:
        """Ask again about an open call whenever the answer may have changed."""
        self._standing.add(standing)
        try:
            yield
        finally:
            self._standing.discard(standing)


class Caller:
    """Somebody who makes a call, and may or may not do what it is about."""

    def __init__(self, guard: Guard, presented: Presented, principal: Principal) -> None:
        """As `Guard.caller_of` found it."""
        self._guard, self._presented, self._principal = guard, presented, principal
        self._generation = guard.generation
        self.allowance = guard.allowance_of(principal)

    @property
    def principal(self) -> Principal:
        """Who it is, asked again when the access file has changed or the proof has run out. Raises Denied."""
        expires_at = self._principal.expires_at
        expired = expires_at is not None and time.time() >= expires_at
        if self._generation != self._guard.generation or expired:
            try:
                self._principal = self._guard.identify(self._presented)
            except Denied:
                if expired and self._generation == self._guard.generation:
                    raise _expired() from None
                raise
            self._generation = self._guard.generation
            self.allowance = self._guard.allowance_of(self._principal)
        return self._principal

    @property
    def name(self) -> str:
        """Of the principal, as it was last known."""
        return self._principal.name

    def require(self, rule: Rule, namespace: str) -> None:
        """Raises Denied unless a role grants what the rule needs in a namespace."""
        principal = self.principal
        if not principal.may(rule.verbs, namespace):
            raise self._guard.denied(principal, f"{_listed(rule.verbs)} in {_short(namespace)}")

    def require_everywhere(self, rule: Rule) -> None:
        """Raises Denied unless a role grants what the rule needs in all namespaces."""
        principal = self.principal
        if not principal.may_everywhere(rule.verbs):
            raise self._guard.denied(principal, f"{_listed(rule.verbs)} in all namespaces")

    def require_somewhere(self, rule: Rule) -> None:
        """Raises Denied unless a role grants what the rule needs in some namespace."""
        principal = self.principal
        if all(rule.verbs.isdisjoint(role.verbs) for role in principal.roles):
            raise self._guard.denied(principal, f"{_listed(rule.verbs)} anywhere")

    def may_see(self, rule: Rule, namespace: str) -> bool:
        """Whether a role grants what the rule needs in a namespace. Raises Denied when it is nobody any more."""
        return self.principal.may(rule.verbs, namespace)

    def may_monitor(self) -> bool:
        """Whether a role grants to read the metrics, which name every namespace."""
        return self.principal.may_everywhere(_MONITOR)

    def require_submissions(self, submissions: Sequence[bytes]) -> list[str]:
        """Ask for each submission of a request, given as its encoding; none is to be taken when one may not be.

        What cannot be decoded will be refused, and kept as a dead letter: ask `require_names` what may be in it.

        Returns:
            Their namespaces; none where nobody is asked.

        Raises:
            Denied: one may not be submitted.
        """
        principal = self.principal
        namespaces = set[str]()
        if not self._guard.guarded:
            return []
        for number, raw in enumerate(submissions, 1):
            try:
                claims = RawSubmissionClaims.FromString(raw)
            except DecodeError:
                continue
            producer = claims.provenance.producer
            if not principal.may_submit(claims.namespace, claims.origin, producer):
                who, where = _short(producer), _short(claims.namespace)
                what = f"submit in {where} with the origin {origin_name(claims.origin)} as {who}"
                raise self._guard.denied(principal, f"{what} (submission {number} of {len(submissions)})")
            namespaces.add(claims.namespace)
        return sorted(namespaces)

    def require_review(self, namespace: str, origin: int, reviewer: str) -> None:
        """Raises Denied unless a role grants to decide with this origin in this reviewer's name."""
        principal = self.principal
        if not principal.may_review(namespace, origin, reviewer):
            who, where = _short(reviewer), _short(namespace)
            raise self._guard.denied(
                principal, f"{Verb.REVIEW} in {where} with the origin {origin_name(origin)} as {who}"
            )

    def require_subscription(self, namespace: str, consumer: str) -> None:
        """Raises Denied unless a role grants to subscribe in this consumer's name."""
        principal = self.principal
        if not principal.may_subscribe(namespace, consumer):
            raise self._guard.denied(principal, f"{Verb.WATCH} in {_short(namespace)} as {_short(consumer)}")

    @asynccontextmanager
    async def standing(self, ask: Callable[[], None]) -> AsyncIterator[None]:
        """Do what lasts on what was granted: it is cut off, whatever it waits for, when that is granted no longer.

        Args:
            ask: raises Denied then; called again whenever the answer may have changed.

        Raises:
            Denied: what `ask` raised.
            Unavailable: CREDENTIALS_EXPIRED.
        """
        standing = _Standing(self, ask)
        try:
            async with standing.limit:
                with self._guard.stands(standing):
                    yield
        except TimeoutError:
            if standing.failure is None:
                raise
            raise standing.failure from None

    def require_names(self, namespace: str, producer: str) -> None:
        """Ask for a dead letter with these names, as far as they could be read: it is told to others under them.

        What was read of malformed bytes may be something else than `require_submissions` read, or all that could be.

        Raises:
            Denied: the caller may submit nothing with them.
        """
        principal = self.principal
        if not principal.may_name(namespace, producer):
            raise self._guard.denied(principal, f"submit in {_short(namespace)} as {_short(producer)}")


class _Standing:
    """What an open call stands on.

    Attributes:
        limit: a timeout without a time: it passes when the call is to end, and cancels what is within it.
        failure: why it is to end.
        expires_at: as that of a Principal.
    """

    def __init__(self, caller: Caller, ask: Callable[[], None]) -> None:
        self._caller, self._ask = caller, ask
        self.limit = asyncio.timeout(None)
        self.failure: EpistreamError | None = None
        self.expires_at = caller.principal.expires_at

    def ask_again(self) -> None:
        """The access file has changed."""
        try:
            self._ask()
            self.expires_at = self._caller.principal.expires_at
        except EpistreamError as error:
            self._end(error)

    def expire(self) -> None:
        """The credentials have run out."""
        self._end(_expired())

    def _end(self, error: EpistreamError) -> None:
        if self.failure is None:
            self.failure = error
            self.limit.reschedule(asyncio.get_running_loop().time())


def _expired() -> Unavailable:
    """Whoever has new credentials can come back at once."""
    return Unavailable(
        "your credentials have run out: call again, or open the stream again, with new ones",
        reason="CREDENTIALS_EXPIRED",
        retry_delay_seconds=0.0,
    )


def _presented(context: Context) -> Presented:
    token = None
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            text = value if isinstance(value, str) else value.decode("latin-1")
            token = text[len(_BEARER) :].strip() if text[: len(_BEARER)].lower() == _BEARER else ""
    if token is not None:
        return Presented(token)
    proven = context.auth_context()
    kinds = _HOSTS_AND_URIS if proven.get(_ALTERNATIVE_NAMES) else ("x509_common_name",)
    names = [name.decode("utf-8", "replace") for kind in kinds for name in proven.get(kind, ())]
    return Presented(None, tuple(names))


def _short(name: str) -> str:
    """A name that a caller gave, not longer than names are."""
    return repr(name if len(name) <= NAME_CHARACTERS_MAX else f"{name[:NAME_CHARACTERS_MAX]}…")


def _listed(verbs: frozenset[Verb]) -> str:
    return " or ".join(sorted(verbs))
