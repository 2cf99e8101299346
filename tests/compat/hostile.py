"""What hostile callers send: every route of a dialect with ids, queries and bodies that mean nothing. None of it may be a fault of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

IDS = ("0", "9" * 19, "1" * 40, "ct_0000000000000", "em_zzzzzzzzzzzzz", "%00", "..", "%2e%2e%2femails", "' OR 1=1", "ü" * 300, "{}", "null", "a@b")
BODIES: tuple[Any, ...] = (
    b"", b"{", b"null", b"[]", b"0", b'"text"', b"\xff\xfe", b"{}", b'{"name": null}',
    b'{"name": "\\u0000"}', b'{"name": {"a": [1, {"b": null}]}, "email": ["x"]}',
    b'{"email": "a@example.com\\r\\nBcc: b@example.com", "emails": [null, 1, {}], "events": "x", "url": "http://[", "rules": {"conditions": "x"}}',
    b'{"from": 1, "to": {"email": {}}, "subject": [], "body": 7, "html": {}, "data": [], "headers": {"a\\r\\nb": "c"}, "attachments": [{"content": "="}]}',
    b'{"condition": {"logic": "AND", "groups": [{"filters": [{"field": "data.a", "operator": "equals", "value": {"x": []}}]}]}, "name": "x"}',
    b'{"name": "0", "subject": "0", "body": "0", "from": "", "to": "", "email": "", "event": "0", "data": {"": ""}, "emails": [""], "condition": {}, "id": ""}',
    b"[" * 5_000 + b"]" * 5_000, b'{"email": "' + b"a" * 100_000 + b'@example.com"}', b'{"days": 1e400, "page": -1, "limit": 1e99, "contactIds": [1e30]}',
)
QUERIES = ("", "page=0", "per_page=1e9", "page=99999999999999999999", "cursor=%00", "cursor=%ff", "limit=-1", "limit=x", "sort=nonsense", "domain_id=' OR 1=1",
           "domain_id=99999999999999999999", "search=%25_%5c", "unsubscribed=perhaps", "date_from=yesterday", "days=-5", "a=" + "b" * 4_000)
TURNS = 5  # requests of each route; prime to the lengths above, so routes together see all of them in all company


def faults(http: Any, routes: Iterable[tuple[str, str]]) -> list[str]:
    """The requests that were answered with a fault of ours.

    routes  methods and paths with {names}
    """
    found = []
    for number, (method, path) in enumerate(routes):
        for turn in range(number * TURNS, (number + 1) * TURNS):
            full = re.sub(r"\{(\w+)(:\w+)?\}", lambda _match, turn=turn: IDS[turn % len(IDS)], path)
            body = BODIES[turn % len(BODIES)] if method != "GET" else None
            headers = {} if body is None else {"Content-Type": "application/json"}
            answer = http.request(method, f"{full}?{QUERIES[turn % len(QUERIES)]}", content=body, headers=headers)
            if answer.status_code >= 500 and "retry-after" not in answer.headers:
                found.append(f"{method} {full} {body!r:.200}: {answer.status_code} {answer.text:.200}")
    return found

