"""Answering mail to a domain and passing it on, over the API."""


import pytest

from tests.inbound.letters import Stranger, home
from tests.inbound.test_received import told, with_files
from tests.support.served import arrived


def come(served, tenant, *more, **options):
    """A letter that came: its id, the home's name and the stranger."""
    name, _ = home(tenant)
    far = Stranger(served)
    served.post(f"help@{name}", far.letter(f"help@{name}", *more, **options), f"joe@{far.name}")
    return told(tenant)[0], name, far


@pytest.mark.parametrize(("more", "subject", "to", "wanted"), [
    pytest.param([], "hello", "joe@{far}", "Re: hello", id="to-the-author"),
    pytest.param(["Reply-To: ann@other.test"], "RE: hello", "ann@other.test", "RE: hello", id="to-reply-to"),
    pytest.param(["References: <one@x.test>\r\n <two@x.test>"], "", "joe@{far}", "Re:", id="in-a-thread"),
])
def test_an_answer_is_in_the_thread(served, tenant, more, subject, to, wanted):
    found, name, far = come(served, tenant, *more, subject=subject)
    sent = tenant.post(f"/inbound/{found['id']}/reply", {"from": f"help@{name}", "text": "Hi Joe"}, status=202)
    message, _ = arrived(served, tenant, sent)
    assert (message["To"], message["Subject"].strip()) == (to.format(far=far.name), wanted)
    assert message["In-Reply-To"] == f"<{found['message_id']}>"
    assert message["References"].split()[-1] == f"<{found['message_id']}>"
    assert message.get_content().strip() == "Hi Joe"


def test_a_forward_brings_text_and_files(served, tenant):
    name, _ = home(tenant)
    far = Stranger(served)
    served.post(f"help@{name}", with_files(far, f"help@{name}"), f"joe@{far.name}")
    sent = tenant.post(f"/inbound/{told(tenant)[0]['id']}/forward", {"from": f"help@{name}", "to": ["ann@other.test"], "message": "look <b>"}, status=202)
    message, _ = arrived(served, tenant, sent)
    assert message["Subject"] == "Fwd: hello"
    plain, html = message.get_body(("plain",)).get_content(), message.get_body(("html",)).get_content()
    assert "look <b>" in plain
    assert f"From: Joe <joe@{far.name}>" in plain
    assert "see file" in plain
    assert "look &lt;b&gt;" in html
    assert {part.get_filename(): part.get_payload(decode=True) for part in message.walk() if part.get_filename()} == {
        "ü .._x.html": b"<script>", "file-1": b"PNG"}


def test_a_stranger_chooses_no_field(served, tenant):
    """What came is repeated in fields of ours: nothing of it begins another."""
    found, name, _ = come(served, tenant, "Reply-To: =?utf-8?q?a=0D=0ABcc=3A_x=40y.test?= <joe@a.test>", subject="=?utf-8?q?a=0D=0ABcc=3A_x=40y.test?=")
    sent = tenant.post(f"/inbound/{found['id']}/reply", {"from": f"help@{name}", "text": "Hi"}, status=202)
    message, _ = arrived(served, tenant, sent)
    assert message["Bcc"] is None
    assert message["To"] == "joe@a.test"


@pytest.mark.parametrize(("act", "body"), [("reply", {"from": "a@b.test"}), ("forward", {"from": "a@b.test", "to": []}), ("reply", {"text": "x"})])
def test_what_cannot_be_sent_is_named(served, tenant, act, body):
    found, _, _ = come(served, tenant)
    assert tenant.http.post(f"/inbound/{found['id']}/{act}", json=body).status_code == 422


def test_another_project_finds_nothing_to_answer(served, tenant):
    found, _, _ = come(served, tenant)
    other = served.tenant()
    assert other.http.post(f"/inbound/{found['id']}/reply", json={"from": "a@b.test", "text": "x"}).status_code == 404
    assert other.http.post(f"/inbound/{found['id']}/forward", json={"from": "a@b.test", "to": ["a@b.test"]}).status_code == 404


@pytest.mark.parametrize(("language", "tone", "first", "close"), [
    pytest.param("en", None, "Hello Joe,", "Best wishes,", id="without-a-tone"),
    pytest.param("en", "formal", "Dear Joe,", "Kind regards,", id="formal"),
    pytest.param("de", "casual", "Hi Joe,", "Bis bald,", id="in-the-projects-language"),
])
def test_a_draft_is_a_frame_to_write_in(served, tenant, language, tone, first, close):
    tenant.patch("/project", {"name": "Ann & Sons", "language": language})
    found, name, far = come(served, tenant, body="When?\r\n\r\nOn Mon, 3 Mar 2025, Help <help@home> wrote:\r\n> soon <b>\r\n")
    draft = tenant.post(f"/inbound/{found['id']}/draft-reply", {"tone": tone} if tone else None)
    lines = draft["text"].splitlines()
    assert (lines[0], lines[4:6], lines[-1]) == (first, [close, "Ann & Sons"], "> When?")
    assert (draft["to"], draft["subject"], draft["tone"]) == (f"joe@{far.name}", "Re: hello", tone or "friendly")
    assert "Ann &amp; Sons" in draft["html"]
    assert "soon" not in draft["html"]
    sent = tenant.post(f"/inbound/{found['id']}/reply", {"from": f"help@{name}", "text": draft["text"], "html": draft["html"]}, status=202)
    assert arrived(served, tenant, sent)[0]["To"] == f"joe@{far.name}"


def test_a_draft_knows_three_tones_and_no_other_projects_mail(served, tenant):
    found, _, _ = come(served, tenant)
    answer = tenant.http.post(f"/inbound/{found['id']}/draft-reply", json={"tone": "rude"})
    assert (answer.status_code, answer.json()["field"]) == (422, "tone")
    assert served.tenant().http.post(f"/inbound/{found['id']}/draft-reply").status_code == 404
