"""The mail pages: search, one message's way, what a stranger wrote, cancel and retry; each project sees its own, and a sending key sees nothing else."""

from __future__ import annotations

import pytest

from tests.support.visitor import visiting, words

HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(1)>"\'>{{7*7}}'


def settled(tenant, name):
    """The email once it has ended."""
    return tenant.until(f"/emails/{name}", lambda email: email.get("status") in ("delivered", "bounced", "failed", "suppressed"))


@pytest.fixture
def email(tenant):
    """One that was delivered."""
    name = tenant.send(to=["ada@search.example"], subject="A rare subject", tags=["invoice"], html="<h1>Hi</h1>", text="Hi there")["id"]
    settled(tenant, name)
    return name


def message_id(visitor, name):
    return visitor.see(f"/mail/{name}").css("dd code")[1].text()


@pytest.mark.parametrize(("query", "hit"), [
    ({}, True), ({"q": "ada@search.example"}, True), ({"q": "ADA@Search.Example", "in": "to"}, True), ({"q": "bob@search.example"}, False),
    ({"q": "rare SUB"}, True), ({"q": "rare", "in": "subject"}, True), ({"q": "common"}, False), ({"q": "invoice", "in": "tag"}, True),
    ({"q": "invoic", "in": "tag"}, False), ({"status": "delivered"}, True), ({"status": "queued"}, False), ({"q": "rare", "status": "delivered"}, True),
    ({"q": "rare", "status": "sending"}, False), ({"q": "100%_", "in": "subject"}, False),
    ({"since": "2020-01-01"}, True),
    ({"until": "2020-01-01"}, False), ({"since": "2999-01-01", "q": "rare"}, False), ({"since": "2020-01-01", "q": "rare"}, True),
], ids=str)
def test_mail_is_found(visitor, email, query, hit):
    page = visitor.see("/mail", **query)
    assert bool(page.css_first(f'a[href="/dashboard/mail/{email}"]')) is hit


def test_subjects_are_looked_at_page_by_page(visitor, tenant):
    for number in range(27):
        tenant.send(to=["ada@search.example"], subject=f"Receipt {number}")
    first = visitor.see("/mail", q="receipt")
    assert len(first.css("tbody tr")) == 25
    further = first.css_first("#further a").attributes["href"]
    assert "hx-get" not in first.css_first("#further").attributes  # the page is full
    second = visitor.see(further)
    assert [row.css("td")[3].text() for row in second.css("tbody tr")] == ["Receipt 1", "Receipt 0"]
    assert "These are all that there are." in second.css_first("#further").text()
    assert "No mail here that matches." in visitor.text("/mail", q="receipts")


def test_an_id_leads_to_the_message_and_a_message_id_finds_it(visitor, email):
    answer = visitor.get("/mail", q=email)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/dashboard/mail/{email}")
    for text in (f"<{message_id(visitor, email)}>", message_id(visitor, email)):
        assert visitor.see("/mail", q=text, **{"in": "id"}).css_first(f'a[href="/dashboard/mail/{email}"]')


@pytest.mark.parametrize(("query", "said"), [
    ({"status": "lost"}, "status is one of"), ({"in": "everything", "q": "x"}, "look for a recipient"), ({"in": "to", "q": "@@"}, ""),
    ({"q": "x" * 600}, "at most 500"), ({"q": "em_0000000000000"}, ""), ({"since": "monday"}, "a day such as"),
    ({"until": "9999-12-31"}, "a day such as"), ({"q": "x", "before": "cur_"}, "not found"), ({"q": "x", "had": "-1", "looks": "x"}, "No mail here"),
], ids=["status", "kind", "address", "long", "no such id", "no day", "no day after", "no place", "no number"])
def test_a_search_that_means_nothing_says_so(visitor, query, said):
    answer = visitor.get("/mail", **query)
    assert answer.status_code in (404, 422, 200)
    assert said in words(answer.text)
    assert "A fault of ours" not in answer.text


def test_a_message_tells_its_whole_way(visitor, tenant, email):
    text = visitor.text(f"/mail/{email}")
    for part in ("A rare subject", "ada@search.example", "delivered", "Accepted", "by http", "invoice", "250", "email.delivered", "Each recipient's way"):
        assert part in text
    assert visitor.see(f"/mail/{email}").css_first("iframe[sandbox]").attributes["sandbox"] in ("", None)
    frame = visitor.get(f"/mail/{email}/html")
    assert "<h1>Hi</h1>" in frame.text
    assert frame.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    source = visitor.get(f"/mail/{email}/source")
    assert "Subject: A rare subject" in source.text
    assert source.headers["content-type"].startswith("text/plain")
    assert visitor.get(f"/mail/{email}/insights").status_code == 200


def test_what_waits_says_what_comes_next_and_can_be_cancelled_once(visitor, tenant):
    name = tenant.send(to=["later@next.example"], scheduled_at="2027-01-01T00:00:00Z")["id"]
    assert "Next: tried at 2027-01-01 00:00:00" in visitor.text(f"/mail/{name}")
    answer = visitor.submit(f"/mail/{name}", f"/dashboard/mail/{name}/cancel")
    assert "Cancelled: nobody" in words(answer.text)
    assert tenant.get(f"/emails/{name}")["status"] == "cancelled"
    again = visitor.http.post(f"/dashboard/mail/{name}/cancel", data={"token": visitor.see("/mail").css_first("input[name=token]").attributes["value"]})
    assert again.status_code == 422
    assert "can no longer be cancelled" in words(again.text)


def test_another_project_sees_nothing_of_it(served, email):
    other = visiting(served.tenant())
    for path in (f"/mail/{email}", f"/mail/{email}/html", f"/mail/{email}/source", f"/mail/{email}/insights"):
        assert other.get(path).status_code == 404
    assert "A rare subject" not in other.get("/mail").text
    token = other.see("/mail").css_first("input[name=token]").attributes["value"]
    assert other.http.post(f"/dashboard/mail/{email}/cancel", data={"token": token}).status_code == 404
    assert "A rare subject" not in other.get("/mail", q="rare").text


def test_a_sending_key_sees_mail_and_nothing_else(served, tenant, email):
    narrow = visiting(served.tenant("sending_access", project=tenant.project))
    assert narrow.see(f"/mail/{email}")
    assert [link.text() for link in narrow.see("/mail").css("header nav a")] == ["Mail"]
    for path in ("/queue", "/queue/curves", "/queue/waiting", "/settings/domains", "/settings/keys", "/settings/webhooks", "/settings/suppressions",
                 "/settings/users", "/settings/project"):
        assert narrow.get(path).status_code == 403, path


def test_what_a_stranger_wrote_is_shown_and_never_run(visitor, tenant):
    name = tenant.send(subject=HOSTILE, tags=["plain"], html=HOSTILE, text=HOSTILE)["id"]
    settled(tenant, name)
    for path in ("/mail", f"/mail/{name}"):
        page = visitor.see(path)
        assert "alert(1)" in page.html
        assert not page.css("main script, main img, [onerror]")
        assert "49" not in words(page).replace(name, "")[:200]
    sandboxed = visitor.get(f"/mail/{name}/html").headers["content-security-policy"]
    assert "allow-scripts" not in sandboxed
    assert "script-src" not in sandboxed
