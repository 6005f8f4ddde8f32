"""Everything that can go wrong, as one tree. No HTTP here: `web/problems.py` gives each code a status.

NodeError
├── Rejected                 the request itself cannot be served
│   ├── InvalidInput
│   ├── InputTooLarge
│   ├── UnsupportedMode
│   ├── UnsupportedMediaType
│   ├── Malformed             not even readable: broken JSON, two Authorization headers
│   ├── NotAcceptable         no answer exists in a form that the client takes
│   ├── MethodNotAllowed
│   ├── HeadersTooLarge
│   └── TooSlow               the request did not arrive in time
├── Denied                   the caller may not
│   ├── AuthenticationRequired
│   ├── SignatureInvalid
│   ├── SessionExpired
│   ├── NonceReused
│   ├── LicenseMissing
│   ├── LicenseExpired
│   └── NotPermitted
├── NotFound
│   ├── ModelNotFound
│   ├── ModelNotServed
│   ├── ContentNotFound
│   ├── NotCached
│   └── RouteNotFound
├── Conflict
│   ├── ModelAmbiguous
│   └── RevisionMismatch
├── Upstream                 a peer of the node's failed (retriable)
│   ├── ChainUnavailable
│   ├── GatewayUnavailable
│   ├── StoreFull
│   └── UrlFetchFailed
├── ContentMismatch          bytes are not what their CID says
├── ManifestInvalid          the publisher's metadata.json cannot be served
├── ModelInvalid             the publisher's weights cannot be served
├── Overloaded               (retriable) a queue is full
│   └── TooManyInFlight       by this caller alone
├── Starting                 (retriable)
├── ShuttingDown             (retriable)
├── DeadlineExceeded
├── Fault                    ours
│   └── WorkerCrashed
└── StartupError             the node cannot start; never reaches a client
    └── SettingsInvalid
"""

from __future__ import annotations

from typing import ClassVar


class NodeError(Exception):
    """Base of every error that a client may see.

    Parameters
    ----------
    message
        What was wrong and what to do, for people. Never a secret, a path of the machine or a stack.
    suggestion
        A next step worth trying, if there is one beyond the message.
    retry_after
        Seconds after which the same request may succeed.
    detail
        Further members for the problem document: plain JSON values.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    retriable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        suggestion: str | None = None,
        retry_after: float | None = None,
        **detail: object,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion
        self.retry_after = retry_after
        self.detail = detail


class Rejected(NodeError):
    code, title = "rejected", "Request rejected"


class InvalidInput(Rejected):
    code, title = "invalid_input", "Invalid input"


class InputTooLarge(Rejected):
    code, title = "input_too_large", "Input too large"


class UnsupportedMode(Rejected):
    code, title = "unsupported_mode", "Unsupported execution mode"


class UnsupportedMediaType(Rejected):
    code, title = "unsupported_media_type", "Unsupported media type"


class Malformed(Rejected):
    code, title = "malformed", "Malformed request"


class NotAcceptable(Rejected):
    code, title = "not_acceptable", "Not acceptable"


class MethodNotAllowed(Rejected):
    code, title = "method_not_allowed", "Method not allowed"


class HeadersTooLarge(Rejected):
    code, title = "headers_too_large", "Request headers too large"


class TooSlow(Rejected):
    code, title, retriable = "too_slow", "Request arrived too slowly", True


class Denied(NodeError):
    code, title = "denied", "Denied"


class AuthenticationRequired(Denied):
    code, title = "authentication_required", "Authentication required"


class SignatureInvalid(Denied):
    code, title = "signature_invalid", "Signature invalid"


class SessionExpired(Denied):
    code, title = "session_expired", "Session expired"


class NonceReused(Denied):
    code, title = "nonce_reused", "Nonce reused"


class LicenseMissing(Denied):
    code, title = "license_missing", "No valid license"


class LicenseExpired(Denied):
    code, title = "license_expired", "No valid license"


class NotPermitted(Denied):
    code, title = "not_permitted", "Not permitted"


class NotFound(NodeError):
    code, title = "not_found", "Not found"


class ModelNotFound(NotFound):
    code, title = "model_not_found", "Model not found"


class ModelNotServed(NotFound):
    code, title = "model_not_served", "Model not found"


class ContentNotFound(NotFound):
    code, title = "content_not_found", "Content not found"


class NotCached(NotFound):
    code, title = "not_cached", "Content not held here"


class RouteNotFound(NotFound):
    code, title = "route_not_found", "Not found"


class Conflict(NodeError):
    code, title = "conflict", "Conflict"


class ModelAmbiguous(Conflict):
    code, title = "model_ambiguous", "Model name is ambiguous"


class RevisionMismatch(Conflict):
    code, title = "revision_mismatch", "Not the CID that the token carries"


class Upstream(NodeError):
    code, title, retriable = "upstream", "Upstream unavailable", True


class ChainUnavailable(Upstream):
    code, title = "chain_unavailable", "Chain unavailable"


class GatewayUnavailable(Upstream):
    code, title = "gateway_unavailable", "No gateway could deliver the content"


class StoreFull(Upstream):
    code, title = "store_full", "Content store full"


class UrlFetchFailed(Upstream):
    code, title, retriable = "url_fetch_failed", "The URL could not be fetched", False


class ContentMismatch(NodeError):
    code, title = "content_mismatch", "Content does not match its CID"


class ManifestInvalid(NodeError):
    code, title = "manifest_invalid", "Manifest invalid"


class ModelInvalid(NodeError):
    code, title = "model_invalid", "Model invalid"


class Overloaded(NodeError):
    code, title, retriable = "overloaded", "Overloaded", True


class TooManyInFlight(Overloaded):
    code, title = "too_many_in_flight", "Too many requests at once"


class Starting(NodeError):
    code, title, retriable = "starting", "Node is starting", True


class ShuttingDown(NodeError):
    code, title, retriable = "shutting_down", "Node is shutting down", True


class DeadlineExceeded(NodeError):
    code, title = "deadline_exceeded", "Deadline exceeded"


class Fault(NodeError):
    code, title = "fault", "Internal error"


class WorkerCrashed(Fault):
    code, title, retriable = "worker_crashed", "The model's worker crashed", True


class StartupError(NodeError):
    code, title = "startup", "Node cannot start"


class SettingsInvalid(StartupError):
    code, title = "settings_invalid", "Settings invalid"
