"""The real programs that tests talk to, and what happens where one is missing: with `CI` set a failure, elsewhere a skip that the summary names.

`make peers` installs them on Debian; PACKAGES says which package brings which program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

PACKAGES = {
    "postfix": "postfix",
    "smtp-source": "postfix",
    "smtp-sink": "postfix",
    "rspamd": "rspamd",
    "swaks": "swaks",
    "msmtp": "msmtp",
    "opendkim": "opendkim",
    "opendkim-testmsg": "opendkim-tools",
    "perl": "perl libmail-dkim-perl libauthen-sasl-perl libio-socket-ssl-perl",
    "promtool": "prometheus",
    "initdb": "postgresql",
    "curl": "curl",
    "php": "php-cli",
    "node": "nodejs",
    "npm": "npm",
    "systemd-analyze": "systemd",
    "systemd-socket-activate": "systemd",
    "chromium": "chromium-headless-shell",  # without a window, its toolbars and their pages: half the time of the whole browser, which will do too
}
PLACES = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/local/bin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))
_ABSENT = re.compile(r"^(?:E +)?(?:Skipped: |Failed: )?(\S[^\n]*?) is not installed \(Debian: ", re.MULTILINE)


@cache
def find(program: str) -> str | None:
    """The path of a program, also where PATH does not look (/usr/sbin, PostgreSQL's own directory)."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(PLACES))


def need(program: str) -> str:
    """The path of a program that this test talks to."""
    path = find(program)
    if path is None:
        absent(program)
    return path


def need_perl(module: str) -> str:
    """The path of perl, when it has this module."""
    perl = need("perl")
    if subprocess.run([perl, f"-M{module}", "-e", "1"], capture_output=True, check=False).returncode:
        absent(f"perl module {module}")
    return perl


def absent(program: str) -> None:
    """Fail under CI, else skip; the summary of the run names the program either way."""
    text = f"{program} is not installed (Debian: {PACKAGES.get(program, PACKAGES['perl'])})"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def absent_from(text: str) -> str | None:
    """The program that a test's report says it missed, for the summary of the run."""
    found = _ABSENT.search(text)
    return found[1] if found else None
