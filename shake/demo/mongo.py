"""The embedded MongoDB of demo, tests and benchmarks: mongod, or SecantusDB where it cannot run.

Both are separate programs, and show the same interface. Both keep what they have acknowledged when
they are killed, and take test commands (``configureFailPoint``).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from shake.demo import fetch
from shake.demo.servers import HOST, Server
from shake.errors import RunError

#: The version that demo, tests and benchmarks use.
VERSION = "6.0.5"


class MongoServer(Server):
    """A MongoDB server on this machine.

    ``auth`` asks clients for a user and a password; ``certificate`` is a PEM file with key and
    chain, and makes TLS a must. Both can change between restarts. ``query`` is what a client must
    then add to the connection string (``tls=true&tlsCAFile=...``). ``product`` is its name for
    users.
    """

    product: str

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.auth = False
        self.certificate: Path | None = None
        self.query = ""

    @property
    def uri(self) -> str:
        return f"mongodb://{HOST}:{self.port}/" + (f"?{self.query}" if self.query else "")

    def answers(self) -> bool:
        """Whether a client can write."""
        return bool(self.ask("hello").get("isWritablePrimary"))

    def ask(
        self, command: str, value: object = 1, *, timeout: float = 5.0, **fields: object
    ) -> Mapping[str, Any]:
        """The answer to an admin command that needs no user; empty without one in time."""
        try:
            socket.create_connection((HOST, self.port), timeout).close()
        except OSError:  # tried first: a client that was refused waits half a second
            return {}
        limit = int(timeout * 1000)
        client: MongoClient[dict[str, Any]] = MongoClient(
            self.uri, directConnection=True, serverSelectionTimeoutMS=limit, socketTimeoutMS=limit
        )
        try:
            return client.admin.command({command: value, **fields})
        except PyMongoError:
            return {}
        finally:
            client.close()


class Mongod(MongoServer):
    """MongoDB's own server with a small footprint, as a replica set of one.

    ``options`` are further command line options of mongod. With an empty ``replica_set`` it is a
    standalone server, which can lose acknowledged writes when it is killed, unless they ask for
    the journal (``j: true``). ``cache`` is in GB.
    """

    name = "mongod"

    def __init__(
        self,
        *options: str,
        version: str = VERSION,
        replica_set: str = "shake",
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self.options = options
        self.version = version
        self.replica_set = replica_set
        self.cache = 0.25
        self.product = f"MongoDB {version}"

    def command(self) -> list[str]:
        """The server with a small cache, a small journal and no diagnostic data.

        A set whose members ask for users must have a key file, which the members share.
        """
        if reason := why_no_mongod(self.version):
            raise RunError(f"mongod {self.version} cannot run here: {reason}")
        home = fetch.mongod(self.version)
        data, key = self.folder / "data", self.folder / "key"
        data.mkdir(exist_ok=True)
        place = ["--bind_ip", HOST, "--port", str(self.port), "--nounixsocket", f"--dbpath={data}"]
        if self.replica_set:
            place += ["--replSet", self.replica_set, "--oplogSize", "128"]
        small = ["--wiredTigerCacheSizeGB", str(self.cache)]
        small += ["--wiredTigerEngineConfigString", "log=(file_max=8MB,prealloc=false)"]
        for parameter in ("diagnosticDataCollectionEnabled=false", "enableTestCommands=1"):
            small += ["--setParameter", parameter]
        guards = []
        if self.auth:
            key.write_text("shake" * 8)
            key.chmod(0o600)
            guards += ["--auth", "--keyFile", str(key)]
        if self.certificate:
            guards += ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(self.certificate)]
        return [*_environment(home), f"{home}/mongod", *place, *small, *guards, *self.options]

    def answers(self) -> bool:
        """Whether a client can write; the first time, make it a set of one."""
        if self.ask("hello").get("isreplicaset"):  # in no set yet
            members = [{"_id": 0, "host": f"{HOST}:{self.port}"}]
            self.ask("replSetInitiate", {"_id": self.replica_set, "members": members})
        return super().answers()


class SecantusDB(MongoServer):
    """A server that speaks MongoDB's wire protocol; it keeps no order of numbered commands."""

    name = "secantusdb"
    product = "SecantusDB"

    def command(self) -> list[str]:
        """The server with a small cache; without ``--sync-on-commit`` a kill loses writes."""
        if importlib.util.find_spec("secantus") is None:
            raise RunError(f"the embedded MongoDB needs SecantusDB: {fetch.INSTALL}")
        place = ["--host", HOST, "--port", str(self.port), "--storage-path", f"{self.folder}/data"]
        ways = ["--cache-size", "128M", "--sync-on-commit", "--enable-test-commands"]
        if self.auth:
            ways += ["--auth"]
        if self.certificate:
            pem = str(self.certificate)
            ways += ["--tls-cert-file", pem, "--tls-key-file", pem]
        return [sys.executable, "-m", "secantus", *place, *ways]


def mongo_server(folder: Path | None = None, notice: fetch.Notice = fetch.silent) -> MongoServer:
    """A mongod; where its binary cannot run, SecantusDB, and a line for the user."""
    if reason := why_no_mongod(notice=notice):
        notice(f"mongod {VERSION} cannot run here ({reason}): SecantusDB takes its place")
        return SecantusDB(folder)
    return Mongod(folder=folder)


def why_no_mongod(version: str = VERSION, notice: fetch.Notice = fetch.silent) -> str:
    """Why mongod's binary cannot run on this machine; empty where it can. May fetch it."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return f"it is for x86-64 Linux, this is {platform.machine()} {platform.system()}"
    home = fetch.mongod(version, notice)
    command = [*_environment(home), f"{home}/mongod", "--version"]
    try:
        tried = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    if tried.returncode == 0:
        return ""
    return " ".join(tried.stderr.split()) or f"exit status {tried.returncode}"


def _environment(home: Path) -> list[str]:
    """The prefix of the command of a mongod that comes with its own libraries."""
    paths = [f"{home}/lib", *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return ["env", f"LD_LIBRARY_PATH={':'.join(paths)}"] if Path(home, "lib").is_dir() else []
