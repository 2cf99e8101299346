"""An import that takes longer than a request waits answers 202 with the same figures so far, and goes on."""

from __future__ import annotations

import pytest

from tests.support.dns import DnsServer, mail
from tests.support.served import Served

ROWS = 3_000


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A relay whose requests wait for nothing."""
    directory = tmp_path_factory.mktemp("patience")
    url = f"sqlite:///{directory / 'relay.db'}"
    with DnsServer(mail("example.com")) as dns, Served(directory, url, RELAY_HTTP__PATIENCE="0s", RELAY_DNS__NAMESERVERS=dns.address) as relay:
        yield relay


@pytest.mark.parametrize("form", ["file", "json"])
def test_a_long_import_is_followed_by_its_id(hasty, form):
    tenant, other = hasty.tenant(), hasty.tenant()
    emails = [f"p{n}@example.com" for n in range(ROWS)]
    given = {"files": {"file": ("people.csv", "email\n" + "\n".join(emails))}} if form == "file" else {"json": {"contacts": [{"email": e} for e in emails]}}
    answer = tenant.http.post("/contacts/import", **given)
    told = answer.json()
    assert answer.status_code == 202
    assert {"id", "imported", "skipped", "errors"} <= told.keys()
    assert told["imported"] < ROWS
    assert tenant.http.get(f"/contacts/imports/{told['id']}").status_code == 200
    assert other.http.get(f"/contacts/imports/{told['id']}").status_code == 404
    ended = tenant.until(f"/contacts/imports/{told['id']}", lambda got: got["status"] != "running", 60)
    assert (ended["status"], ended["imported"], ended["errors"]) == ("completed", ROWS, 0)
