"""What AWS profiles need besides the SDK: their files, codes of a device, and words for faults."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import boto3
from botocore.credentials import ProcessProvider

#: Seconds that the program of ``credential_process`` has.
PROGRAM_SECONDS = 60.0

#: Errors that say only where they come from: what the user needs besides.
_WITHOUT_WORDS = {
    "custom-process": "the program of credential_process failed and printed no reason on stderr; "
    "run it by hand",
}


class NoTerminal(Exception):
    """A profile asks for the code of an MFA device, which only a user at a terminal can give."""


def profile_files(session: boto3.Session) -> tuple[str, ...]:
    names = ("credentials_file", "config_file")
    given = (session._session.get_config_variable(name) for name in names)
    return tuple(os.path.expanduser(path) for path in given if path)


def stamps(files: tuple[str, ...]) -> list[tuple[int, int, int]]:
    """What changes with the content of files."""
    found = []
    for file in files:
        try:
            of = os.stat(file)
            found.append((of.st_mtime_ns, of.st_size, of.st_ino))
        except OSError:
            found.append((0, 0, 0))
    return found


def adapt_providers(session: boto3.Session) -> None:
    """Ask for MFA codes at the terminal, and let no program of ``credential_process`` hang."""
    resolver = session._session.get_component("credential_provider")
    for provider in resolver.providers:
        if hasattr(provider, "_prompter"):
            provider._prompter = _code
        if isinstance(provider, ProcessProvider):
            provider._popen = _Program
        if builder := getattr(provider, "_profile_provider_builder", None):  # of assumed roles
            make = builder._create_process_provider
            builder._create_process_provider = partial(_limited, make)


def _limited(make: Callable[..., ProcessProvider], *arguments: Any, **named: Any) -> Any:
    provider = make(*arguments, **named)
    provider._popen = _Program
    return provider


class ProgramHangs(Exception):
    """The program of ``credential_process`` does not end."""


class _Program(subprocess.Popen[bytes]):
    """The program of ``credential_process``."""

    def communicate(self, *_: Any) -> tuple[bytes, bytes]:
        try:
            return super().communicate(timeout=PROGRAM_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProgramHangs(
                "the program of credential_process (or one that it has started) has not ended "
                f"within {PROGRAM_SECONDS:g} s; run it by hand"
            ) from None


def _code(prompt: str) -> str:
    if not (sys.stdin and sys.stdin.isatty()):
        raise NoTerminal(
            "the profile has an mfa_serial, and there is no terminal to ask for the code: get "
            "temporary keys by aws sts get-session-token, and name their profile in source.profile"
        )
    return getpass.getpass(prompt)


def reason(error: BaseException) -> str:
    """The error in one line, also where it came without words."""
    text = " ".join(str(error).split())
    if isinstance(error, json.JSONDecodeError):
        text = f"the provider of the credentials (credential_process) printed no JSON: {text}"
    if text.endswith(":") or not text:
        words = next((words for name, words in _WITHOUT_WORDS.items() if name in text), "")
        text = f"{text} {words or type(error).__name__}".strip()
    return _without_password(text, error)


def _without_password(text: str, error: BaseException) -> str:
    """Errors of a proxy quote its address, which can hold a password."""
    proxy = getattr(error, "kwargs", {}).get("proxy_url") or ""
    user = str(proxy).rpartition("@")[0].rpartition("/")[2]
    return text.replace(f"{user}@", "") if user else text
