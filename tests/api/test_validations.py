"""/email-validations: one address and many, for full_access keys only. What is found is proven in tests/audience/test_validation.py."""


def test_one_address(tenant):
    found = tenant.post("/email-validations", {"email": "info@[127.0.0.1]"})
    assert found == {
        "email": "info@[127.0.0.1]", "result": "deliverable", "risk": "medium", "suggestion": None,
        "reasons": ["the address belongs to a task, not to a person"],
        "checks": {"syntax": True, "mx": True, "disposable": False, "role": True, "free": False, "typo": False}}


def test_many_addresses_in_their_order(tenant):
    found = tenant.post("/email-validations/batch", {"emails": ["nonsense", "jane@[127.0.0.1]"]})["results"]
    assert [(each["email"], each["result"]) for each in found] == [("nonsense", "undeliverable"), ("jane@[127.0.0.1]", "deliverable")]


def test_bounds(tenant, served):
    assert tenant.post("/email-validations/batch", {"emails": ["a@example.com"] * 101}, 422)["field"] == "emails"
    assert tenant.post("/email-validations", {"email": ""}, 422)["field"] == "email"
    assert served.tenant("sending_access").http.post("/email-validations", json={"email": "a@example.com"}).status_code == 403
