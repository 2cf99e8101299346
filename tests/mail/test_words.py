"""Encoded words that mean no text."""

import pytest

from relay.mail.words import decode


@pytest.mark.parametrize(("written", "read"), [
    pytest.param("=?utf-7?q?+2AA-?=", "?", id="half-a-character"),  # which neither JSON nor a database takes
    pytest.param("=?no-such?q?x?=", "=?no-such?q?x?=", id="unknown-charset"),
])
def test_words_that_mean_nothing(written, read):
    assert decode(written) == read
