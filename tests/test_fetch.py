"""fetch: bounded, redirected only where that is asked for, and not sent where a stranger's URL must not lead. A real server on loopback answers."""

import asyncio

import pytest
from aiohttp import web

from relay import fetch
from relay.fetch import Fetch


@pytest.fixture
async def server():
    """An HTTP server on 127.0.0.1; gives its URL and the list of paths that were asked for."""
    asked = []

    async def answer(request):
        asked.append(request.path)
        if request.path == "/echo":
            return web.Response(body=await request.read(), headers={"X-Seen": request.headers.get("X-Test", "")})
        if request.path == "/away":
            raise web.HTTPFound("/echo")
        if request.path == "/round":
            raise web.HTTPFound("/round")
        if request.path == "/onward":
            raise web.HTTPTemporaryRedirect(request.query["to"])
        if request.path == "/huge":
            return web.Response(body=b"x" * (fetch.LIMIT + 1))
        if request.path == "/limit":
            return web.Response(body=b"x" * fetch.LIMIT)
        await asyncio.Event().wait()

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


@pytest.fixture
async def open_client():
    client = Fetch(allow_private=True)
    yield client
    await client.close()


@pytest.fixture
async def guarded():
    client = Fetch()
    yield client
    await client.close()


async def test_body_and_status_come_back(server, open_client):
    body = bytes(range(256)) * 4_096
    assert await open_client.post(f"{server[0]}/echo", body, {"X-Test": "1"}, 5.0) == (200, body)
    assert await open_client.get(f"{server[0]}/echo", {}, 5.0) == (200, b"")


async def test_a_redirect_is_an_answer_and_not_an_order(server, open_client):
    status, _ = await open_client.get(f"{server[0]}/away", {}, 5.0)
    assert status == 302
    assert server[1] == ["/away"]


async def test_redirects_are_followed_so_often_as_is_asked_for(server, open_client):
    assert (await open_client.request("POST", f"{server[0]}/away", b"body", {}, 5.0, 5)) == (200, b"")  # a GET, as a browser does
    assert (await open_client.request("GET", f"{server[0]}/round", None, {}, 5.0, 2))[0] == 302
    assert server[1] == ["/away", "/echo", "/round", "/round", "/round"]


async def test_a_redirect_keeps_the_body_where_it_must(server, open_client):
    assert await open_client.request("POST", f"{server[0]}/onward?to=/echo", b"body", {"X-Test": "1"}, 5.0, 1) == (200, b"body")


GIVEN = {"X-Key": "secret", "Content-Type": "text/plain", "Idempotency-Key": "1"}
ALL, NO_BODY, ANYWHERE = {*GIVEN}, {"X-Key", "Idempotency-Key"}, {"Content-Type", "Idempotency-Key"}


@pytest.mark.parametrize(("status", "method", "place", "expected"), [
    pytest.param(301, "POST", "/y", ("GET", "https://a.example/y", None, NO_BODY), id="moved, a POST"),
    pytest.param(302, "POST", "y?z=1#part", ("GET", "https://a.example/y?z=1", None, NO_BODY), id="found, a POST"),
    pytest.param(302, "PUT", "/y", ("PUT", "https://a.example/y", b"body", ALL), id="found, a PUT"),
    pytest.param(303, "PUT", "/y", ("GET", "https://a.example/y", None, NO_BODY), id="see other"),
    pytest.param(307, "POST", "/y", ("POST", "https://a.example/y", b"body", ALL), id="temporary"),
    pytest.param(308, "POST", "//b.example/y", ("POST", "https://b.example/y", b"body", ANYWHERE), id="permanent, another host"),
    pytest.param(307, "POST", "https://a.example:444/", ("POST", "https://a.example:444/", b"body", ANYWHERE), id="another port"),
])
def test_what_a_redirect_asks_for(status, method, place, expected):
    asked = fetch.onward(status, place, method, "https://a.example/x", b"body", GIVEN)
    assert (*asked[:3], {name for name, _ in asked[3]}) == expected


@pytest.mark.parametrize("place", ["http://a.example/y", "file:///etc/passwd", "javascript:alert(1)", "ftp://a.example/"])
def test_where_a_redirect_does_not_lead(place):
    with pytest.raises(OSError, match="not gone to"):
        fetch.onward(302, place, "GET", "https://a.example/x", None, {})


async def test_an_answer_may_be_large_but_not_endless(server, open_client):
    assert (await open_client.get(f"{server[0]}/limit", {}, 5.0))[1] == b"x" * fetch.LIMIT
    with pytest.raises(OSError, match="more than"):
        await open_client.get(f"{server[0]}/huge", {}, 5.0)


async def test_a_hanging_server_costs_the_timeout_and_no_more(server, open_client):
    with pytest.raises(TimeoutError):
        await open_client.get(f"{server[0]}/hang", {}, 0.2)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]"])
async def test_our_own_machine_is_not_asked_for_a_stranger(server, guarded, host):
    url, asked = server
    with pytest.raises(OSError, match=r".") as caught:
        await guarded.get(url.replace("127.0.0.1", host) + "/echo", {}, 5.0)
    assert not isinstance(caught.value, TimeoutError)
    assert asked == []


@pytest.mark.parametrize("url", ["", "ftp://example.com/", "file:///etc/passwd", "http://", "http://[::1", "https://exa mple.example/", "unix:///x", "http://a:b:c/"])
async def test_what_is_no_url_is_an_oserror(guarded, url):
    with pytest.raises(OSError, match=r"."):
        await guarded.get(url, {}, 5.0)


async def test_a_closed_port_is_an_oserror(open_client):
    with pytest.raises(OSError, match=r"."):
        await open_client.get("http://127.0.0.1:1/", {}, 5.0)


async def test_a_header_with_a_line_break_is_an_oserror(server, open_client):
    with pytest.raises(OSError, match=r"."):
        await open_client.get(f"{server[0]}/echo", {"X-Test": "a\r\nX-Evil: b"}, 5.0)
    assert server[1] == []


ADDRESSES = {
    "8.8.8.8": False, "2606:4700::1111": False, "127.0.0.1": True, "127.255.0.1": True, "0.0.0.0": True, "10.1.2.3": True, "172.16.0.1": True,
    "192.168.1.1": True, "169.254.169.254": True, "100.64.0.1": True, "192.0.0.1": True, "198.18.0.1": True,
    "224.0.0.1": True, "255.255.255.255": True, "192.0.2.1": True,
    "::1": True, "::": True, "fe80::1%eth0": True, "fc00::1": True, "ff02::1": True, "::ffff:10.0.0.1": True, "::ffff:8.8.8.8": False, "64:ff9b::a00:1": True,
    "2002:a00:1::": True, "2001:db8::1": True, "2001::1": True, "::127.0.0.1": True, "fec0::1": True,
}


@pytest.mark.parametrize(("address", "expected"), ADDRESSES.items())
def test_which_addresses_are_private(address, expected):
    assert fetch.private(address) is expected
