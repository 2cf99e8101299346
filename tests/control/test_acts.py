"""Acts on a real store: what they give, what they refuse, and whom they tell."""

from __future__ import annotations

import pytest

from relay.control import records
from relay.control.acts import ACTS
from relay.errors import Conflict, Defer, Invalid, NotFound
from relay.mail import dkim
from relay.store import domains, keys, projects
from tests.support.dns import DnsServer, Fault


def publish(dns: DnsServer, domain: dict, *purposes: str) -> None:
    """Put a domain's records of these purposes into DNS, as an operator does by hand."""
    for record in domain["dns_records"]:
        if record["purpose"] in purposes:
            value = record["value"]
            if record["type"] == "TXT":
                value = " ".join(f'"{value[at:at + 255]}"' for at in range(0, len(value), 255))
            else:
                value += "."
            dns.zones.setdefault(record["name"], {})[record["type"]] = value


async def test_an_act_or_argument_that_does_not_exist_is_named(control):
    with pytest.raises(Invalid, match="there is no act key_crate"):
        await control.act("key_crate", {})
    with pytest.raises(Invalid, match="unexpected keyword argument 'colour'"):
        await control.act("key_create", {"colour": "red"})


async def test_every_act_on_a_project_that_is_not_there_names_the_way_out(control):
    arguments = {"key": "x", "name": "a.example", "address": "a@b.example", "rows": [], "batch": "b",
                 "file": "0" * 32, "number": "imp_x", "kind": "topics", "known": {}}
    for name, act in ACTS.items():
        wanted = act.run.__code__.co_varnames[:act.run.__code__.co_argcount]
        if "project" in wanted:
            given = {key: value for key, value in arguments.items() if key in wanted and not (name == "explain" and key != "what")}
            with pytest.raises(NotFound, match="relay project create nope"):
                await control.act(name, {**given, "project": "nope", **({"what": "a@b.example"} if name == "explain" else {})})


async def test_a_change_is_told_after_it_has_committed(control, told):
    await control.act("project_create", {"name": "shop"})
    made = await control.act("key_create", {"project": "shop"})
    assert told == ["projects", "keys"]
    assert (await control.store.read(keys.find, made["key"])).name == "key"
    with pytest.raises(Conflict):
        await control.act("project_create", {"name": "shop"})
    assert told == ["projects", "keys"]


async def test_a_key_that_makes_no_sense_is_refused(control):
    for arguments in ({"permission": "root"}, {"mode": "dry"}, {"domain": "a b"}):
        with pytest.raises(Invalid) as error:
            await control.act("key_create", arguments)
        assert error.value.field in arguments


async def test_a_domain_is_verified_when_dns_shows_its_key(control, dns, told):
    domain = await control.act("domain_add", {"name": "A.Example"})
    assert (await control.act("domain_verify", {"name": "a.example"}))["status"] == "pending"
    publish(dns, domain, "spf", "dmarc")
    assert (await control.act("domain_verify", {"name": "a.example"}))["status"] == "pending"
    publish(dns, domain, "dkim", "return_path")
    found = await control.act("domain_verify", {"name": "a.example"})
    assert (found["status"], [r["verified"] for r in found["dns_records"]]) == ("verified", [True] * 6)
    assert found["verified_at"]
    owner = await control.store.read(projects.by_name, "default")
    assert (await control.store.read(domains.get, owner.id, "a.example")).return_path == "bounces.a.example"
    dns.faults["a.example"] = Fault(rcode="SERVFAIL")
    assert (await control.act("domain_verify", {"name": "a.example"}))["status"] == "verified"
    del dns.zones[found["dns_records"][0]["name"]]
    assert (await control.act("domain_verify", {"name": "a.example"}))["status"] == "failed"
    assert set(told) == {"domains"}


@pytest.mark.parametrize(("name", "known_as"), [
    ("B.Example", "b.example"), ("b.example.", "b.example"), ("bücher.example", "xn--bcher-kva.example"),
    ("b.example..", None), (".b.example", None), ("*.b.example", None), ("localhost", None), ("not a domain", None), ("", None),
])
async def test_a_domain_is_known_by_its_a_label_and_what_is_none_is_refused(control, name, known_as):
    if known_as:
        assert (await control.act("domain_add", {"name": name}))["name"] == known_as
    else:
        with pytest.raises(Invalid) as refusal:
            await control.act("domain_add", {"name": name})
        assert refusal.value.field == "name"


async def test_the_keys_of_a_new_domain_sign(control):
    domain = await control.act("domain_add", {"name": "a.example", "return_path": ""})
    owner = await control.store.read(projects.by_name, "default")
    found = await control.store.read(domains.signing, owner.id, "a.example")
    assert [key.algorithm for key in found] == [dkim.RSA, dkim.ED25519]
    for key, record in zip(found, domain["dns_records"], strict=False):
        pem = control.vault.open(key.private_key, f"dkim:{records.record_name(key, 'a.example')}")
        assert dkim.public(pem.encode()) in record["value"]
        assert record["name"] == f"{key.selector}._domainkey.a.example"


async def test_a_rotation_waits_for_dns(control, dns):
    first = await control.act("domain_add", {"name": "a.example"})
    publish(dns, first, "dkim")
    rotated = await control.act("domain_rotate", {"name": "a.example"})
    assert [r["purpose"] for r in rotated["dns_records"]].count("dkim_rotation") == 2
    with pytest.raises(Conflict, match="under way"):
        await control.act("domain_rotate", {"name": "a.example"})
    with pytest.raises(Conflict, match="the old keys go on signing"):
        await control.act("domain_activate", {"name": "a.example"})
    pending = next(r["name"] for r in rotated["dns_records"] if r["purpose"] == "dkim_rotation")
    dns.faults[pending] = Fault(rcode="SERVFAIL")
    with pytest.raises(Defer):
        await control.act("domain_activate", {"name": "a.example"})
    dns.faults.clear()
    publish(dns, rotated, "dkim_rotation")
    control.resolver.forget()
    after = await control.act("domain_activate", {"name": "a.example"})
    assert [k["state"] for k in after["dkim"]].count("retired") == 2
    assert {r["name"] for r in after["dns_records"] if r["purpose"] == "dkim"} == {r["name"] for r in rotated["dns_records"] if r["purpose"] == "dkim_rotation"}
    assert (await control.act("domain_verify", {"name": "a.example"}))["status"] == "verified"


async def test_a_cancelled_rotation_leaves_the_old_keys(control):
    first = await control.act("domain_add", {"name": "a.example"})
    await control.act("domain_rotate", {"name": "a.example"})
    assert (await control.act("domain_cancel", {"name": "a.example"}))["dns_records"] == first["dns_records"]


async def test_a_verified_domain_belongs_to_one_project(control, dns):
    await control.act("project_create", {"name": "shop"})
    first = await control.act("domain_add", {"name": "a.example"})
    second = await control.act("domain_add", {"name": "a.example", "project": "shop"})
    publish(dns, first, "dkim")
    publish(dns, second, "dkim")
    await control.act("domain_verify", {"name": "a.example"})
    with pytest.raises(Conflict, match="another project"):
        await control.act("domain_verify", {"name": "a.example", "project": "shop"})


async def test_what_is_no_domain_is_not_added(control):
    for name in ("", "localhost", "a b.example", "a..example", "-a.example", "x" * 300):
        with pytest.raises(Invalid):
            await control.act("domain_add", {"name": name})


async def test_a_setting_of_a_domain_is_changed_alone(control):
    await control.act("domain_add", {"name": "a.example"})
    found = await control.act("domain_set", {"name": "a.example", "open_tracking": True, "tracking_domain": "t.a.example"})
    assert (found["open_tracking"], found["click_tracking"], found["return_path"]) == (True, False, "bounces.a.example")
    assert {"type": "CNAME", "name": "t.a.example", "value": "mail.relay.example", "purpose": "tracking", "verified": False} in found["dns_records"]
    with pytest.raises(Invalid, match="no setting colour"):
        await control.act("domain_set", {"name": "a.example", "colour": "red"})


async def test_a_lighter_reason_does_not_replace_a_graver_one(control):
    await control.act("suppress_add", {"address": "a@b.example", "reason": "complaint"})
    again = await control.act("suppress_add", {"address": "A@B.example", "reason": "unsubscribe"})
    assert (again["added"], again["reason"]) == (False, "complaint")


async def test_nothing_to_explain_says_how_long_messages_are_kept(control):
    for what in ("em_0000000000000", "<x@y.example>", "ann@b.example", "nonsense"):
        with pytest.raises(NotFound, match="kept for 90 days"):
            await control.act("explain", {"what": what})


async def test_the_whole_queue_is_only_meant_when_it_is_said(control):
    for act in ("queue_hold", "queue_release", "queue_retry", "queue_cancel"):
        with pytest.raises(Invalid, match="--all"):
            await control.act(act, {})
        with pytest.raises(Invalid, match="neither the id of a message"):
            await control.act(act, {"what": "everything"})
        assert set((await control.act(act, {"everything": True})).values()) == {0}


async def test_a_key_is_only_ever_restricted(control, told):
    made = await control.act("key_create", {})
    left = await control.act("key_restrict", {"key": made["id"], "permission": "sending_access", "domain": "A.example"})
    assert (left["permission"], left["domain"]) == ("sending_access", "a.example")
    found = await control.store.read(keys.find, made["key"])
    assert (found.permission, found.domain) == ("sending_access", "a.example")
    assert (await control.act("key_restrict", {"key": made["id"], "domain": "news.a.example"}))["domain"] == "news.a.example"
    for wider in ({"permission": "full_access"}, {"domain": "a.example"}, {"domain": "b.example"}, {"permission": "root"}):
        with pytest.raises(Invalid) as error:
            await control.act("key_restrict", {"key": made["id"], **wider})
        assert error.value.field in wider
    assert told == ["keys"] * 3
