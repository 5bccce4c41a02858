"""What a user can do about a refusal of AWS, by its code and its words."""

from __future__ import annotations

import re

_ACCESS_KEY = (
    "the access key is wrong, or the session token of a temporary one is missing: check "
    "source.access_key_id, source.session_token, source.profile or the AWS environment"
)
_SECRET_KEY = (
    "the secret key is wrong: check source.secret_access_key, source.profile or the AWS environment"
)
_EXPIRED = (
    "get new temporary keys for source.* or the environment, or use source.profile, whose files "
    "are read again when keys expire"
)
_DENIED = "allow {right} in the IAM policy of this user or role"
_NO_REGION = "the account does not have this region: check source.region"
_WRONG_REGION = "the region is wrong: check source.region, and that source.endpoint_url is in it"
_OTHER_STREAMS = (
    "the table says that it has this stream, so the streams of another region, account or server "
    "are asked: check source.streams_endpoint_url and AWS_ENDPOINT_URL_DYNAMODB_STREAMS"
)
_UNSIGNED = (
    "the signature was lost or changed on the way: a proxy must pass on the header Authorization "
    "as it is"
)
_LOG_IN = "log in again: aws sso login, for the profile in source.profile"
_KEY_OF_TABLE = (
    "let this user or role use the KMS key of the table: allow kms:Decrypt in its IAM policy and "
    "in the key's policy, and check that the key is enabled"
)
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/CommonErrors.html
#: and https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
_BY_CODE = {
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "AuthFailure": _ACCESS_KEY,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "IncompleteSignature": _UNSIGNED,
    "IncompleteSignatureException": _UNSIGNED,
    "InvalidAccessKeyId": _ACCESS_KEY,
    "InvalidClientTokenId": _ACCESS_KEY,
    "InvalidSignatureException": _SECRET_KEY,
    "MissingAuthenticationToken": _UNSIGNED,
    "MissingAuthenticationTokenException": _UNSIGNED,
    "NotAuthorized": _DENIED,
    "OptInRequired": _NO_REGION,
    "RegionDisabledException": _NO_REGION,
    "SignatureDoesNotMatch": _SECRET_KEY,
    "SubscriptionRequiredException": _NO_REGION,
    "UnauthorizedOperation": _DENIED,
    "UnknownOperationException": "check that source.endpoint_url and source.streams_endpoint_url "
    "are endpoints of DynamoDB and of its Streams",
    "UnrecognizedClientException": _ACCESS_KEY,
}
#: Of requests that only get credentials, by operation and code.
_OF_CREDENTIALS = {
    ("AssumeRole", "AccessDenied"): "allow sts:AssumeRole on the role (source.assume_role_arn, or "
    "role_arn of the profile) in the IAM policy of this user or role, and let the trust policy of "
    "that role name it; set source.external_id where that policy asks for one",
    ("AssumeRoleWithWebIdentity", "AccessDenied"): "let the trust policy of the role in "
    "AWS_ROLE_ARN name the issuer, audience and subject of this identity",
    ("AssumeRole", "ValidationError"): "check source.assume_role_arn, such as "
    "arn:aws:iam::123456789012:role/NAME, and source.external_id",
    ("GetRoleCredentials", "ForbiddenException"): "check sso_account_id and sso_role_name of the "
    "profile in source.profile",
    ("GetRoleCredentials", "UnauthorizedException"): _LOG_IN,
}
#: What AWS says where DynamoDB, or its user, is not allowed to use the key of a table.
_KMS = re.compile(r"KMS key|AWSKMS|\bkms:[A-Z]")
#: Policies that can refuse what the IAM policy of a user allows.
#: Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
_POLICIES = ("service control", "resource control", "VPC endpoint", "session", "resource-based")
_POLICY = re.compile(f"({'|'.join(_POLICIES)}) policy|permissions boundary")


def advice(operation: str, code: str, message: str) -> str:
    """What to do about a refused request; empty where nothing is known."""
    if message.startswith("Credential should be scoped to a valid region"):
        return _WRONG_REGION
    if code.startswith("KMS") or _KMS.search(message):
        return _KEY_OF_TABLE
    if found := _OF_CREDENTIALS.get((operation, code)):
        return found
    if (operation, code) == ("DescribeStream", "ResourceNotFoundException"):
        return _OTHER_STREAMS
    way_out = _BY_CODE.get(code, "")
    policy = _POLICY.search(message)
    if policy and way_out is _DENIED:
        return f"allow dynamodb:{operation} in the {policy[0]}, where AWS says it is not allowed"
    return way_out.format(right=f"dynamodb:{operation}")


def advice_on_session(error: BaseException) -> str:
    """What to do where the AWS SDK could not get credentials; empty where nothing is known."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # a ClientError of botocore
        said = response.get("Error", {})
        operation = str(getattr(error, "operation_name", ""))
        return advice(operation, str(said.get("Code", "")), str(said.get("Message", "")))
    names = {one.__name__ for one in type(error).__mro__}
    return _LOG_IN if names & {"SSOError", "TokenRetrievalError"} else ""
