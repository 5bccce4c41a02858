"""What in a configuration is secret, and how it is kept out of everything that people read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK = "***"

#: The parts of a value that are secret, as a pattern that finds them: the value as a whole ...
WHOLE = re.compile(r".+", re.DOTALL)

#: ... or, in an address, the password and the options that hold one. The password ends at the last
#: ``@`` of all, since one that was never percent-encoded may hold ``/``, ``?`` and ``@`` itself.
#: https://www.mongodb.com/docs/manual/reference/connection-string-options/
IN_ADDRESS = re.compile(
    r"(?<=:)(?!//).*(?=@)"
    r"|(?<=AWS_SESSION_TOKEN:)[^&,]+|(?<=AWS_SESSION_TOKEN%3A)[^&,]+"
    r"|(?<=password=)[^&]+|(?<=passphrase=)[^&]+|(?<=pwd=)[^&]+|(?<=secret=)[^&]+|(?<=token=)[^&]+",
    re.IGNORECASE,
)

#: A secret shorter than this is hidden only where it is a whole word. So the log stays readable
#: when a test server has the password "a".
_SHORT = 6


class Redactor:
    """Takes secrets out of text, in any form in which a library may quote them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if form}
        # The longest first: one secret may be the beginning of another.
        words = [_as_pattern(form) for form in sorted(forms, key=len, reverse=True)]
        self._pattern = re.compile("|".join(words), re.IGNORECASE) if words else None

    def redact(self, text: str) -> str:
        """The text with ``***`` in the place of each secret."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def _forms(secret: str) -> set[str]:
    plain = {secret, unquote(secret), unquote_plus(secret)}
    quoted = {f(s) for s in plain for f in (quote, quote_plus, lambda s: quote(s, safe=""))}
    escaped = {f(s)[1:-1] for s in plain for f in (repr, json.dumps)}
    return plain | quoted | escaped


def _as_pattern(form: str) -> str:
    return re.escape(form) if len(form) >= _SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"


def hosts(address: str) -> str:
    """The hosts and ports of a connection string or URL, without user and password."""
    return address.partition("://")[2].partition("?")[0].rpartition("@")[2].partition("/")[0]
