"""Every dialog of tests/smtp/dialogs, on both event loops."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from relay.smtp.tls import Certificate
from tests.smtp.dialog import DIALOGS, run


@pytest.mark.both_loops
@pytest.mark.parametrize("path", DIALOGS, ids=lambda path: path.stem)
async def test_dialog(path: Path, certificate: Certificate, trust: ssl.SSLContext):
    await run(path, certificate, trust)
