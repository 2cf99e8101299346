"""Signing in and out, what a session is worth, and what nobody gets without one."""

from __future__ import annotations

import pytest

from relay.control import keys, users
from tests.support.served import Served
from tests.support.visitor import Visitor, words

PASSWORD = "correct horse battery staple"


@pytest.fixture
def stranger(served):
    return Visitor(served)


@pytest.fixture(autouse=True)
def _forgiven(served):
    """Failures of one test lock out no other: they all come from 127.0.0.1."""
    yield
    Visitor(served).sign_in(served.tenant().key)


def signed_in(visitor):
    """Whether a page that is not there is said not to be, instead of leading to the sign-in."""
    return visitor.get("/nowhere").status_code == 404


def token_of(visitor):
    return visitor.see("/nowhere", 404).css_first("input[name=token]").attributes["value"]


def test_without_a_session_every_page_leads_to_the_sign_in(stranger):
    answer = stranger.get("/settings/keys", page="2")
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/sign-in?next=/dashboard/settings/keys%3Fpage%3D2")


def test_a_key_signs_in_and_the_page_that_was_wanted_opens(stranger, tenant):
    answer = stranger.http.post("/dashboard/sign-in", data={"secret": tenant.key, "next": "/dashboard/sign-in"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "Path=/dashboard", "SameSite=lax"))
    assert tenant.key not in cookie
    assert "Sign out" in stranger.text("/nowhere", 404)


@pytest.mark.parametrize("next_page", [
    "https://evil.example/", "//evil.example/", "/dashboard//evil.example", "/dashboard\\evil.example", "/dashboardevil", "/poststack/emails",
    "javascript:alert(1)", "/dashboard/\r\nSet-Cookie: a=b",
])
def test_the_sign_in_leads_nowhere_else(stranger, tenant, next_page):
    answer = stranger.http.post("/dashboard/sign-in", data={"secret": tenant.key, "next": next_page})
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")


@pytest.mark.parametrize("given", [
    {"secret": "sk_live_" + "0" * 40}, {"secret": ""}, {}, {"name": "nobody", "secret": PASSWORD}, {"secret": PASSWORD}, {"secret": "x" * 5_000},
    {"name": "'; --", "secret": "' OR 1=1"},
], ids=["no such key", "empty", "nothing", "no such user", "no name", "too long", "sql"])
def test_what_proves_nobody_signs_nobody_in(stranger, given):
    answer = stranger.http.post("/dashboard/sign-in", data=given)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "not a living key" in words(answer.text)
    assert given.get("secret", "")[:40] not in answer.text or not given.get("secret")


def test_a_user_signs_in_in_any_letter_case_and_a_new_password_ends_the_session(served, tenant, stranger):
    name = f"Ada-{tenant.project}@example.com"
    served.act(users.add, name, PASSWORD, project=tenant.project)
    stranger.sign_in(PASSWORD, name.upper())
    assert f"{name} Sign out" in stranger.text("/nowhere", 404)
    served.act(users.set_password, name, "another long password", project=tenant.project)
    assert not signed_in(stranger)
    stranger.sign_in(PASSWORD, name, status=401)
    stranger.sign_in("another long password", name)
    served.act(users.remove, name, project=tenant.project)
    assert not signed_in(stranger)


def test_a_revoked_key_ends_its_sessions_at_once(served, tenant, stranger):
    stranger.sign_in(tenant.key)
    served.act(keys.revoke, tenant.key, project=tenant.project)
    assert not signed_in(stranger)


def test_signing_out_takes_the_cookie(stranger, tenant):
    stranger.sign_in(tenant.key)
    answer = stranger.http.post("/dashboard/sign-out", data={"token": token_of(stranger)})
    assert answer.status_code == 303
    assert "You are signed out." in stranger.text("/sign-in")
    assert not stranger.http.cookies.get("relay_session")


@pytest.mark.parametrize("change", [
    lambda text: text[:-2] + ("aa" if text[-2:] != "aa" else "bb"), lambda text: ("b" if text[0] != "b" else "c") + text[1:], lambda text: text[:40],
    lambda _: "x",
], ids=["its end", "its begin", "half", "nothing of it"])
def test_a_changed_cookie_is_none(stranger, tenant, change):
    stranger.sign_in(tenant.key)
    text = change(stranger.http.cookies["relay_session"])
    stranger.http.cookies.clear()
    answer = stranger.http.get("/dashboard/nowhere", headers={"cookie": f"relay_session={text}"})
    assert answer.status_code == 303


@pytest.mark.parametrize(("token", "headers", "status"), [
    ("", {}, 403), ("x" * 30, {}, 403), (None, {"sec-fetch-site": "cross-site"}, 403), (None, {"sec-fetch-site": "same-site"}, 403),
    (None, {"origin": "http://evil.example"}, 403), (None, {"origin": "null"}, 403), (None, {"sec-fetch-site": "same-origin"}, 303), (None, {}, 303),
], ids=["no token", "a wrong one", "cross-site", "a sister site", "another origin", "no origin", "ours", "no browser"])
def test_a_form_counts_only_from_a_page_of_ours(stranger, tenant, token, headers, status):
    stranger.sign_in(tenant.key)
    own = token_of(stranger)
    answer = stranger.http.post("/dashboard/sign-out", data={"token": own if token is None else token}, headers=headers)
    assert answer.status_code == status


def test_the_token_of_another_session_does_not_count(stranger, served, tenant):
    other = Visitor(served).sign_in(tenant.key)
    token = token_of(other)
    stranger.sign_in(tenant.key)
    assert stranger.http.post("/dashboard/sign-out", data={"token": token}).status_code == 403


def test_another_site_cannot_sign_a_browser_in(stranger, tenant):
    answer = stranger.http.post("/dashboard/sign-in", data={"secret": tenant.key}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_no_answer_may_be_framed_cached_or_run_scripts_of_a_page(stranger):
    for path in ("/sign-in", "/captured"):
        headers = stranger.get(path).headers
        rules = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == "'self'"
        assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("headers", "content", "words_"), [
    ({"content-type": "multipart/form-data; boundary=x"}, b"nonsense", "cannot be read"),
    ({"content-type": "application/x-www-form-urlencoded"}, b"a=" + b"x" * 1_100_000, "at most 1,000,000"),
    ({"content-type": "application/x-www-form-urlencoded"}, b"&".join(b"a=1" for _ in range(3_000)), ""),
    ({"content-type": "application/x-www-form-urlencoded"}, b"secret=%00", "NUL"),
    ({"content-type": "application/json"}, b"{}", "not a living key"),
], ids=["broken", "too long", "too many fields", "a NUL", "json"])
def test_a_form_that_is_none_is_refused(stranger, headers, content, words_):
    answer = stranger.http.post("/dashboard/sign-in", content=content, headers=headers)
    assert answer.status_code in (401, 422)
    assert words_ in words(answer.text)


def test_the_fifth_failure_locks_an_address_out(tmp_path, sqlite_url):
    with Served(tmp_path / "relay", sqlite_url) as served:
        key = served.tenant().key
        visitor = Visitor(served)
        for _ in range(5):
            visitor.sign_in("sk_live_wrong", status=401)
        answer = visitor.http.post("/dashboard/sign-in", data={"secret": key})
        assert answer.status_code == 429
        assert "wait 10 minutes" in words(answer.text)
        assert "set-cookie" not in answer.headers
