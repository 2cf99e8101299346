"""relay user: people who sign in to the dashboard."""

from __future__ import annotations

import pytest

PASSWORD = "correct horse battery staple"


def test_a_user_is_added_listed_and_removed_in_their_own_project(relay):
    relay.text("project", "create", "shop")
    made = relay.text("user", "add", "ada@example.com", "--project", "shop", "--permission", "sending_access").strip()
    assert len(made) == 20
    assert relay.json("user", "list") == []
    [user] = relay.json("user", "list", "--project", "shop")
    assert (user["name"], user["permission"], user["project"], user["signed_in_at"]) == ("ada@example.com", "sending_access", "shop", None)
    assert made not in str(user)
    assert relay("user", "remove", "ada@example.com").returncode == 1
    assert relay.text("user", "remove", user["id"], "--project", "shop") == "ada@example.com is removed\n"
    assert relay.json("user", "list", "--project", "shop") == []


def test_a_password_may_come_from_standard_input_and_is_not_printed(relay):
    done = relay("user", "add", "ada", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert (done.returncode, done.stdout) == (0, "ada has the password that you gave\n")
    assert PASSWORD not in relay.text("user", "password", "ADA", "--password-stdin", stdin=f"{PASSWORD}!\n")
    assert len(relay.text("user", "password", "ada").strip()) == 20


@pytest.mark.parametrize(("line", "stdin", "status", "said"), [
    (("add", "ada"), "", 1, "taken"), (("add", "Ada"), "", 1, "taken"), (("add", "bob", "--password-stdin"), "short\n", 1, "12 to 1,024 characters"),
    (("add", "bob", "--password-stdin"), "", 2, "standard input is empty"), (("add", "a\tb"), "", 1, "printable"), (("add", ""), "", 1, "1 to 128"),
    (("remove", "nobody"), "", 1, "relay user list"), (("add", "bob", "--project", "nope"), "", 1, "relay project create nope"),
], ids=["taken", "taken in other letters", "short", "no password", "a tab", "no name", "nobody", "no project"])
def test_what_cannot_be_names_the_way_out(relay, line, stdin, status, said):
    relay.text("user", "add", "ada")
    done = relay("user", *line, stdin=stdin)
    assert done.returncode == status
    assert said in done.stderr
