"""Users: people who sign in to the dashboard with a name and a password. Each belongs to one project and sees that one.

The password is stored as an Argon2id hash (RFC 9106), which relay.control.users makes. Names are unique in the whole store, without regard to letter case,
since they are typed before it is known whose project is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from relay.errors import Conflict, Invalid, NotFound
from relay.mail import ids
from relay.store.keys import PERMISSIONS
from relay.store.schema import users
from relay.store.upsert import insert

NAME = 128  # characters


@dataclass(frozen=True, slots=True)
class User:
    """`name` as it was given, `permission` as a key's, `password` the hash."""

    id: int
    project_id: int
    name: str
    permission: str
    password: str
    created_at: float
    signed_in_at: float | None = None

    @property
    def public_id(self) -> str:
        return ids.public("usr", self.id)


_COLUMNS = (users.c.id, users.c.project_id, users.c.name, users.c.permission, users.c.password, users.c.created_at, users.c.signed_in_at)


def key(name: str) -> str:
    """What two spellings of a name share."""
    return name.strip().casefold()


def checked(name: str, permission: str) -> None:
    """Raises Invalid for what no user can have."""
    if not name.strip() or len(name) > NAME or not name.isprintable():
        raise Invalid("name", f"a user's name is 1 to {NAME} printable characters, such as an email address")
    if permission not in PERMISSIONS:
        raise Invalid("permission", f"permission is one of {', '.join(PERMISSIONS)}")


def add(conn: Connection, user: User) -> User:
    """The new user; raises Conflict when somebody has the name."""
    statement = insert(conn, users).values(id=user.id, project_id=user.project_id, name=user.name, key=key(user.name), permission=user.permission,
                                           password=user.password, created_at=user.created_at)
    if conn.execute(statement.on_conflict_do_nothing(index_elements=["key"])).rowcount == 0:
        raise Conflict(f"the name {user.name} is taken")
    return user


def alive(conn: Connection, number: int) -> User | None:
    """The user as they are now, None once removed."""
    row = conn.execute(select(*_COLUMNS).where(users.c.id == number)).one_or_none()
    return None if row is None else User(*row)


def find(conn: Connection, name: str) -> User | None:
    """The user of this name in whatever project."""
    row = conn.execute(select(*_COLUMNS).where(users.c.key == key(name))).one_or_none()
    return None if row is None else User(*row)


def get(conn: Connection, project_id: int, name: str) -> User:
    """The project's user of this name or id (`usr_...`); raises NotFound."""
    number = ids.internal(name, "usr")
    wanted = users.c.key == key(name) if number is None else users.c.id == number
    row = conn.execute(select(*_COLUMNS).where(users.c.project_id == project_id, wanted)).one_or_none()
    if row is None:
        raise NotFound("there is no such user in this project; relay user list shows them")
    return User(*row)


def by_project(conn: Connection, project_id: int) -> Sequence[User]:
    """The project's users, oldest first."""
    return [User(*row) for row in conn.execute(select(*_COLUMNS).where(users.c.project_id == project_id).order_by(users.c.id))]


def set_password(conn: Connection, project_id: int, name: str, password: str) -> User:
    user = get(conn, project_id, name)
    conn.execute(update(users).where(users.c.id == user.id).values(password=password))
    return user


def signed_in(conn: Connection, number: int, now: float) -> None:
    conn.execute(update(users).where(users.c.id == number).values(signed_in_at=now))


def remove(conn: Connection, project_id: int, name: str) -> User:
    """The user who is gone; raises NotFound."""
    user = get(conn, project_id, name)
    conn.execute(delete(users).where(users.c.id == user.id))
    return user
