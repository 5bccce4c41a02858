"""Builds the C codec; everything else about the package is in setup.cfg."""

from glob import glob

from setuptools import Extension, setup

SOURCE = "shake/codec/_native"

setup(
    ext_modules=[
        Extension(
            "shake.codec._transcoder",
            sources=sorted(set(glob(f"{SOURCE}/*.c")) - set(glob(f"{SOURCE}/fuzz*.c"))),
            depends=sorted(glob(f"{SOURCE}/*.h")),
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
    ]
)
