"""Connections and bytes that are given out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.limits import Budget, Connections


def test_bytes_are_given_out_up_to_the_limit():
    budget = Budget(100)
    assert budget.take(60)
    assert not budget.take(41)
    assert budget.take(40)
    budget.give(60)
    assert budget.take(60)


def test_unknown_clients_are_bounded_by_address():
    doors = Connections(100, per_address=2)
    assert [doors.admit("a", False, False) for _ in range(3)] == [None, None, "address"]
    assert doors.admit("b", False, False) is None
    doors.proved("a", False)
    assert doors.admit("a", False, False) is None


def test_shared_addresses_and_known_clients_are_not_bounded_by_address():
    doors = Connections(100, per_address=2)
    assert all(doors.admit("gateway", False, True) is None for _ in range(10))
    assert all(doors.admit("trusted", True, False) is None for _ in range(10))


def test_a_tenth_is_kept_for_known_clients():
    doors = Connections(20, per_address=50)
    assert [doors.admit(str(n), False, False) for n in range(19)] == [None] * 18 + ["reserve"]
    assert [doors.admit(str(n), True, False) for n in range(3)] == [None, None, "total"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans(), st.booleans())))
def test_everything_is_given_back(clients: list[tuple[str, bool, bool, bool]]):
    doors = Connections(10, per_address=3)
    inside = []
    for address, known, exempt, proves in clients:
        if doors.admit(address, known, exempt) is None:
            if proves and not known:
                doors.proved(address, exempt)
            inside.append((address, known or proves, exempt))
        assert doors.open <= 10
    for client in inside:
        doors.leave(*client)
    assert (doors.open, doors.unknown, doors.by_address) == (0, 0, {})
