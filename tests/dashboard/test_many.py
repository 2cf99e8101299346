"""With very many contacts a page comes at once, and what takes long after it; whoever runs no scripts follows a link."""

from __future__ import annotations

import pytest

from relay.store.audience import contacts
from relay.store.pages import MANY
from tests.support.visitor import visiting, words


@pytest.fixture
def crowd(tenant):
    """Three contacts of a project that is known to have very many."""
    people = [tenant.post("/contacts", {"email": f"{name}@example.com", "first_name": f"Miss {name.title()}"}, 201) for name in ("ada", "bea", "eve")]
    tenant.served.call(tenant.served.relay.store.read(lambda conn: conn.info["samples"]._large.update({("contacts", tenant.number): MANY})))
    assert tenant.served.call(tenant.served.relay.store.read(contacts.many, tenant.number))
    return people


def fetched(visitor, page, part):
    """What the part of a page fetches once the page is there."""
    box = page.css_first(f"#{part}")
    assert (box.attributes["hx-trigger"], box.attributes["hx-select"]) == ("load", f"#{part}")
    found = visitor.see(box.attributes["hx-get"]).css_first(f"#{part}")
    assert "hx-get" not in found.attributes
    return words(found.html)


def test_contacts_are_searched_after_the_page(visitor, crowd):
    assert "ada@example.com" in visitor.text("/contacts")  # the newest are there at once
    page = visitor.see("/contacts", search="miss a")
    assert "ada@example.com" not in words(page)
    assert "ada@example.com" in fetched(visitor, page, "found")
    assert "bea@example.com" not in fetched(visitor, page, "found")
    assert page.css_first("noscript a").attributes["href"] == page.css_first("#found").attributes["hx-get"]


def test_members_are_counted_after_the_page(tenant, visitor, crowd):
    made = tenant.post("/segments", {"name": "Misses", "rules": [{"field": "first_name", "operator": "starts_with", "value": "Miss"}]}, 201)["id"]
    page = visitor.see(f"/segments/{made}")
    assert "contacts whose first" in words(page)
    assert "3 contacts" in fetched(visitor, page, "members") or "eve@example.com" in fetched(visitor, page, "members")
    listed = visitor.see("/segments")
    assert "Misses" in words(listed)
    assert "3" in fetched(visitor, listed, "segments").split()
    assert "Misses" in visitor.text(f"/segments/{made}/edit")


def test_members_of_a_list_are_found_by_how_their_address_begins(tenant, visitor, crowd):
    made = tenant.post("/segments", {"name": "List"}, 201)["id"]
    page = visitor.see(f"/segments/{made}", find="EVE@")
    assert "eve@example.com" in page.css_first("#found").text()
    whole = next(link.attributes["href"] for link in page.css("#found a"))
    assert "eve@example.com" in visitor.see(whole).css_first("#found").text()


def test_suggestions_begin_with_what_was_typed_then_have_it_anywhere(served, visitor, crowd):
    def options(**query):
        return [each.attributes["value"] for each in visitor.see("/preview/contacts", **query).css("option")]

    assert options(contact="be") == ["bea@example.com"]
    assert options(contact="miss") == ["eve@example.com", "bea@example.com", "ada@example.com"]
    assert options(contact="100%") == []
    assert len(options()) == 3
    assert not visiting(served.tenant()).see("/preview/contacts", contact="ada").css("option")
