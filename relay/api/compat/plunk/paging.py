"""Pages as Plunk has them: by cursor `{data, cursor, hasMore, total}`, where only the first page counts the total, and by number `{data, total, page, ...}`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query

from relay.api.compat.plunk.errors import Bad
from relay.store.pages import Found, Page

MOST = 100  # rows of a page
SIZE = 20


@dataclass(frozen=True, slots=True)
class Walk:
    """`limit` rows after `after`, what the cursor of the page before said; None at the beginning."""

    limit: int
    after: str | None


def _walk(
    limit: Annotated[int, Query(description=f"Rows of a page, up to {MOST}")] = SIZE,
    cursor: Annotated[str | None, Query(max_length=600, description="`cursor` of the page before")] = None,
) -> Walk:
    return Walk(min(max(limit, 1), MOST), None if cursor is None else opened(cursor))


def _page(
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(alias="pageSize", description=f"Rows of a page, up to {MOST}")] = SIZE,
) -> Page:
    return Page(page, min(max(size, 1), MOST))


Walking = Annotated[Walk, Depends(_walk)]
Paging = Annotated[Page, Depends(_page)]


def closed(text: str) -> str:
    """A cursor, which callers hand back as it is."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def opened(cursor: str) -> str:
    """Raises Bad."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        if "\0" not in text:
            return text
    except (ValueError, binascii.Error):
        pass
    raise Bad("cursor", "cursor is not one that a page gave")


def walked(rows: Sequence[Any], walk: Walk, total: int, key: Callable[[Any], str], show: Callable[[Any], Any]) -> dict[str, Any]:
    """A page by cursor.

    rows   one more than the limit, if there are more
    key    what the next page starts after
    """
    more, kept = len(rows) > walk.limit, rows[:walk.limit]
    return {"data": [show(row) for row in kept], "cursor": closed(key(kept[-1])) if more else None, "hasMore": more, "total": total}


def paged(found: Found, page: Page, show: Callable[[Any], Any]) -> dict[str, Any]:
    """A page by number."""
    return {"data": [show(row) for row in found.rows], "total": found.total, "page": page.number, "pageSize": page.size,
            "totalPages": -(-found.total // page.size)}
