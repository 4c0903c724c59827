"""Who calls, and with which token."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import grpc

from tailrace.auth.v1.auth_service_pb2 import (
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    RefreshTokenRequest,
    RefreshTokenResponse,
)
from tailrace.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from tailrace.failure import failure_of
from tailrace.retry import RetryOptions, retrying

# A token is renewed when this share of its life is over.
_FRESH_SHARE = 0.8


@dataclass(frozen=True)
class Password:
    """The account to sign in with."""

    email: str
    password: str

    def __repr__(self) -> str:
        """Show whose it is and not the secret."""
        return f"Password(email={self.email!r})"


Credentials = Password | str | Callable[[], str | None] | None
"""Who calls: an account, whose token is kept fresh; a token; a function that gives the current one; nobody."""


@dataclass(frozen=True)
class _Grant:
    access_token: str
    refresh_token: str
    fresh_until: float
    valid_until: float


class Tokens(Protocol):
    """Where the token of a call comes from."""

    def token(self) -> str | None:
        """Give the token to send, or none."""

    def refused(self, token: str) -> bool:
        """Take note that the server refused a token, and tell whether there will be another."""


class Given:
    """A token that somebody else keeps."""

    def __init__(self, token: str | Callable[[], str | None] | None) -> None:
        self._token = token

    def token(self) -> str | None:
        """Give the current one."""
        return self._token() if callable(self._token) else self._token

    def refused(self, token: str) -> bool:
        """Tell that it is not for us to get another."""
        return False


class Session:
    """A sign-in that lasts.

    It signs in when a token is first needed, renews the token before it ends, once for all calls that wait for it, and
    signs in anew when the refresh token is no longer taken. It can be used from many threads.
    """

    def __init__(
        self, auth: AuthServiceStub, account: Password, retry: RetryOptions, now: Callable[[], float] = time.time
    ) -> None:
        """``auth`` is a stub that sends no token."""
        self._auth = auth
        self._account = account
        self._retry = retry
        self._now = now
        self._grant: _Grant | None = None
        # Held while a token is fetched: all others wait for the same.
        self._lock = threading.Lock()

    def token(self) -> str:
        """Give a token that is valid for a while."""
        with self._lock:
            if self._grant is None or self._now() >= self._grant.fresh_until:
                self._grant = self._renewed(self._grant)
            return self._grant.access_token

    def renew(self) -> None:
        """Get another token now: one with the rights that its user has meanwhile."""
        with self._lock:
            self._grant = self._renewed(self._grant)

    def refused(self, token: str) -> bool:
        """Take note that the server refused a token, so that the next call gets another."""
        with self._lock:
            if self._grant is not None and self._grant.access_token == token:
                self._grant = replace(self._grant, fresh_until=0.0, valid_until=0.0)
        return True

    def sign_out(self) -> None:
        """End the sign-in at the server; the next call would begin another."""
        with self._lock:
            grant, self._grant = self._grant, None
        if grant is not None and grant.refresh_token:
            self._auth.Logout(LogoutRequest(refresh_token=grant.refresh_token))

    def _renewed(self, last: _Grant | None) -> _Grant:
        if last is not None:
            self._grant = replace(last, refresh_token="")
        try:
            return (last and last.refresh_token and self._refreshed(last.refresh_token)) or self._login()
        except grpc.RpcError:
            if self._grant is not None and self._now() < self._grant.valid_until:
                return self._grant
            raise

    def _refreshed(self, refresh_token: str) -> _Grant | None:
        # A refresh token works once: when the answer is lost it may be spent, and to show it again would end the
        # sign-in. So it is forgotten before it is used, and any failure gives way to a new sign-in.
        try:
            return self._granted(self._auth.RefreshToken(RefreshTokenRequest(refresh_token=refresh_token)))
        except grpc.RpcError:
            return None

    def _login(self) -> _Grant:
        request = LoginRequest(email=self._account.email, password=self._account.password)
        # An answer that was lost leaves a sign-in that nobody uses, which does no harm.
        return self._granted(retrying(lambda: self._auth.Login(request), self._retry))

    def _granted(self, answer: LoginResponse | RefreshTokenResponse) -> _Grant:
        life = answer.expires_in.ToTimedelta().total_seconds()
        now = self._now()
        return _Grant(answer.access_token, answer.refresh_token, now + life * _FRESH_SHARE, now + life)


class Authorize(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sends a token with every call, and a call that was refused for its token once more with another."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """Send a call with one answer."""
        token = self._tokens.token()
        outcome = continuation(_with_token(client_call_details, token), request)
        error = outcome.exception()
        if token is None or not _was_refused(error) or not self._tokens.refused(token):
            return outcome
        return continuation(_with_token(client_call_details, self._tokens.token()), request)

    def intercept_unary_stream(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """Send a call with a stream of answers."""
        return continuation(_with_token(client_call_details, self._tokens.token()), request)


def _with_token(details: Any, token: str | None) -> Any:
    if token is None:
        return details
    metadata = [*(details.metadata or ()), ("authorization", f"Bearer {token}")]
    return details._replace(metadata=metadata)


def _was_refused(error: object) -> bool:
    if not isinstance(error, grpc.RpcError):
        return False
    failure = failure_of(error)
    return failure.code is grpc.StatusCode.UNAUTHENTICATED and failure.reason.startswith("TOKEN_")
