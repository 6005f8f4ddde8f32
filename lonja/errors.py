"""Everything the SDK and the CLI raise, as one tree. Codes and names under `ApiError` are those of the node.

LonjaError
├── ApiError                 the node answered with a problem; `code` tells which
│   ├── Rejected             InvalidInput, InputTooLarge, UnsupportedMode, UnsupportedMediaType,
│   │                        Malformed, NotAcceptable, MethodNotAllowed, HeadersTooLarge, TooSlow
│   ├── Denied               AuthenticationRequired, SignatureInvalid, SessionExpired, NonceReused,
│   │                        LicenseMissing, LicenseExpired, NotPermitted
│   ├── NotFound             ModelNotFound, ModelNotServed, ContentNotFound, NotCached, RouteNotFound
│   ├── Conflict             ModelAmbiguous, RevisionMismatch
│   ├── Upstream             ChainUnavailable, GatewayUnavailable, StoreFull, UrlFetchFailed
│   ├── ContentMismatch, ManifestInvalid, ModelInvalid, DeadlineExceeded
│   ├── Overloaded               TooManyInFlight
│   ├── Starting, ShuttingDown
│   └── Fault                WorkerCrashed
├── NodeUnreachable          no answer at all, also after retries
├── ResponseInvalid          an answer that is not this interface's
├── SignInRefused            the node asks for a signature that would not be for it
├── SignerRequired           the call needs a key, and the client has none
├── ChainFailed              a transaction or a chain call did not go through
├── KeyFileInvalid
│   └── PasswordRequired
├── UsageInvalid             arguments that cannot be right
└── DevnetFailed             the development world could not be started
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class LonjaError(Exception):
    """Base of every error of this package; its text is one sentence for people."""


class ApiError(LonjaError):
    """The node refused or failed a request.

    Attributes
    ----------
    message : what was wrong and what to do.
    status : the HTTP status.
    code : stable name of the problem; with a class of its own wherever this version knows it.
    retriable : whether the same request may succeed later.
    suggestion : a next step, where the node has one.
    retry_after : seconds to wait, where the node said so.
    request_id : quote it to the node's operator.
    problem : the whole problem document (RFC 9457).
    """

    code: str = "internal"
    retriable: bool = False

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str | None = None,
        suggestion: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        problem: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        if code is not None:
            self.code = code
        self.suggestion = suggestion
        self.retry_after = retry_after
        self.request_id = request_id
        self.problem = dict(problem or {})


class Rejected(ApiError):
    code = "rejected"


class InvalidInput(Rejected):
    code = "invalid_input"


class InputTooLarge(Rejected):
    code = "input_too_large"


class UnsupportedMode(Rejected):
    code = "unsupported_mode"


class UnsupportedMediaType(Rejected):
    code = "unsupported_media_type"


class Malformed(Rejected):
    code = "malformed"


class NotAcceptable(Rejected):
    code = "not_acceptable"


class MethodNotAllowed(Rejected):
    code = "method_not_allowed"


class HeadersTooLarge(Rejected):
    code = "headers_too_large"


class TooSlow(Rejected):
    code, retriable = "too_slow", True


class Denied(ApiError):
    code = "denied"


class AuthenticationRequired(Denied):
    code = "authentication_required"


class SignatureInvalid(Denied):
    code = "signature_invalid"


class SessionExpired(Denied):
    code = "session_expired"


class NonceReused(Denied):
    code = "nonce_reused"


class LicenseMissing(Denied):
    code = "license_missing"


class LicenseExpired(Denied):
    code = "license_expired"


class NotPermitted(Denied):
    code = "not_permitted"


class NotFound(ApiError):
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class ModelNotServed(NotFound):
    code = "model_not_served"


class ContentNotFound(NotFound):
    code = "content_not_found"


class NotCached(NotFound):
    code = "not_cached"


class RouteNotFound(NotFound):
    code = "route_not_found"


class Conflict(ApiError):
    code = "conflict"


class ModelAmbiguous(Conflict):
    code = "model_ambiguous"


class RevisionMismatch(Conflict):
    code = "revision_mismatch"


class Upstream(ApiError):
    code, retriable = "upstream", True


class ChainUnavailable(Upstream):
    code = "chain_unavailable"


class GatewayUnavailable(Upstream):
    code = "gateway_unavailable"


class StoreFull(Upstream):
    code = "store_full"


class UrlFetchFailed(Upstream):
    code, retriable = "url_fetch_failed", False


class ContentMismatch(ApiError):
    code = "content_mismatch"


class ManifestInvalid(ApiError):
    code = "manifest_invalid"


class ModelInvalid(ApiError):
    code = "model_invalid"


class Overloaded(ApiError):
    code, retriable = "overloaded", True


class TooManyInFlight(Overloaded):
    code = "too_many_in_flight"


class Starting(ApiError):
    code, retriable = "starting", True


class ShuttingDown(ApiError):
    code, retriable = "shutting_down", True


class DeadlineExceeded(ApiError):
    code = "deadline_exceeded"


class Fault(ApiError):
    code = "fault"


class WorkerCrashed(Fault):
    code, retriable = "worker_crashed", True


class NodeUnreachable(LonjaError):
    """The node could not be reached, or did not answer in time."""


class ResponseInvalid(LonjaError):
    """The answer is not what this interface says: probably not a Lonja node."""


class SignInRefused(LonjaError):
    """The node's sign-in challenge names another host than the one we talk to, so it is not signed."""


class SignerRequired(LonjaError):
    """The client was made without a key."""


class ChainFailed(LonjaError):
    """A transaction was refused, reverted, or could not be sent.

    Attributes
    ----------
    reason : name of the contract's custom error, where it gave one.
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class KeyFileInvalid(LonjaError):
    """No usable key in this file."""


class PasswordRequired(KeyFileInvalid):
    """The file is encrypted and no password was given."""


class UsageInvalid(LonjaError):
    """Arguments that cannot be right."""


class DevnetFailed(LonjaError):
    """The development world did not come up."""


def _kinds(root: type[ApiError]) -> Iterator[type[ApiError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


BY_CODE: dict[str, type[ApiError]] = {kind.code: kind for kind in _kinds(ApiError)}
"""The class of each code; a code that this version does not know is a plain `ApiError`."""


def from_problem(problem: Mapping[str, object], *, status: int, retry_after: float | None) -> ApiError:
    """The typed error of a problem document, whatever members it lacks."""
    code = str(problem.get("code") or "")
    message = problem.get("detail") or problem.get("message") or problem.get("title") or f"HTTP {status}"
    suggestion, request_id = problem.get("suggestion"), problem.get("request_id")
    return BY_CODE.get(code, ApiError)(
        str(message),
        status=status,
        code=code or None,
        suggestion=str(suggestion) if suggestion else None,
        retry_after=retry_after,
        request_id=str(request_id) if request_id else None,
        problem=problem,
    )
