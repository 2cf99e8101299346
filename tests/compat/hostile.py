"""What hostile callers send: every route of a dialect with ids, queries and bodies that mean nothing. None of it may be a fault of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

IDS = ("0", "9" * 19, "1" * 40, "ct_0000000000000", "em_zzzzzzzzzzzzz", "\u0000", "%00", "..", "%2e%2e%2femails", "' OR 1=1", "ü" * 300, "{}", "null", "a@b")
BODIES: tuple[Any, ...] = (
    b"", b"{", b"null", b"[]", b"0", b'"text"', b"\xff\xfe", b"{}", b'{"name": null}',
    b'{"name": "\\u0000"}', b'{"name": {"a": [1, {"b": null}]}, "email": ["x"]}',
    b'{"email": "a@example.com\\r\\nBcc: b@example.com", "emails": [null, 1, {}], "events": "x", "url": "http://[", "rules": {"conditions": "x"}}',
    b'{"from": 1, "to": {"email": {}}, "subject": [], "body": 7, "html": {}, "data": [], "headers": {"a\\r\\nb": "c"}, "attachments": [{"content": "="}]}',
    b'{"condition": {"logic": "AND", "groups": [{"filters": [{"field": "data.a", "operator": "equals", "value": {"x": []}}]}]}, "name": "x"}',
    b"[" * 5_000 + b"]" * 5_000, b'{"email": "' + b"a" * 100_000 + b'@example.com"}', b'{"days": 1e400, "page": -1, "limit": 1e99, "contactIds": [1e30]}',
)
QUERIES = ("", "page=0", "per_page=1e9", "page=99999999999999999999", "cursor=%00", "cursor=%ff", "limit=-1", "limit=x", "sort=nonsense", "domain_id=' OR 1=1",
           "domain_id=99999999999999999999", "search=%25_%5c", "unsubscribed=perhaps", "date_from=yesterday", "days=-5", "a=" + "b" * 4_000)


def faults(http: Any, routes: Iterable[tuple[str, str]]) -> list[str]:
    """The requests that were answered with 500 or a body that is no JSON object.

    routes  methods and paths with {names}
    """
    found = []
    for number, (method, path) in enumerate(routes):
        for turn in range(max(len(IDS), len(BODIES), len(QUERIES))):
            full = re.sub(r"\{(\w+)(:\w+)?\}", lambda _match, turn=turn: IDS[turn % len(IDS)], path)
            body = BODIES[(number + turn) % len(BODIES)] if method != "GET" else None
            answer = ask(http, method, full, QUERIES[(number + turn) % len(QUERIES)], body)
            if answer is not None and answer.status_code >= 500 and "retry-after" not in answer.headers:
                found.append(f"{method} {full} {body!r:.200}: {answer.status_code} {answer.text:.200}")
    return found


def ask(http: Any, method: str, path: str, query: str, body: bytes | None) -> Any:
    """The answer; None for a path that no client can spell."""
    if "\0" in path:
        return None
    headers = {} if body is None else {"Content-Type": "application/json"}
    return http.request(method, f"{path}?{query}" if query else path, content=body, headers=headers)
