"""A person at the dashboard without a browser: keeps cookies, follows links, fills in the forms that a page really has."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
from selectolax.lexbor import LexborHTMLParser, LexborNode

from tests.support.served import Served, Tenant


class Visitor:
    """`Visitor(served).sign_in(key)`; then `see(path)` gives a parsed page, `submit(path, action, **fields)` sends the form of a page."""

    def __init__(self, served: Served, base: str = ""):
        self.served = served
        self.http = httpx.Client(base_url=base or served.base, timeout=60)

    def sign_in(self, secret: str, name: str = "", status: int = 303) -> Visitor:
        answer = self.http.post("/dashboard/sign-in", data={"name": name, "secret": secret})
        assert answer.status_code == status, answer.text
        return self

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(path if path.startswith("/dashboard") else f"/dashboard{path}", params=query or None)

    def see(self, path: str, code: int = 200, **query: Any) -> LexborHTMLParser:
        """The page, which must answer with this status."""
        answer = self.get(path, **query)
        assert answer.status_code == code, f"{answer.status_code} {answer.headers.get('location', '')} {answer.text[-2_000:]}"
        return LexborHTMLParser(answer.text)

    def text(self, path: str, code: int = 200, **query: Any) -> str:
        """What a person reads on the page, white space folded."""
        return words(self.see(path, code, **query))

    def submit(self, path: str, action: str, files: Any = None, **fields: Any) -> httpx.Response:
        """The answer to the page's form that posts to `action`, with what it holds already and these fields; a redirect is followed."""
        found = self.see(path)
        forms = [form for form in found.css("form") if form.attributes.get("action") == action and form.attributes.get("method") == "post"]
        assert forms, f"{path} has no form to {action}, but {[form.attributes.get('action') for form in found.css('form')]}"
        answer = self.http.post(action, data={**held(forms[0]), **fields}, files=files)
        return self.http.get(answer.headers["location"]) if answer.status_code == 303 else answer


def held(form: LexborNode) -> dict[str, Any]:
    """What a form would send as it stands."""
    values: dict[str, Any] = {}
    for field in form.css("input[name], textarea[name]"):
        kind, name = field.attributes.get("type") or "text", field.attributes["name"]
        if kind in ("checkbox", "radio") and "checked" not in field.attributes:
            continue
        values[name] = field.text() if field.tag == "textarea" else field.attributes.get("value") or ""
    for choice in form.css("select[name]"):
        options = choice.css("option")
        picked = next((option for option in options if "selected" in option.attributes), options[0] if options else None)
        values[choice.attributes["name"]] = picked.attributes.get("value") or "" if picked is not None else ""
    return values


def words(page: LexborHTMLParser | str) -> str:
    body = (LexborHTMLParser(page) if isinstance(page, str) else page).body
    return " ".join(body.text(separator=" ").split()) if body is not None else ""


def visiting(tenant: Tenant) -> Visitor:
    """A visitor who is signed in with the tenant's key."""
    return Visitor(tenant.served).sign_in(tenant.key)
