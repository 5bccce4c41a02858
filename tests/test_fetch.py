"""What npm delivers is taken only when it is what we know, and unpacked nowhere else."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import pytest

from shake.demo.fetch import download, unpack
from shake.errors import RunError


def npm(line: str) -> list[str]:
    """A stand-in for npm: a line of Python that runs where npm would put the tarball."""
    return [sys.executable, "-c", f"import sys; {line}"]


def test_a_package_with_another_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="unexpected sha512"):
        download(npm("open('amplify.tgz', 'w').write('other')"), tmp_path)


def test_a_failed_download_says_what_npm_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"npm: code ECONNREFUSED$"):
        download(npm("sys.exit('npm error code ECONNREFUSED')"), tmp_path)


def test_only_plain_files_inside_the_folder_are_unpacked(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in ("LICENSE", "index.js", "emulator/a.jar", "emulator/../../../out"):
            tar.addfile(tarfile.TarInfo(f"package/{name}"))
        link = tarfile.TarInfo("package/emulator/passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    unpack(archive.getvalue(), tmp_path / "in")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    assert files == {"in/LICENSE", "in/emulator/a.jar"}
