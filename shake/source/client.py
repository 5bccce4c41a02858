"""Sends requests to DynamoDB, retries after temporary faults, and returns the raw answers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from shake.backoff import Backoff
from shake.clock import boot_clock
from shake.errors import RunError, Stopped
from shake.source.answer import Kind, Transient, judge
from shake.source.clock import SourceClock
from shake.source.connection import Buffer, Connection, ConnectionBroken
from shake.source.endpoint import Credentials, Endpoint, shown

T = TypeVar("T")

#: Pauses between the tries of a request.
BACKOFF = Backoff(first=0.05, longest=20.0)

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

    ``reason`` says what went wrong the last time, and ``advice`` what to do.
    """

    passes = True

    def __init__(self, operation: str, url: str, tries: int, reason: str, advice: str) -> None:
        self.reason = reason
        super().__init__(
            f"{operation}: no good answer from {shown(url)} in {tries} tries: {reason}; {advice}"
        )


def _as_it_is(body: memoryview) -> Any:
    return body


class Client:
    """A thread-safe client of one endpoint.

    ``credentials`` gives the current ones for each try. ``on_retry`` is called from the thread
    that waits. Once ``stop`` is set, no request is sent any more and waits end: Stopped is raised.
    ``clock`` learns from each good answer.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Callable[[], Credentials],
        *,
        on_retry: Callable[[Retry], None],
        stop: threading.Event,
        random: Random | None = None,
        clock: SourceClock | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.clock = clock or SourceClock()
        self.credentials = credentials
        self.on_retry = on_retry
        self.stop = stop
        self._random = random or Random()
        # By URL, the last used at the right end: the others may close for want of use.
        self._idle: dict[str, deque[Connection]] = defaultdict(deque)

    def begin(self, operation: str, body: bytes, buffer: Buffer) -> Call:
        """Send one JSON 1.0 request; its answer will be received into ``buffer``."""
        call = Call(self, operation, body, buffer)
        if not self.stop.is_set():
            call.send()
        return call

    def call(self, operation: str, body: bytes, *, max_tries: int | None = None) -> bytes:
        """Send one JSON 1.0 request and return the body of its answer, byte for byte.

        Throttling, network faults, server errors and damaged answers are tried again with
        back-off, for as long as they last. After ``max_tries`` faults that are not throttling
        it raises Unreachable.
        Raises SourceError for what no waiting cures.
        """
        return self.begin(operation, body, Buffer()).result(_copy, max_tries=max_tries)

    def receive(
        self, operation: str, body: bytes, buffer: Callable[[], Buffer] = Buffer
    ) -> memoryview:
        """As :meth:`call`, without a copy of the answer: a view that ends with a closing 0.

        ``buffer`` is called, and can wait for one, when the request is on its way.
        """
        call = self.begin(operation, body, Buffer())
        call.buffer = buffer()
        return call.result()

    def ask(
        self, operation: str, request: dict[str, Any], *, max_tries: int | None = None
    ) -> dict[str, Any]:
        """As :meth:`call`, for small requests and answers as Python objects."""
        body = orjson.dumps(request)
        return self.begin(operation, body, Buffer()).result(parsed, max_tries=max_tries)

    def close(self) -> None:
        """Close the idle connections."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def connection(self, url: str) -> Connection:
        """An idle connection that is still open, or a new one. Raises ConnectionBroken."""
        idle = self._idle[url]
        with contextlib.suppress(IndexError):
            while True:
                connection = idle.pop()
                if connection.alive:
                    return connection
                connection.close()
        return Connection(url, self.endpoint.timeout, self.endpoint.ca_bundle)

    def give_back(self, url: str, connection: Connection) -> None:
        """Keep a connection whose answer was received whole."""
        self._idle[url].append(connection)

    def pause(self, tries: int) -> None:
        """Wait before the next try."""
        self.stop.wait(BACKOFF.pause(tries, self._random.random))


class Call:
    """A request under way. The thread that sent it may do other work before it takes the answer.

    ``buffer`` is what the answer will be received into.
    """

    def __init__(self, client: Client, operation: str, body: bytes, buffer: Buffer) -> None:
        self._client = client
        self._operation = operation
        self._body = body
        self.buffer = buffer
        service, self._url = "DynamoDB", client.endpoint.url
        if operation in _STREAMS:
            service, self._url = "DynamoDBStreams", client.endpoint.streams_url or self._url
        self._headers = {
            "Accept-Encoding": "identity",  # the CRC is of the bytes as they travel
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"{service}_20120810.{operation}",
        }
        self._credentials = Credentials("", "")  # those of the last try
        self._sent: Connection | None = None
        self._sent_at = 0.0
        self._problem: ConnectionBroken | None = None

    def send(self) -> None:
        """Send the request; the next ``receive`` raises the error of a fault."""
        self._credentials = self._client.credentials()
        try:
            self._sent = self._client.connection(self._url)
            self._sent_at = boot_clock()
            self._sent.send(self._signed_headers(), self._body)
        except ConnectionBroken as error:
            self._problem = error

    def receive(self) -> memoryview:
        """The answer to what was sent: body and a closing 0, good until the buffer's next use.

        Raises Transient where another try may succeed, SourceError where it will not.
        """
        connection, self._sent = self._sent, None
        problem, self._problem = self._problem, None
        try:
            if problem is not None or connection is None:
                raise problem or ConnectionBroken("the request was not sent")
            answer = connection.receive(self.buffer)
        except ConnectionBroken as error:
            if connection is not None:
                connection.close()
            reason = str(error).replace(self._url, shown(self._url))
            raise Transient("fault", self._credentials.redact(reason)) from error
        self._client.give_back(self._url, connection)
        body = answer.body[:-1]
        judge(self._operation, answer.status, answer.headers, body, self._credentials)
        date = answer.headers.get("date")
        self._client.clock.answered(date, self._sent_at, boot_clock(), time.time)
        return answer.body

    def result(
        self, parse: Callable[[memoryview], T] = _as_it_is, *, max_tries: int | None = None
    ) -> T:
        """What ``parse`` makes of a good answer; as :meth:`Client.call` otherwise."""
        client, tries, faults = self._client, 0, 0
        while self._sent or self._problem or not client.stop.is_set():
            try:
                return parse(self.receive())
            except Transient as failure:
                tries += 1
                faults += failure.kind == "fault"
                if max_tries is not None and faults >= max_tries:
                    raise self._unreachable(tries, failure) from None
                client.on_retry(Retry(failure.kind, self._operation, failure.reason, tries))
            client.pause(tries)
            if not client.stop.is_set():
                self.send()
        raise Stopped(f"{self._operation} was given up: the task is stopping")

    def _unreachable(self, tries: int, failure: Transient) -> Unreachable:
        streams = self._operation in _STREAMS
        key = "source.streams_endpoint_url" if streams else "source.endpoint_url"
        advice = failure.advice.format(key=key)
        return Unreachable(self._operation, self._url, tries, failure.reason, advice)

    def cancel(self) -> None:
        """Close the connection, because the answer is no longer needed."""
        if self._sent is not None:
            self._sent.close()

    def _signed_headers(self) -> Mapping[str, str]:
        request = AWSRequest("POST", self._url, self._headers, self._body)
        SigV4Auth(self._credentials, "dynamodb", self._client.endpoint.region).add_auth(request)
        headers: Mapping[str, str] = request.headers
        return headers


def _copy(body: memoryview) -> bytes:
    return bytes(body[:-1])


def parsed(body: memoryview) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = orjson.loads(body[:-1])
    except orjson.JSONDecodeError as error:
        raise Transient("fault", f"the answer is not JSON: {error}") from None
    return answer
