"""Checks the values of configuration keys against each other, before anything is opened."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from urllib.parse import unquote_plus, urlsplit

from shake.config.config import Config
from shake.config.names import map_problem, name_problem
from shake.config.secrets import IN_ADDRESS, MASK
from shake.config.windows import overlap
from shake.errors import UsageError

#: How the driver begins its warning of an option, whose name it does not always give.
UNKNOWN_OPTION = "Unknown option"

_ONE_HOST = "behind mongodb+srv:// stands one host name and no port; DNS has the others"
_NOT_ENCODED = (
    "a user or password that is not percent-encoded: write %40 for @, %3A for :, %2F for /, %3F "
    "for ?, %23 for # and %25 for % (%40 in the options behind the host too)"
)


def check(config: Config) -> None:
    """Raise UsageError for the first thing that is wrong."""
    _check_names(config)
    _check_http(config)
    _check_url("webhook.url", config.webhook_url, bare=False)
    if (config.nodes_tls_cert is None) != (config.nodes_tls_key is None):
        raise UsageError("nodes.tls.cert and nodes.tls.key go together: give both, or none")
    _check_source(config)
    _check_tables(config)
    _check_target(config)
    _check_checkpoint(config)


def _check_names(config: Config) -> None:
    _check_database("id", config.id)
    if config.checkpoint_type == "mongodb":
        given = "id, as <id>-checkpoint" if config.checkpoint_db is None else "checkpoint.db"
        _check_database(given, config.checkpoint_database)


def _check_database(key: str, name: str) -> None:
    """Hold a name against https://www.mongodb.com/docs/manual/reference/limits/ (all systems)."""
    if found := re.search(r'[/\\. "$*<>:|?]', name):
        raise UsageError(
            f"{key}: {name!r} holds {found[0]!r}, which a database name cannot "
            '(nor any other of / \\ . " $ * < > : | ? and blanks)'
        )
    if len(name.encode()) > 63:
        raise UsageError(f"{key}: {name!r} is over 63 bytes, too long for a database name")
    if name.lower() in ("admin", "config", "local"):
        raise UsageError(f"{key}: MongoDB keeps database {name} for itself; choose another")


def _check_http(config: Config) -> None:
    if config.http_token is not None and not re.fullmatch(r"[!-~]+", config.http_token):
        raise UsageError("http.token holds a blank or non-ASCII character; no HTTP header takes it")
    if config.http_token is None and not _is_loopback(config.http_bind):
        raise UsageError(
            f"http.bind = {config.http_bind} opens the status page to other machines: "
            "set http.token, or bind to 127.0.0.1"
        )
    if config.system_profile and config.system_profile in config.http_profile:
        raise UsageError(
            f"system_profile and http_profile are both {config.system_profile}: choose two ports"
        )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"


def _check_source(config: Config) -> None:
    if (config.source_access_key_id is None) != (config.source_secret_access_key is None):
        raise UsageError("source.access_key_id and source.secret_access_key: set both or none")
    if config.source_access_key_id is None and config.source_session_token is not None:
        raise UsageError("source.session_token is set without the keys that it belongs to")
    if config.source_access_key_id is not None and config.source_profile is not None:
        raise UsageError("source.access_key_id and source.profile: set one of them")
    if config.source_external_id is not None and config.source_assume_role_arn is None:
        raise UsageError("source.external_id is set without source.assume_role_arn")
    _check_url("source.endpoint_url", config.source_endpoint_url)
    _check_url("source.streams_endpoint_url", config.source_streams_endpoint_url)
    if found := overlap(config.source_windows):
        first, second = found
        raise UsageError(f"source.windows: {first} and {second} overlap: end one of them earlier")


def _check_tables(config: Config) -> None:
    if "." in config.convert_id or config.convert_id.startswith("$"):
        raise UsageError(
            f"convert._id = {config.convert_id}: MongoDB cannot index a name with a dot, or one "
            "that starts with $; choose another prefix"
        )
    if config.filter_collection_white and config.filter_collection_black:
        raise UsageError("filter.collection.white and filter.collection.black: set one of them")
    for name in config.filter_collection_white or config.filter_collection_black:
        color = "white" if config.filter_collection_white else "black"
        if problem := name_problem(f"filter.collection.{color}", name, "*?"):
            raise UsageError(problem)
    taken: dict[str, str] = {}
    for table, namespace in config.namespace_map:
        if problem := map_problem(table, namespace):
            raise UsageError(problem)
        _check_database("namespace.map", namespace.partition(".")[0])
        if table in taken.values():
            raise UsageError(f"namespace.map: table {table} stands there twice; keep one")
        if namespace in taken:
            raise UsageError(
                f"namespace.map: {taken[namespace]} and {table} both go to {namespace}"
            )
        taken[namespace] = table
    config.scan_filter  # noqa: B018


def _check_target(config: Config) -> None:
    if config.capabilities.holds_checkpoints:
        _check_connection("target.address", config.target_address)
    else:
        _check_url("target.address", config.target_address)
    if config.target_db_exist == "rename" and not config.capabilities.renames:
        raise UsageError(
            f"target.db.exist = rename: {config.target_type} cannot rename a table; "
            "drop it, or leave the key empty"
        )


def _check_checkpoint(config: Config) -> None:
    address = config.checkpoint_address
    data = {config.id, *(namespace.partition(".")[0] for _, namespace in config.namespace_map)}
    if config.checkpoint_type == "mongodb" and config.checkpoint_database.lower() in {
        database.lower() for database in data
    }:
        raise UsageError(
            f"checkpoint.db: {config.checkpoint_database} is where tables go, whose collections "
            "would hold checkpoints too: choose another database"
        )
    if config.checkpoint_type == "file":
        if address is not None and "://" in address:
            raise UsageError(
                "checkpoint.address is a URL, but checkpoint.type = file needs a folder"
            )
    elif address is not None:
        _check_connection("checkpoint.address", address)
    elif not config.capabilities.holds_checkpoints:
        raise UsageError(
            f"target.type = {config.target_type} cannot hold checkpoints: set checkpoint.address "
            "to a MongoDB, or checkpoint.type = file"
        )


def unknown_options(config: Config) -> Iterator[str]:
    """A line for each option of a checked connection string that the driver does not know.

    What follows an option with a secret can be a piece of it that holds an ``&``: it is not named.
    """
    from pymongo import uri_parser  # see _check_connection

    addresses = {
        "target.address": config.target_address,
        "checkpoint.address": config.checkpoint_address or "",
    }
    for key, address in addresses.items():
        options = address.partition("?")[2] if re.match(r"mongodb(\+srv)?://", address) else ""
        shown = True
        for number, option in enumerate(re.split("[&;]", options), start=1):
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                if "=" in option:
                    # A single option would be cut at blanks.
                    uri_parser.split_options(f"{option}&w=1", warn=True)
            name = option.partition("=")[0] if shown else f"number {number}"
            if any(str(one.message).startswith(UNKNOWN_OPTION) for one in found):
                yield (
                    f"{key}: the MongoDB driver does not know option {name} and ignores it: "
                    "correct it, or remove it"
                )
            shown = shown and not IN_ADDRESS.search(option)


def check_proxies(environment: Mapping[str, str]) -> None:
    """Raise UsageError for a proxy whose user or password would be taken for its host."""
    for name, url in environment.items():
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            _check_encoded(f"environment variable {name}", url)


def _check_encoded(what: str, address: str) -> None:
    """Refuse an address whose host is not certain, since a / or ? can belong to its password.

    A client takes the host from before them, and asks DNS for that piece of the password.
    """
    if re.search("[/?#].*@", address.partition("://")[2] or address):
        raise UsageError(f"{what} holds {_NOT_ENCODED}")


def _check_url(key: str, url: str | None, *, bare: bool = True) -> None:
    """``bare``: without a user, a query or a fragment, of which an endpoint takes nothing."""
    if url is None:
        return
    _check_encoded(key, url)
    try:
        parts = urlsplit(url)
        more = bare and (parts.username or parts.query or parts.fragment)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        sound = sound and not more and not re.search(r"\s", url)
    except ValueError:
        sound = False
    if not sound:
        raise UsageError(
            f"{key} is not a URL: write http://host:port or https://host:port, and nothing else"
        )


def _check_connection(key: str, address: str) -> None:
    """Let the driver read a connection string, without asking DNS for the hosts of an SRV one."""
    _check_encoded(key, address)
    if re.search("[:/]<[^<>@]*>[:@]", address):
        raise UsageError(
            f"{key} holds a placeholder in < and >: write user and password in its place"
        )
    # Imported here: of all the processes that read a configuration, only the supervisor checks it.
    from pymongo import uri_parser
    from pymongo.errors import PyMongoError

    try:
        with warnings.catch_warnings():
            # The client warns of what it cannot read, and goes on without: well enough for the
            # options of other drivers, but not for tls=on, which would leave the link open.
            warnings.simplefilter("ignore")
            wrong = "(?!Unknown|Duplicate|The value of connect ).*(tls|ssl|must be)"
            warnings.filterwarnings("error", wrong, UserWarning)
            if address.startswith("mongodb+srv://"):
                plain, _, options = address.replace("+srv", "", 1).partition("?")
                uri_parser.parse_uri(plain)
                if _advice(address) == _ONE_HOST:  # which the driver checks with DNS only
                    raise ValueError(_ONE_HOST)
                if options:
                    uri_parser.split_options(options, warn=True)
            else:
                uri_parser.parse_uri(address, warn=True)
    except (PyMongoError, OSError, ValueError, Warning) as error:  # OSError: a file of tls...
        advice = _advice(address) or _reason(error, address)
        raise UsageError(f"{key} is not a MongoDB connection string: {advice}") from None


def _advice(address: str) -> str:
    """What to do about a mistake that is common in connection strings; empty for other mistakes."""
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in ("mongodb", "mongodb+srv"):
        return "it has to begin with mongodb:// or mongodb+srv://, such as mongodb://host:27017"
    user, _, host = rest.rpartition("@")
    if re.search(r"[/?#\[\]@]|:.*:|%(?![0-9A-Fa-f]{2})", user):
        return f"it holds {_NOT_ENCODED}"
    if scheme == "mongodb+srv" and re.search(r"[:,]", re.split(r"[/?]", host)[0]):
        return _ONE_HOST
    return ""


def _reason(error: Exception, address: str) -> str:
    """The driver's words, without any that stand in a secret, which it may have cut anywhere."""
    hidden = " ".join(IN_ADDRESS.findall(address)) or address.partition("?")[0]
    secret = set(re.findall(r"\w+", f"{hidden} {unquote_plus(hidden)}"))
    return re.sub(r"\w+", lambda word: MASK if word[0] in secret else word[0], str(error))
