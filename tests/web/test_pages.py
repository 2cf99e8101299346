"""The frame of pages for people, and that every language can say everything."""

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from policies import unsubscribe
from relay.policy import LANGUAGES
from relay.web import pages
from relay.words import WORDS


def test_the_languages_of_pages_footers_and_contacts_are_the_same():
    assert set(WORDS) == set(LANGUAGES) == set(unsubscribe.WORDS)


@pytest.mark.parametrize("language", sorted(WORDS))
def test_every_language_says_everything_with_the_same_blanks(language):
    def blanks(words):
        return {key: re.findall(r"\{\w+\}", text) for key, text in words.items()}

    assert blanks(WORDS[language]) == blanks(WORDS["en"])
    assert all(WORDS[language].values())


def test_only_the_style_of_the_page_itself_is_allowed():
    page = pages.page("en", "T", "<p>x</p>")
    style = re.search(rb"<style>(.*)</style>", page.body, re.DOTALL)[1]
    policy = page.headers["content-security-policy"]
    assert f"style-src 'sha256-{b64encode(sha256(style).digest()).decode()}'" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert b"{" in style
    assert b"{{" not in style


@pytest.mark.parametrize(("accepted", "language"), [
    ("de-AT,de;q=0.9,en;q=0.5", "de"), ("pt-BR,fr;q=0.8", "fr"), ("", "en"), ("*", "en"), ("xx", "en"),
])
def test_the_visitors_language(accepted, language):
    assert pages.spoken(accepted) == language


def test_what_people_wrote_is_text_on_a_page():
    body = pages.page("en", "<b>", pages.paragraph("<script>"), footer="<i>\n&").body
    assert b"<script>" not in body
    assert b"<title>&lt;b&gt;</title>" in body
    assert b"&lt;i&gt;<br>&amp;" in body
