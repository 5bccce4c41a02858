"""Sends requests to DynamoDB and gives back the raw answers, riding out all that waiting cures."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from shake.errors import RunError, Stopped
from shake.source.answer import Kind, Transient, judge
from shake.source.endpoint import Credentials, Endpoint, shown

__all__ = ["Client", "Credentials", "Endpoint", "Retry", "Unreachable"]

T = TypeVar("T")

#: Seconds: the n-th pause is drawn from 0 to FIRST * 2 ** (n - 1), but never more than LONGEST.
#: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter")
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 20.0

#: Idle connections kept open; more may be in use at the same time.
_POOL = 64
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]
_STREAMS = frozenset({"ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"})


@dataclass(frozen=True, slots=True)
class Retry:
    """A request failed for the ``tries``-th time in a row and will be sent again."""

    kind: Kind
    operation: str
    reason: str
    tries: int


class Unreachable(RunError):
    """The source did not give a good answer in the tries that were allowed.

    ``reason`` says what went wrong the last time.
    """

    def __init__(self, operation: str, url: str, tries: int, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{operation}: no good answer from {shown(url)} in {tries} tries: {reason}; check"
            " source.endpoint_url, source.region and the network"
        )


class Client:
    """A thread-safe client of one endpoint.

    ``credentials`` gives the current ones for each try. ``on_retry`` is called from the thread
    that waits. Once ``stop`` is set, no request is sent any more and waits end: Stopped is raised.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Callable[[], Credentials],
        *,
        on_retry: Callable[[Retry], None],
        stop: threading.Event,
        random: random.Random,
    ) -> None:
        self.endpoint = endpoint
        self._credentials = credentials
        self._on_retry = on_retry
        self._stop = stop
        self._random = random
        self._http = URLLib3Session(
            verify=endpoint.ca_bundle or True,
            proxies=get_environ_proxies(endpoint.url),
            timeout=(endpoint.timeout, endpoint.timeout),
            max_pool_connections=_POOL,
            socket_options=_SOCKET_OPTIONS,
        )

    def call(self, operation: str, body: bytes, *, attempts: int | None = None) -> bytes:
        """Send one JSON 1.0 request and return the body of its answer, byte for byte.

        Throttling, network faults, server errors and damaged answers are tried again with
        back-off, for as long as they last or ``attempts`` times in all: then Unreachable.
        Raises SourceError for what no waiting cures.
        """
        return self._persist(operation, body, attempts, bytes)

    def ask(
        self, operation: str, request: dict[str, Any], *, attempts: int | None = None
    ) -> dict[str, Any]:
        """As :meth:`call`, for small requests and answers as Python objects."""
        return self._persist(operation, orjson.dumps(request), attempts, _parse)

    def close(self) -> None:
        """Close the idle connections."""
        self._http.close()

    def _persist(
        self, operation: str, body: bytes, attempts: int | None, parse: Callable[[bytes], T]
    ) -> T:
        tries = 0
        while not self._stop.is_set():
            try:
                return parse(self._send(operation, body))
            except Transient as failure:
                tries += 1
                if attempts is not None and tries >= attempts:
                    raise Unreachable(operation, self.endpoint.url, tries, failure.reason) from None
                self._on_retry(Retry(failure.kind, operation, failure.reason, tries))
                self._stop.wait(self._random.uniform(0, longest_pause(tries)))
        raise Stopped(f"{operation} was given up: the task is stopping")

    def _send(self, operation: str, body: bytes) -> bytes:
        credentials = self._credentials()
        service, url = "DynamoDB", self.endpoint.url
        if operation in _STREAMS:
            service, url = "DynamoDBStreams", self.endpoint.streams_url or url
        request = AWSRequest(
            method="POST",
            url=url,
            headers={
                "Accept-Encoding": "identity",  # the CRC is of the bytes as they travel
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": f"{service}_20120810.{operation}",
            },
            data=body,
            stream_output=True,
        )
        SigV4Auth(credentials, "dynamodb", self.endpoint.region).add_auth(request)
        try:
            response = self._http.send(request.prepare())
            answer: bytes = response.raw.read(decode_content=False)
        except (BotoCoreError, HTTPError) as error:
            reason = credentials.redact(str(error).replace(url, shown(url)))
            raise Transient("fault", reason) from error
        return judge(operation, response.status_code, response.headers, answer, credentials)


def longest_pause(tries: int) -> float:
    """Seconds that the pause after so many failures may last at most."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries - 1, 30))


def _parse(body: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Transient("fault", f"the answer is not JSON: {error}") from None
    return answer
