"""Links in HTML: the same as another parser finds, at exact offsets, in linear time."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from relay.mail import html

DOCUMENTS = {
    # id: document, targets
    "double quotes": (b'<a href="x">', ["x"]),
    "single quotes": (b"<A HREF='x'>", ["x"]),
    "unquoted": (b"<a href=x>", ["x"]),
    "unquoted with a slash": (b"<a href=x/>", ["x/"]),
    "unquoted with a quote": (b'<a href=a"b>', ['a"b']),
    "slash for a space": (b"<a/href=x>", ["x"]),
    "spaces and lines": (b'<a\r\n href\r\n =\t"x"\r\n>', ["x"]),
    "spaces in the value": (b'<a href=" \r\nx\r\ny ">', ["xy"]),
    "the first of two counts": (b'<a href="x" href="y">', ["x"]),
    "angle in another value": (b'<a title=">" rel=\'>\' href="x">', ["x"]),
    "stray quotes in names": (b"<a b'c d\"=1 href=x>", ["x"]),
    "stray equals sign": (b'<a ="x" href=y>', ["y"]),
    "map": (b'<area href="x">', ["x"]),
    "comment": (b'<!-- <a href="x"> --><a href=y>', ["y"]),
    "comment that ends at once": (b"<!--><a href=x>-->", ["x"]),
    "comment with a bang": (b"<!-- --!><a href=x>-->", ["x"]),
    "comment that never ends": (b"<!-- <a href=x>", []),
    "hidden from all but Outlook": (b'<!--[if mso]><a href="x"><![endif]--><a href=y>', ["y"]),
    "hidden from Outlook": (b'<!--[if !mso]><!--><a href="x"><!--<![endif]-->', ["x"]),
    "revealed conditional": (b'<![if !mso]><a href="x"><![endif]>', ["x"]),
    "processing instruction": (b"<?php <a href=x> ?><a href=y>", ["y"]),
    "script": (b'<script>"<a href=x>"</script><a href=y>', ["y"]),
    "style": (b"<style><a href=x></STYLE ><a href=y>", ["y"]),
    "title": (b"<title><a href=x></title><a href=y>", ["y"]),
    "textarea": (b"<textarea><a href=x></textareas></textarea><a href=y>", ["y"]),
    "script that never ends": (b"<script><a href=x>", []),
    "no tag": (b"1 < 2 <a href=x> <3 <", ["x"]),
    "end tags": (b"</a href=x></><a href=y></ <a href=z>", ["y"]),
    "tag that never ends": (b'<a href="x"', []),
    "quote that never ends": (b'<a href="x><a href=y>', []),
    "not a link": (b'<link href="x"><img src="y"><abbr href="z">', []),
    "references": (b'<a href="?a=1&amp;b=2&copy=3&not=4&lt;&#38;&#x26;&hellip;">', ["?a=1&b=2&copy=3&not=4<&&…"]),
}


@pytest.mark.parametrize(("document", "targets"), DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_links(document, targets):
    found = [html.target(document[link.start:link.end].decode()) for link in html.scan(document).links]
    assert found == targets


def lexbor(document):
    nodes = LexborHTMLParser(document).css("a[href], area[href]")
    return [html.target((node.attributes["href"] or "").replace("&", "&amp;")) for node in nodes]


PIECES = ["<a ", "<a/", "<area ", "<p ", "<b>", "</a>", ">", 'href="x"', "href='y&amp;z'", "href=w", "href", "=", '"', "'", " ", "\n", "/", "<!--", "-->",
          "<!", "<?", "&copy=1", "&copy;", "<script>", "</script>", "<style>", "</style ", "<textarea>", "</textarea>", "<title>",
          "</title>", "text", "<", "!", "-", "1", "title='>'", "é"]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@example("<a/href=x><a href='y'>")
def test_the_same_links_as_another_parser(document):
    """Elements that a tree builder drops or doubles (a in a, a in title) are no business of ours, so the sets are compared."""
    octets = document.encode()
    ours = {html.target(octets[link.start:link.end].decode()) for link in html.scan(octets).links} - {""}
    assert ours == set(lexbor(document)) - {""}


REFERENCES = ["&amp;", "&copy=1", "&copy", "&copyx", "&copy;=1", "&notit;", "&not", "&#38;", "&#x26;x", "&ampx", "&&amp;", "&#0;", "&#128;", "&#xD800;",
              "&ngE;x", "&acE;", "&;", "&#;",
              "&#x;", "&#99999999;", "&CounterClockwiseContourIntegral;"]


@pytest.mark.parametrize("value", REFERENCES)
def test_references_are_read_as_a_browser_does(value):
    node = LexborHTMLParser(f'<a href="{value}">').css_first("a")
    assert html.target(value) == html.target(node.attributes["href"].replace("&", "&amp;"))


@pytest.mark.parametrize(("document", "end"), [
    (b"<html><body>x</body></html>", 13), (b"x</html>y", 1), (b"xyz\r\n \r\n", 3), (b"<!-- </body> -->x</BODY >y", 17),
    (b"<script></body></script>x", 25), (b"a</body>b</body>", 9),
], ids=["body", "html", "neither", "comment", "script", "two"])
def test_where_the_body_ends(document, end):
    assert html.scan(document).end == end


@given(st.binary(max_size=200))
def test_any_octets_give_offsets_inside(document):
    page = html.scan(document)
    assert 0 <= page.end <= len(document)
    for link in page.links:
        assert 0 <= link.tag < link.start <= link.end <= len(document)
        html.target(document[link.start:link.end].decode("latin-1"))


@pytest.mark.parametrize("evil", [
    b"<" * 500_000, b"<a " * 100_000, b"<a href='" * 50_000, b"<!--" * 100_000, b"<script>" * 50_000, b"<a b" + b" " * 500_000, b"</" * 200_000,
    b"<a " + b"/" * 500_000, b"<a " + b"=" * 200_000, b"<a x \n" * 50_000, b"<title></titl" * 50_000, b"<a href" + b" = " * 50_000,
], ids=lambda evil: repr(evil[:9]))
def test_it_is_linear(evil):
    start = time.thread_time()
    html.scan(evil)
    once = time.thread_time() - start
    assert once < 1.0  # 0.1 s of the processor's time here; anything quadratic takes minutes
