"""What a client is told when a request is not answered: an HTTP status and one sentence."""

from __future__ import annotations

import math

from omni_sdk.errors import InputError, MemoryBudgetError, OmniError

BAD_REQUEST = 400
NOT_FOUND = 404
METHOD_NOT_ALLOWED = 405
TOO_SLOW = 408
TOO_LARGE = 413
UNSUPPORTED_ENCODING = 415
TOO_MANY = 429
FAILED = 500
UNAVAILABLE = 503
DEADLINE = 504


class Problem(InputError):
    """A request that gets an error for an answer.

    Parameters
    ----------
    message : str
        What was expected, what came, and where.
    status : int, default 400
        Of HTTP.
    retry_after : float, optional
        Seconds after which another try may succeed.
    allow : str, optional
        Methods that the path takes: RFC 9110 wants them with a 405.
    hint : str, optional
        The remedy.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = BAD_REQUEST,
        retry_after: float | None = None,
        allow: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after = retry_after
        self.allow = allow

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`, whole seconds and at least 1, and `Allow`: where there are such."""
        found = {} if self.retry_after is None else {"retry-after": str(max(1, math.ceil(self.retry_after)))}
        return found if self.allow is None else {**found, "allow": self.allow}


def problem_of(error: BaseException) -> Problem:
    """The answer to a request that met this error."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, TimeoutError):
        return Problem("Expected a run within the request's deadline, got a longer one - at infer", status=DEADLINE)
    if isinstance(error, MemoryBudgetError):
        return Problem(str(error), status=UNAVAILABLE, retry_after=1.0)
    if isinstance(error, InputError):
        return Problem(str(error))
    if isinstance(error, OmniError):
        return Problem(str(error), status=FAILED)
    return Problem("Expected an answer, got a failure of the server - at the server's log", status=FAILED)
