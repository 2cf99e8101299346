"""Who sent a bounce, a complaint or an unsubscribe is checked too: the address alone decides, and what SPF, DKIM and DMARC said is kept as evidence."""

import pytest

from tests.inbound.letters import OTHER_PEM, Stranger
from tests.inbound.samples import sample
from tests.inbound.test_bounce import add_domain
from tests.inbound.test_complaint import FEEDBACK, delivered, filled
from tests.inbound.test_unsubscribe import way_out
from tests.support.served import arrived

HONEST = {"spf": "pass", "dkim": ["pass"], "dmarc": "pass"}
FORGED = {"spf": "fail", "dkim": ["fail"], "dmarc": "fail"}


def bounce(served, tenant, far):
    """Address and content of a report about a message that was delivered."""
    name = f"{tenant.project}.example"
    add_domain(served, tenant, name)
    _, copy = delivered(tenant, **{"from": f"you@{name}"})
    (path,) = [each.sender for each in served.sink.messages if each.content == copy]
    return path, by(far, sample("postfix"))


def complaint(served, tenant, far):
    return FEEDBACK, by(far, filled("arf", delivered(tenant)[1]))


def unsubscribe(served, tenant, far):
    to = way_out(arrived(served, tenant, tenant.send(unsubscribe=True))[0])
    return to, far.letter(to)


def by(far, report):
    """The report as this domain sends it."""
    header, _, body = report.partition(b"\r\n\r\n")
    lines = [line for line in header.split(b"\r\n") if not line.lower().startswith((b"from:", b"message-id:"))]
    return b"\r\n".join((f"From: <abuse@{far.name}>".encode(), f"Message-ID: <1@{far.name}>".encode(), *lines, b"", body))


@pytest.mark.parametrize(("honest", "said"), [(True, HONEST), (False, FORGED)], ids=["honest", "forged"])
@pytest.mark.parametrize("act", [bounce, complaint, unsubscribe], ids=lambda act: act.__name__)
def test_what_was_found_out_stands_beside_what_was_done(served, tenant, act, honest, said):
    far = Stranger(served, spf="v=spf1 ip4:127.0.0.1 -all" if honest else "v=spf1 -all")
    to, content = act(served, tenant, far)
    signed = far.signed(content) if honest else far.signed(content, OTHER_PEM)
    assert served.post(to, signed, f"abuse@{far.name}")[0] == 250
    (entry,) = tenant.get("/suppressions")["suppressions"]
    found = entry["evidence"]["authentication"]
    assert {"spf": found["spf"]["result"], "dkim": [each["result"] for each in found["dkim"]], "dmarc": found["dmarc"]["result"]} == said
    assert found["dmarc"]["domain"] == far.name


def test_a_header_that_nobody_can_check_still_unsubscribes(served, tenant):
    to = way_out(arrived(served, tenant, tenant.send(unsubscribe=True))[0])
    assert served.post(to, b"X-A: b\r\n" * 1_100 + b"\r\nout\r\n", "joe@far.test")[0] in (250, 552)
    assert len(tenant.get("/suppressions")["suppressions"]) == 1
