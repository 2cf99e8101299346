"""Pages of long lists: by number, as people ask, or after the last row of the page before, which is fast at any depth.

Rows are ordered by their id, newest first unless said otherwise; ids grow with time, so that is the order of creation. A page by number costs an OFFSET,
which reads what it skips; `Found.last` is what the next page by cursor starts after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select


@dataclass(frozen=True, slots=True)
class Page:
    """`number` from 1, `size` in rows; with `after`, the id of the last row seen, the number only labels the answer."""

    number: int = 1
    size: int = 20
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """`rows` of the page, `total` over all pages, `last` the id to go on after, None on the last page."""

    rows: list[Any]
    total: int
    last: int | None = None


def take(conn: Connection, query: Select[Any], key: ColumnElement[int], page: Page, newest_first: bool = True) -> Found:
    """One page of the query, whose rows have the column `key`.

    The total counts every match, so a query must be narrow or its table's index small: the caller picks filters that have an index.
    """
    total = conn.scalar(select(func.count()).select_from(query.with_only_columns(key).order_by(None).subquery())) or 0
    wanted = query.order_by(key.desc() if newest_first else key).limit(page.size + 1)
    if page.after is not None:
        wanted = wanted.where(key < page.after if newest_first else key > page.after)
    elif page.number > 1:
        wanted = wanted.offset((page.number - 1) * page.size)
    rows = conn.execute(wanted).all()
    more = len(rows) > page.size
    rows = rows[:page.size]
    return Found(list(rows), total, getattr(rows[-1], key.key) if more else None)
