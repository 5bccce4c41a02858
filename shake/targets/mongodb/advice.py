"""What a user can do about a server that cannot be used."""

from __future__ import annotations

import ssl

from pymongo.errors import OperationFailure

from shake.targets.mongodb.retrying import words

_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18
#: Of a w that the members or the modes of the replica set cannot fulfil.
_UNKNOWN_CONCERN, _UNSATISFIABLE_CONCERN = 79, 100


def advice(error: BaseException | None, key: str) -> str:
    """What to do, in words; ``key`` is the configuration key that holds the connection string."""
    if isinstance(error, OperationFailure):
        if error.code == _AUTHENTICATION_FAILED:
            return (
                f"check user and password in {key} (a + in them is a blank: write %2B), and "
                "authSource: it names the database that the user was created in"
            )
        if error.code == _UNAUTHORIZED and "requires authentication" in words(error):
            return f"add a user to {key}: mongodb://USER:PASSWORD@host:port/?authSource=admin"
        if error.code == _UNAUTHORIZED:
            return f"give the user of {key} the role readWrite on that database"
        if error.code in (_UNKNOWN_CONCERN, _UNSATISFIABLE_CONCERN):
            return f"remove w from {key}, or use w=majority"
        return f"check that {key} names the right server, and its user and options"
    text = str(error)
    if "replica set name" in text:
        return f"correct replicaSet in {key}, or leave it out"
    if "not known" in text or "name resolution" in text or "No address" in text:
        return f"check the host name in {key}"
    if "SSL" in text or isinstance(error, ssl.SSLError):
        return f"check the options of tls in {key}: certificates, and whether the server uses TLS"
    return f"check host and port in {key}, and that the server is up"
