"""Builds the C codec; everything else about the package is in setup.cfg."""

import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

SOURCE = "shake/codec/_native"

# One build for every later Python too: the buffer protocol is in the limited API since 3.11.
# https://docs.python.org/3/c-api/stable.html
LIMITED = sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            "shake.codec._transcoder",
            sources=sorted(glob(f"{SOURCE}/*.c")),
            depends=sorted(glob(f"{SOURCE}/*.h")),
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
            py_limited_api=LIMITED,
            # SLP would pack the two places of `struct at` into one register, by way of the stack.
            extra_compile_args=[
                "-std=c11",
                "-O3",
                "-fno-tree-slp-vectorize",
                "-fvisibility=hidden",
            ],
            # Without a compiler shake installs all the same, and reads items in plain Python.
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
