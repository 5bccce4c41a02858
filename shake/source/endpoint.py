"""Where the source is and who asks: plain data that is sent to every process that reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

#: Shorter values are no real secrets, and masking them would garble messages.
_SHORTEST_SECRET = 8


#: Domains of AWS and of its separate partitions.
#: Source: botocore's data/partitions.json
_DOMAINS = """
    amazonaws.com amazonaws.com.cn amazonaws.eu api.aws api.amazonwebservices.com.cn
    api.amazonwebservices.eu c2s.ic.gov sc2s.sgov.gov cloud.adc-e.uk csp.hci.ic.gov
"""


def in_aws(url: str) -> bool:
    """Whether an address is one of AWS itself."""
    host = urlsplit(url).hostname or ""
    return any(host.endswith(f".{domain}") for domain in _DOMAINS.split())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that speaks the DynamoDB protocol.

    ``timeout`` is in seconds, for connecting and for each wait for bytes; None waits for ever.
    ``streams_url`` is where streams are read (empty: at ``url`` too). ``ca_bundle`` is a file of
    trusted certificates, empty for the usual ones.
    """

    url: str
    region: str
    timeout: float | None = 30.0
    streams_url: str = ""
    ca_bundle: str = ""


def shown(url: str) -> str:
    """An address as it may be shown: no user, password, path or query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class Credentials(NamedTuple):
    """AWS credentials of one moment; ``refreshable`` means that newer ones follow by themselves."""

    access_key: str
    secret_key: str
    token: str | None = None
    refreshable: bool = False

    def __repr__(self) -> str:
        return "Credentials(***)"

    @property
    def name(self) -> str:
        """By what a user knows these keys: the end of their id, which is never shown whole."""
        end = self.access_key[-4:] if len(self.access_key) > _SHORTEST_SECRET else ""
        return f"access key ID ***{end}"

    def redact(self, text: str) -> str:
        """``text`` as one line without these credentials.

        The answer to a bad signature quotes the signed request, session token included.
        """
        for secret in (self.token, self.secret_key, self.access_key):
            if secret and len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return " ".join(text.split())
