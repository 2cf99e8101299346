"""/u/TOKEN: leaving a list (RFC 8058, RFC 2369). GET asks and never acts, because mail scanners follow links; POST acts at once.

    GET  /u/TOKEN        200 a page with a button, 410 the link has expired, 404 it is not ours
    POST /u/TOKEN        200 done, and a second time too: no cookie, no redirect, nothing to type
    POST /u/TOKEN/undo   200 the person takes it back

The mail program's one-click POST and the page's button are the same request. Its body is read and not looked at: RFC 8058 wants
`List-Unsubscribe=One-Click` in it, and a person who wants out gets out without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay import consent
from relay.clock import Clock
from relay.consent import Act, Done
from relay.errors import Expired, NotFound, RelayError
from relay.mail.ids import Maker
from relay.mail.tokens import ID, UNSUBSCRIBE, unpack
from relay.policy import Sender, Senders, Tokens
from relay.store.engine import Store
from relay.store.recipients import get
from relay.web import pages

Forget = Callable[[Iterable[int]], None]


@dataclass(slots=True)
class Leaving:
    """What the pages need of a relay.

    native  settings.suppress.unsubscribe
    forget  tells the runner whose copies no longer wait
    """

    store: Store
    tokens: Tokens
    senders: Senders
    clock: Clock
    maker: Maker
    native: str
    forget: Forget

    def routes(self) -> list[Route]:
        return [
            Route("/u/{token}", self._guarded(self.ask), methods=["GET"]),
            Route("/u/{token}", self._guarded(self.leave), methods=["POST"]),
            Route("/u/{token}/undo", self._guarded(self.undo), methods=["POST"]),
        ]

    def _guarded(self, act: Callable[[Request, int], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The route, with what is wrong with a link said on a page."""

        async def route(request: Request) -> Response:
            try:
                return await act(request, self._number(request))
            except Expired:
                return _sorry(request, "expired", 410)
            except NotFound:
                return _sorry(request, "unknown", 404)
            except RelayError:
                return _sorry(request, "later", 503)

        return route

    def _number(self, request: Request) -> int:
        """The recipient that the token names; raises NotFound or Expired."""
        data = self.tokens.read(UNSUBSCRIBE, request.path_params["token"])
        if len(data) < ID:
            raise NotFound("this link is not one of ours")
        return unpack(data)[0]

    async def ask(self, request: Request, number: int) -> Response:
        addressee = await self.store.read(get, number)
        sender = await self.senders.of(addressee.project_id)
        said = pages.words(sender.language)
        if await self.store.read(consent.unsubscribed, number, self.native):
            return self._said(request, sender, said["done"], addressee.address, "undo")
        body = pages.paragraph(said["ask"].format(address=addressee.address)) + pages.form(_path(request), said["act"])
        return pages.page(sender.language, said["title"], body, _footer(sender))

    async def leave(self, request: Request, number: int) -> Response:
        done: Done = await self.store.write(consent.unsubscribe, number, self.native, self._act(request, await _way(request)), self.maker)
        self.forget(done.stopped)
        sender = await self.senders.of(done.addressee.project_id)
        return self._said(request, sender, pages.words(sender.language)["done"], done.addressee.address, "undo")

    async def undo(self, request: Request, number: int) -> Response:
        done: Done = await self.store.write(consent.resubscribe, number, self.native, self._act(request, "page"))
        sender = await self.senders.of(done.addressee.project_id)
        return self._said(request, sender, pages.words(sender.language)["undone"], done.addressee.address, "")

    def _act(self, request: Request, source: str) -> Act:
        client = request.client.host if request.client else ""
        return Act(source, client, request.headers.get("user-agent", ""), self.clock.now())

    @staticmethod
    def _said(request: Request, sender: Sender, text: str, address: str, further: str) -> Response:
        said = pages.words(sender.language)
        body = pages.paragraph(text.format(address=address))
        if further:
            body += pages.form(f"{_path(request)}/{further}", said[further], quiet=True)
        return pages.page(sender.language, said["title"], body, _footer(sender))


async def _way(request: Request) -> str:
    """ "one-click" for a mail program, "page" for the button. """
    body = await request.body()
    return "one-click" if b"List-Unsubscribe=One-Click" in body[:1_000] else "page"


def _path(request: Request) -> str:
    return f"/u/{request.path_params['token']}"


def _footer(sender: Sender) -> str:
    return f"{sender.title}\n{sender.postal_address}"


def _sorry(request: Request, what: str, status: int) -> Any:
    language = pages.spoken(request.headers.get("accept-language", ""))
    said = pages.words(language)
    return pages.page(language, said["title"], pages.paragraph(said[what]), status=status)
