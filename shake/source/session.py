"""Finds the source's endpoint and credentials by the standard AWS rules and the configuration."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    DeferredRefreshableCredentials,
    RefreshableCredentials,
)

from shake.errors import RefusedError
from shake.source.endpoint import Credentials, Endpoint

if TYPE_CHECKING:
    from shake.config import Config

#: Signs requests to an endpoint outside of AWS, which does not care.
_ANY_REGION = "us-east-1"


class CredentialSource:
    """Gives the current credentials, refreshed in good time.

    ``problem`` says why the last refresh failed, empty when it did not: the old credentials stay
    in use until DynamoDB refuses them, and the client waits for newer ones then.
    Only the supervisor has one: many workers at once would storm the instance-metadata service.
    """

    def __init__(self, chain: Any) -> None:
        self._chain = chain
        self.refreshable = isinstance(chain, RefreshableCredentials)
        self.problem = ""
        self._last = self._fetch()

    def __call__(self) -> Credentials:
        try:
            self._last = self._fetch()
            self.problem = ""
        except Exception as error:  # as in open_source
            self.problem = self._last.redact(str(error))
        return self._last

    def _fetch(self) -> Credentials:
        frozen = self._chain.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, self.refreshable)


def open_source(config: Config) -> tuple[Endpoint, CredentialSource]:
    """The endpoint, and credentials that have been fetched once.

    Raises RefusedError, with the way out, where no region or no credentials are found.
    """
    try:
        session = boto3.Session(
            aws_access_key_id=config.source_access_key_id,
            aws_secret_access_key=config.source_secret_access_key,
            aws_session_token=config.source_session_token,
            profile_name=config.source_profile,
            region_name=config.source_region,
        )
        return _endpoint(session, config), CredentialSource(_chain(session, config))
    except RefusedError:
        raise
    except Exception as error:  # botocore lets through whatever its many providers raise
        reason = " ".join(str(error).split())
        raise RefusedError(
            f"no AWS session: {reason}; check source.profile, source.assume_role_arn,"
            " source.endpoint_url and the AWS environment"
        ) from error


def _endpoint(session: boto3.Session, config: Config) -> Endpoint:
    region = session.region_name
    url, streams = _urls(session, config)
    if not region and url != streams:
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
    """Where tables are, and where streams: apart in AWS, together at any other endpoint."""
    given = config.source_endpoint_url
    if given is not None and ".amazonaws." not in given:
        return given, given  # without a client, which takes a moment to be made
    client = partial(session.client, region_name=session.region_name or _ANY_REGION)
    url: str = client("dynamodb", endpoint_url=given).meta.endpoint_url
    aws = botocore.config.Config(ignore_configured_endpoint_urls=True)
    if url != client("dynamodb", config=aws).meta.endpoint_url:
        return url, url
    return url, client("dynamodbstreams").meta.endpoint_url


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
