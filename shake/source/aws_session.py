"""Finds the source's endpoint and credentials by the standard AWS rules and the configuration."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
    RefreshableCredentials,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.exceptions import HTTPClientError

from shake.clock import boot_clock
from shake.errors import RefusedError, SourceError
from shake.source.advice import advice_on_session
from shake.source.answer import INVALID_KEYS
from shake.source.aws_profile import adapt_providers, profile_files, reason, stamps
from shake.source.client import Client, Unreachable
from shake.source.endpoint import Credentials, Endpoint, in_aws

if TYPE_CHECKING:
    from shake.config import Config

#: Seconds between two requests that ask whether the source still takes the old credentials.
_ASK_SECONDS = 5.0

#: Signs requests to an endpoint outside of AWS, which does not care.
_ANY_REGION = "us-east-1"


class CredentialSource:
    """Gives the current credentials, refreshed in good time.

    ``problem`` says why the last refresh failed, empty when it did not: the old credentials stay
    in use until DynamoDB refuses them, and the client waits for newer ones then.
    ``files`` are those of the profiles. When one has changed, and the source (``refused``) does
    not take the old credentials any more, ``open_chain`` reads them again. Not before: the new
    ones can be those of another account.
    Only the supervisor has one: many workers at once would storm the instance-metadata service.
    """

    def __init__(
        self,
        open_chain: Callable[[], Any],
        files: tuple[str, ...],
        refused: Callable[[Credentials], bool],
    ) -> None:
        self._open_chain = open_chain
        self._files, self._refused = files, refused
        self._stamps, self._asked = stamps(files), -_ASK_SECONDS
        self._lock = threading.Lock()  # of who reads the files again
        self._chain = open_chain()
        self.refreshable = bool(files) or isinstance(self._chain, RefreshableCredentials)
        self.problem = ""
        self._last = self._fetch()

    def __call__(self) -> Credentials:
        try:
            if stamps(self._files) != self._stamps and self._lock.acquire(blocking=False):
                try:
                    if boot_clock() - self._asked >= _ASK_SECONDS:
                        self._asked = boot_clock()
                        self._read_again()
                finally:
                    self._lock.release()
            self._last = self._fetch()
            self.problem = ""
        except Exception as error:  # as in open_source
            self.problem = self._last.redact(reason(error))
        return self._last

    def _read_again(self) -> None:
        found = stamps(self._files)
        if self._refused(self._last):
            chain = self._open_chain()
            chain.get_frozen_credentials()  # raises where only a part is written yet
            if stamps(self._files) == found:
                self._chain, self._stamps = chain, found

    def _fetch(self) -> Credentials:
        frozen = self._chain.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, self.refreshable)


def open_source(config: Config) -> tuple[Endpoint, CredentialSource]:
    """The endpoint, and credentials that have been fetched once.

    Raises RefusedError, with the way out, where no region or no credentials are found.
    """
    try:
        session = _session(config)
        endpoint = _endpoint(session, config)
        credentials = CredentialSource(
            lambda: _chain(_session(config), config),
            profile_files(session) if _from_profile(config) else (),
            partial(_refused, endpoint),
        )
        return endpoint, credentials
    except RefusedError:
        raise
    except Exception as error:  # botocore lets through whatever its many providers raise
        way_out = advice_on_session(error) or (
            "check source.region, source.profile, source.assume_role_arn, source.endpoint_url and "
            "the AWS environment"
        )
        passes = isinstance(error, (BotoConnectionError, HTTPClientError))
        raise RefusedError(f"no AWS session: {reason(error)}; {way_out}", passes=passes) from error


def _session(config: Config) -> boto3.Session:
    session = boto3.Session(
        aws_access_key_id=config.source_access_key_id,
        aws_secret_access_key=config.source_secret_access_key,
        aws_session_token=config.source_session_token,
        profile_name=config.source_profile,
        region_name=config.source_region,
    )
    adapt_providers(session)
    return session


def _from_profile(config: Config) -> bool:
    """Whether neither the configuration nor the environment gives the keys themselves."""
    if config.source_access_key_id is not None:
        return False
    return config.source_profile is not None or "AWS_ACCESS_KEY_ID" not in os.environ


def _refused(endpoint: Endpoint, credentials: Credentials) -> bool:
    """Whether the source does not take these credentials, or not any more."""
    static = credentials._replace(refreshable=False)
    client = Client(endpoint, lambda: static, on_retry=lambda retry: None, stop=threading.Event())
    try:
        client.ask("ListTables", {"Limit": 1}, max_tries=1)
    except SourceError as error:
        return error.code in INVALID_KEYS
    except Unreachable:
        return False
    finally:
        client.close()
    return False


def _endpoint(session: boto3.Session, config: Config) -> Endpoint:
    region = session.region_name
    url, streams = _urls(session, config)
    if not region and (in_aws(url) or in_aws(streams)):
        raise RefusedError(
            "no AWS region: set source.region, AWS_DEFAULT_REGION, or a region in the profile"
        )
    milliseconds = config.source_session_timeout
    return Endpoint(
        url=url,
        region=region or _ANY_REGION,
        timeout=milliseconds / 1000 if milliseconds else None,
        streams_url=streams,
        ca_bundle=session._session.get_config_variable("ca_bundle") or "",
    )


def _urls(session: boto3.Session, config: Config) -> tuple[str, str]:
    """Where tables are, and where streams.

    Each has its own key, and else its own setting of the AWS SDK. Where neither names an endpoint
    of streams, they are in AWS if the tables are, and else at the endpoint of the tables.
    Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    given, streams = config.source_endpoint_url, config.source_streams_endpoint_url
    if given is not None and not in_aws(given) and (streams or not _sets_services(session)):
        return given, streams or given  # without a client, which takes a moment to be made
    client = partial(session.client, region_name=session.region_name or _ANY_REGION)
    url: str = client("dynamodb", endpoint_url=given).meta.endpoint_url
    if not streams:
        streams = client("dynamodbstreams").meta.endpoint_url
        aws = botocore.config.Config(ignore_configured_endpoint_urls=True)
        usual = client("dynamodbstreams", config=aws).meta.endpoint_url
        if streams.rstrip("/") == usual.rstrip("/") and not in_aws(url):
            streams = url
    return url, streams


def _sets_services(session: boto3.Session) -> bool:
    """Whether settings of the AWS SDK can name an endpoint of streams alone."""
    in_environment = "AWS_ENDPOINT_URL_DYNAMODB_STREAMS" in os.environ
    return in_environment or "services" in session._session.get_scoped_config()


def _chain(session: boto3.Session, config: Config) -> Any:
    """Botocore's credentials object, which refreshes itself where the kind allows."""
    base = session.get_credentials()
    if base is None:
        raise RefusedError(
            "no AWS credentials: set source.access_key_id and source.secret_access_key, or"
            " source.profile, or run where the AWS environment provides some"
        )
    if not config.source_assume_role_arn:
        return base
    extra = {"RoleSessionName": "shake"}
    if config.source_external_id:
        extra["ExternalId"] = config.source_external_id
    fetcher = AssumeRoleCredentialFetcher(
        partial(session.client, region_name=session.region_name or _ANY_REGION),
        base,
        config.source_assume_role_arn,
        extra_args=extra,
    )
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
