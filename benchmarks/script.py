"""What the scripts that shake is compared with share: command line, boto3 client, and pool."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import boto3

Part = TypeVar("Part")


def command_line(name: str, does: str | None) -> argparse.ArgumentParser:
    """The options that Bench passes to each script."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=does)
    parser.add_argument("--source", required=True, metavar="URL")
    parser.add_argument("--target", required=True, metavar="URI")
    parser.add_argument("--table", required=True)
    parser.add_argument("--processes", type=int, default=2)
    return parser


def connect(service: str, source: str) -> Any:
    """boto3's client of a service of the source."""
    return boto3.client(
        service,
        endpoint_url=source,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
    )


def run(processes: int, work: Callable[[Part], int], parts: Callable[[], Iterable[Part]]) -> None:
    """Process all parts in a pool of processes, and print the total."""
    with multiprocessing.Pool(processes) as pool:
        # Only now: the processes need not inherit what boto3 loads for it.
        print(sum(pool.imap_unordered(work, parts())))
        pool.close()
        pool.join()
