"""Judges one HTTP answer of DynamoDB: good bytes, a fault that waiting cures, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from zlib_ng import zlib_ng

from shake.errors import SourceError
from shake.source.advice import advice
from shake.source.endpoint import Credentials

Kind = Literal["throttle", "fault"]

#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
#: and the codes that the AWS SDKs count as throttling in every service.
_THROTTLES = frozenset(
    {
        "BandwidthLimitExceeded",
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_FAULTS = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
    }
)
#: Codes that say what is not there, or not any more.
NOT_FOUND, TRIMMED = "ResourceNotFoundException", "TrimmedDataAccessException"
EXPIRED_ITERATOR = "ExpiredIteratorException"
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
#: How the source refuses keys that are not valid, or not any more.
INVALID_KEYS = EXPIRED | {"InvalidClientTokenId", "UnrecognizedClientException"}
_BAD_SIGNATURE = frozenset({"InvalidSignatureException", "SignatureDoesNotMatch"})
#: A clock that is off, or a machine that slept between signing and sending.
_CLOCK = ("Signature expired", "Signature not yet current")
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/CommonErrors.html
_SKEWED = frozenset({"RequestExpired", "RequestTimeTooSkewed"})


#: What the user can do about these two, and about any other fault.
SET_CLOCK = "set the clock of this machine, by chrony or another NTP client"
RENEW = "renew the credentials: files of profiles are read again once they have expired"
CHECK_NETWORK = "check {key}, source.region and the network"

#: Characters that are shown of an error.
_LONGEST_CODE, _LONGEST_MESSAGE = 100, 2000


class Transient(Exception):
    """The request failed in a way that waiting cures; ``reason`` can be shown to the user.

    ``advice`` is what the user can do where it lasts.
    """

    def __init__(self, kind: Kind, reason: str, advice: str = CHECK_NETWORK) -> None:
        self.kind = kind
        self.reason = reason
        self.advice = advice
        super().__init__(reason)


def judge(
    operation: str,
    status: int,
    headers: Mapping[str, str],
    body: memoryview,
    credentials: Credentials,
) -> None:
    """Pass an answer that is whole and good.

    Raises Transient where the same request may succeed later, SourceError where it will not.
    ``credentials`` signed the request: they are masked in every message.
    """
    damage = _damage(headers, body)
    if damage:
        raise Transient("fault", damage)
    if status == 200:
        if bytes(body[:1]) != b"{" or not bytes(body[-16:]).rstrip().endswith(b"}"):
            raise Transient("fault", "the answer is not JSON")
        return
    if status == 429:
        raise Transient("throttle", "HTTP 429")
    try:
        error = orjson.loads(body)
    except orjson.JSONDecodeError:
        error = None
    if not isinstance(error, dict):
        raise Transient("fault", f"HTTP {status} without a DynamoDB error in it")
    code, message = _code(error), str(error.get("message") or error.get("Message") or "")
    message = credentials.redact(message)[:_LONGEST_MESSAGE]
    if code in _THROTTLES:
        raise Transient("throttle", f"{code}: {message}")
    if code in EXPIRED and credentials.refreshable:
        raise Transient("fault", f"HTTP {status} {code}: {message}", RENEW)
    if code in _SKEWED or (code in _BAD_SIGNATURE and message.startswith(_CLOCK)):
        reason = f"the clocks of this machine and the source differ: {message}"
        raise Transient("fault", reason, SET_CLOCK)
    if status >= 500 or code in _FAULTS:
        raise Transient("fault", f"HTTP {status} {code}: {message}")
    if code in _BAD_SIGNATURE | INVALID_KEYS:
        message = f"{message} ({credentials.name})".strip()
    code = code or f"HTTP {status}"
    raise SourceError(operation, code, message, advice(operation, code, message))


def _damage(headers: Mapping[str, str], body: memoryview) -> str:
    """Say what the transport has done to the body, empty when nothing."""
    length = headers.get("content-length")
    if length is not None and length != str(len(body)):
        return f"the answer was cut: {len(body)} of {length} bytes"
    crc = headers.get("x-amz-crc32")
    if crc is not None and crc != str(zlib_ng.crc32(body)):
        return "the answer was damaged: its CRC32 differs from x-amz-crc32"
    return ""


def _code(error: dict[str, Any]) -> str:
    """``com.amazonaws.dynamodb.v20120810#ThrottlingException`` is ``ThrottlingException``."""
    code = str(error.get("__type") or error.get("code") or "")
    return code.rpartition("#")[2].partition(":")[0][:_LONGEST_CODE]
