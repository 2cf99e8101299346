"""Mail to domains of projects: what is taken and refused, what SPF, DKIM and DMARC make of it, what the API and the event say, and what causes nothing."""

import base64
import email
import smtplib

import pytest

from relay.control import explain
from tests.inbound.letters import OTHER_PEM, Stranger, home
from tests.support.dns import Fault


def told(tenant):
    return tenant.get("/inbound")["inbound_emails"]


def results(served, tenant, found):
    """Our Authentication-Results field of a message, unfolded, and all such fields of it."""
    raw = tenant.http.get(f"/inbound/{found['id']}/raw").content
    fields = email.message_from_bytes(raw).get_all("Authentication-Results")
    return " ".join(fields[0].split()), [" ".join(each.split()) for each in fields]


def refusal(served, to, content, sender):
    with pytest.raises(smtplib.SMTPResponseException) as caught:
        served.post(to, content, sender)
    return caught.value.smtp_code, caught.value.smtp_error.decode()


def test_a_letter_is_kept_as_it_came_and_served(served, tenant):
    name, number = home(tenant)
    far = Stranger(served)
    letter = far.signed(far.letter(f"help+case7@{name}", "Cc: ann@other.test, Bob <bob@other.test>", body="Grüße\r\n".encode()))
    assert served.post(f"help+case7@{name}", letter, f"joe@{far.name}") == (250, b"2.0.0 done")
    (found,) = told(tenant)
    assert (found["domain"], found["domain_id"], found["from_address"], found["from_name"]) == (name, number, f"joe@{far.name}", "Joe")
    assert (found["to_address"], found["cc_addresses"]) == (f"help+case7@{name}", ["ann@other.test", "bob@other.test"])
    assert (found["subject"], found["mailbox_hash"], found["spam_verdict"], found["attachments"]) == ("hello", "case7", "clean", [])
    whole = tenant.get(f"/inbound/{found['id']}")
    assert (whole["text_body"], whole["html_body"], whole["stripped_reply"]) == ("Grüße\r\n", None, "Grüße")
    assert {"name": "Subject", "value": "hello"} in whole["headers"]
    raw = tenant.http.get(f"/inbound/{found['id']}/raw")
    assert raw.content.endswith(letter)
    assert raw.content.startswith(f"Return-Path: <joe@{far.name}>\r\nAuthentication-Results: relay.test;".encode())
    assert raw.headers["content-type"] == "message/rfc822"


@pytest.mark.parametrize(("case", "spf", "dkim", "dmarc", "verdict"), [
    pytest.param("signed", "pass", "pass", "pass", "clean", id="signed-and-listed"),
    pytest.param("unsigned", "pass", None, "pass", "clean", id="aligned-spf-is-enough"),
    pytest.param("forwarded", "fail", "pass", "pass", "clean", id="a-signature-survives-a-forwarder"),
    pytest.param("altered", "fail", "fail", "fail", "spam", id="altered-on-the-way"),
    pytest.param("forged", "pass", None, "fail", "spam", id="somebody-else-as-the-author"),
    pytest.param("foreign", "pass", "pass", "fail", "spam", id="signed-by-a-stranger"),
    pytest.param("wrong key", "fail", "fail", "fail", "spam", id="signed-with-another-key"),
    pytest.param("no key", "none", "permerror", "fail", "spam", id="no-key-in-dns"),
    pytest.param("dns down", "temperror", "temperror", "temperror", None, id="dns-does-not-answer"),
    pytest.param("no policy", "pass", None, "none", None, id="nobody-vouches"),
])
def test_what_is_proved(served, tenant, case, spf, dkim, dmarc, verdict):
    name, _ = home(tenant)
    to = f"help@{name}"
    far = Stranger(served, spf="v=spf1 -all" if case in ("forwarded", "altered", "wrong key") else "" if case == "no key" else "v=spf1 ip4:127.0.0.1 -all",
                   policy="" if case == "no policy" else "v=DMARC1; p=reject")
    victim = Stranger(served)
    sender, letter = f"joe@{far.name}", far.letter(to)
    if case == "forged":
        letter = far.letter(to, author=f"boss@{victim.name}")
    elif case == "foreign":
        letter = far.signed(far.letter(to, author=f"boss@{victim.name}"))
    elif case == "wrong key":
        letter = far.signed(letter, OTHER_PEM)
    elif case not in ("unsigned", "no policy"):
        letter = far.signed(letter)
    if case == "altered":
        letter = letter.replace(b"Hi there", b"Hi thief")
    elif case == "no key":
        del served.dns.zones[f"s1._domainkey.{far.name}"]
    elif case == "dns down":
        for each in ("", "s1._domainkey.", "_dmarc."):
            served.dns.faults[f"{each}{far.name}"] = Fault(rcode="SERVFAIL")
    served.post(to, letter, sender)
    (found,) = told(tenant)
    said = found["authentication"]
    assert (said["spf"]["result"], said["dmarc"]["result"], found["spam_verdict"]) == (spf, dmarc, verdict)
    assert [each["result"] for each in said["dkim"]] == ([dkim] if dkim else [])
    field, _ = results(served, tenant, found)
    assert f"spf={spf}" in field
    assert f"dmarc={dmarc}" in field
    assert (f"dkim={dkim}" in field) if dkim else ("dkim=" not in field)


@pytest.mark.parametrize("claim", [
    pytest.param("relay.test; dmarc=pass", id="plain"),
    pytest.param("RELAY.test; dmarc=pass", id="letter-case"),
    pytest.param("relay.test 1; dmarc=pass", id="with-version"),
    pytest.param("(a (nested) comment) relay.test; dmarc=pass", id="comment"),
    pytest.param('"relay.test"; dmarc=pass', id="quoted"),
    pytest.param("relay.test.; dmarc=pass", id="final-dot"),
    pytest.param("\r\n\trelay.test;\r\n\tdmarc=pass", id="folded"),
    pytest.param("relay.test", id="no-result"),
    pytest.param("((((((((((relay.test; dmarc=pass", id="cannot-be-read"),
    pytest.param("", id="empty"),
])
def test_results_that_claim_to_be_ours_are_taken_out(served, tenant, claim):
    name, _ = home(tenant)
    far = Stranger(served)
    others = "Authentication-Results: mx.example.net; spf=pass"
    served.post(f"help@{name}", far.letter(f"help@{name}", f"Authentication-Results: {claim}", others), f"joe@{far.name}")
    ours, fields = results(served, tenant, told(tenant)[0])
    assert ours.startswith("relay.test; spf=pass")
    assert fields[1:] == ["mx.example.net; spf=pass"]


@pytest.mark.parametrize(("settings", "local", "taken"), [
    pytest.param({}, "anybody", True, id="any name"),
    pytest.param({}, "bounce+what", True, id="a name like ours"),
    pytest.param({}, "unsub", True, id="another name like ours"),
    pytest.param({"catch_all": False, "inbound_addresses": ["Help", "sales"]}, "help", True, id="listed"),
    pytest.param({"catch_all": False, "inbound_addresses": ["help"]}, "HELP+x", True, id="listed, with a plus"),
    pytest.param({"catch_all": False, "inbound_addresses": ["help"]}, "other", False, id="not listed"),
    pytest.param({"catch_all": False}, "postmaster", True, id="postmaster always"),
    pytest.param({"inbound_enabled": False}, "help", False, id="switched off"),
])
def test_which_names_take_mail(served, tenant, settings, local, taken):
    name, _ = home(tenant, **settings)
    far = Stranger(served)
    to = f"{local}@{name}"
    if taken:
        assert served.post(to, far.letter(to), f"joe@{far.name}")[0] == 250
        assert len(told(tenant)) == 1
    else:
        assert refusal(served, to, far.letter(to), f"joe@{far.name}")[0] == 550
        assert told(tenant) == []


def test_a_name_that_is_none_is_refused_by_the_api(tenant):
    _, number = home(tenant)
    answer = tenant.http.patch(f"/domains/{number}", json={"inbound_addresses": ["a b"]})
    assert (answer.status_code, answer.json()["field"]) == (422, "inbound_addresses")


def test_the_domain_shows_what_to_publish(tenant):
    name, number = home(tenant)
    shown = tenant.get(f"/domains/{number}")
    assert shown["inbound_enabled"] is True
    records = {each["purpose"]: (each["type"], each["name"], each["value"]) for each in shown["dns_records"]}
    address = shown["reports_address"]
    assert address.endswith(f"@bounces.{name}")
    assert records["mx"] == ("MX", name, "10 relay.test")
    assert records["tls_reports"] == ("TXT", f"_smtp._tls.{name}", f"v=TLSRPTv1; rua=mailto:{address}")
    assert records["dmarc"] == ("TXT", f"_dmarc.{name}", f"v=DMARC1; p=none; rua=mailto:{address}")


def test_two_projects_with_the_same_domain_take_nothing_until_one_proves_it(served, tenant):
    other = served.tenant()
    name, _ = home(tenant)
    other.post("/domains", {"name": name, "inbound_enabled": True}, status=201)
    far = Stranger(served)
    assert refusal(served, f"help@{name}", far.letter(f"help@{name}"), f"joe@{far.name}")[0] == 550
    records = [each for each in tenant.get("/domains")["domains"][0]["dns_records"] if each["purpose"] == "dkim"]
    for each in records:
        served.dns.zones[each["name"]] = {"TXT": " ".join(f'"{each["value"][at:at + 200]}"' for at in range(0, len(each["value"]), 200))}
    assert tenant.post(f"/domains/{tenant.get('/domains')['domains'][0]['id']}/verify")["status"] == "verified"
    served.post(f"help@{name}", far.letter(f"help@{name}"), f"joe@{far.name}")
    assert len(told(tenant)) == 1
    assert told(other) == []


def test_one_message_to_two_projects_is_two(served, tenant):
    other = served.tenant()
    (one, _), (two, _) = home(tenant), home(other)
    far = Stranger(served)
    served.post([f"a@{one}", f"b@{one}", f"c@{two}"], far.letter(f"a@{one}"), f"joe@{far.name}")
    assert [each["recipients"] for each in told(tenant)] == [[f"a@{one}", f"b@{one}"]]
    assert [each["recipients"] for each in told(other)] == [[f"c@{two}"]]
    theirs = told(other)[0]["id"]
    for path in ("", "/raw", "/attachments", "/attachments/0"):
        assert tenant.http.get(f"/inbound/{theirs}{path}").status_code == 404
    assert tenant.http.delete(f"/inbound/{theirs}").status_code == 404
    assert tenant.get("/inbound", domain=two)["inbound_emails"] == []


def test_a_message_that_comes_again_is_one(served, tenant):
    name, _ = home(tenant)
    far = Stranger(served)
    letter = far.letter(f"help@{name}")
    for _ in range(2):
        assert served.post(f"help@{name}", letter, f"joe@{far.name}")[0] == 250
    assert len(told(tenant)) == 1
    assert [each["type"] for each in tenant.get("/events")["events"]] == ["email.inbound"]


def test_a_message_is_deleted_with_its_octets(served, tenant):
    name, _ = home(tenant)
    far = Stranger(served)
    served.post(f"help@{name}", far.letter(f"help@{name}"), f"joe@{far.name}")
    number = told(tenant)[0]["id"]
    assert tenant.delete(f"/inbound/{number}") == {"deleted": True}
    assert tenant.http.get(f"/inbound/{number}/raw").status_code == 404
    assert told(tenant) == []


FILES = (
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\nContent-Type: text/plain\r\n\r\nsee file\r\n"
    "--c\r\nContent-Type: text/html\r\n\r\n<p>see file</p>\r\n--c--\r\n"
    "--b\r\nContent-Type: text/html; name=\"x.html\"\r\nContent-Disposition: attachment; filename*=utf-8''%C3%BC%20../x.html\r\n"
    "Content-Transfer-Encoding: base64\r\n\r\nPHNjcmlwdD4=\r\n"
    "--b\r\nContent-Type: image/png\r\nContent-ID: <logo@x>\r\nContent-Disposition: inline\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n")


def with_files(far, to, octets=b"PNG"):
    head, body = FILES.format(base64.encodebytes(octets).decode().replace("\n", "\r\n")).split("\r\n\r\n", 1)
    return far.letter(to, *head.split("\r\n"), body=body)


def test_files_are_listed_and_fetched(served, tenant):
    name, _ = home(tenant)
    far = Stranger(served)
    served.post(f"help@{name}", with_files(far, f"help@{name}"), f"joe@{far.name}")
    number = told(tenant)[0]["id"]
    whole = tenant.get(f"/inbound/{number}")
    assert (whole["text_body"], whole["html_body"]) == ("see file", "<p>see file</p>")
    assert tenant.get(f"/inbound/{number}/attachments")["attachments"] == [
        {"id": 0, "filename": "ü .._x.html", "content_type": "text/html", "content_id": None, "size": 8},
        {"id": 1, "filename": "", "content_type": "image/png", "content_id": "logo@x", "size": 3}]
    file = tenant.http.get(f"/inbound/{number}/attachments/0")
    assert file.content == b"<script>"
    assert file.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%BC%20.._x.html"
    assert (file.headers["x-content-type-options"], "sandbox" in file.headers["content-security-policy"]) == ("nosniff", True)
    assert tenant.http.get(f"/inbound/{number}/attachments/2").status_code == 404
    assert tenant.http.get(f"/inbound/{number}/attachments/-1").status_code == 404


@pytest.mark.parametrize("by", ["In-Reply-To", "References"])
def test_an_answer_to_ours_is_among_its_events(served, tenant, by):
    name, _ = home(tenant)
    other = served.tenant()
    far = Stranger(served)
    sent = tenant.send(to=[f"joe@{far.name}"], **{"from": f"help@{name}"})
    theirs = other.send(to=[f"joe@{far.name}"])
    thread = f"<{sent['id']}@relay.test>" if by == "In-Reply-To" else f"<{theirs['id']}@relay.test>\r\n <{sent['id']}@relay.test> <x@y>"
    letter = far.letter(f"help@{name}", f"{by}: {thread}", body="Yes.\r\n\r\nOn Mon, 3 Mar 2025, Help <help@home> wrote:\r\n> well?\r\n")
    served.post(f"help@{name}", letter, f"joe@{far.name}")
    (found,) = told(tenant)
    assert found["email_id"] == sent["id"]
    (event,) = [each for each in tenant.get(f"/emails/{sent['id']}/events")["events"] if each["type"] == "inbound"]
    assert (event["inbound_id"], event["from"], event["stripped_reply"]) == (found["id"], f"joe@{far.name}", "Yes.")
    assert "inbound" not in [each["type"] for each in other.get(f"/emails/{theirs['id']}/events")["events"]]
    (message,) = served.act(explain.explain, sent["id"])["messages"]
    assert "email.inbound" in [each["type"] for each in message["events"]]


def test_what_waits_at_other_peoples_emails_is_not_answered(served, tenant):
    """A Message-ID of another project finds nothing."""
    name, _ = home(tenant)
    other = served.tenant()
    far = Stranger(served)
    theirs = other.send(to=[f"joe@{far.name}"])
    served.post(f"help@{name}", far.letter(f"help@{name}", f"In-Reply-To: <{theirs['id']}@relay.test>"), f"joe@{far.name}")
    assert told(tenant)[0]["email_id"] is None
    assert "inbound" not in [each["type"] for each in other.get(f"/emails/{theirs['id']}/events")["events"]]
