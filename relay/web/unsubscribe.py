"""/u/TOKEN: leaving a list (RFC 8058, RFC 2369). GET asks and never acts, because mail scanners follow links; POST acts at once.

    GET  /u/TOKEN        200 a page with a button, 410 the link has expired, 404 it is not ours
    POST /u/TOKEN        200 done, and a second time too: no cookie, no redirect, nothing to type
    POST /u/TOKEN/undo   200 the person takes it back

The mail program's one-click POST and the page's button are the same request. Its body is read and not looked at: RFC 8058 wants
`List-Unsubscribe=One-Click` in it, and a person who wants out gets out without it. Pages speak the language of the contact, else of the project.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay import consent
from relay.consent import Done
from relay.metrics import LEFT
from relay.store.recipients import Addressee, get
from relay.web import pages, people
from relay.web.people import People

ONE_CLICK = 1_000  # octets of a body in which the mark of a mail program is looked for


@dataclass(frozen=True, slots=True)
class Leaving:
    """The routes."""

    people: People

    def routes(self) -> list[Route]:
        guarded = self.people.guarded
        return [
            Route("/u/{token}", guarded(self.ask), methods=["GET"]),
            Route("/u/{token}", guarded(self.leave), methods=["POST"]),
            Route("/u/{token}/undo", guarded(self.undo), methods=["POST"]),
        ]

    async def ask(self, request: Request, number: int) -> Response:
        addressee = await self.people.store.read(get, number)
        if await self.people.store.read(consent.unsubscribed, number, self.people.native):
            return await self._said(request, addressee, "done", "undo")
        sender = await self.people.sender(addressee)
        said = pages.words(sender.language)
        body = pages.paragraph(said["ask"].format(address=addressee.address)) + pages.form(_path(request), said["act"])
        return pages.page(sender.language, said["title"], body + _more(request, said), pages.footer(sender))

    async def leave(self, request: Request, number: int) -> Response:
        act = self.people.act(request, await _way(request))
        done: Done = await self.people.store.write(consent.unsubscribe, number, self.people.native, act, self.people.maker)
        self.people.acted(done.stopped)
        if done.new:
            LEFT.labels(act.source).inc()
        return await self._said(request, done.addressee, "done", "undo")

    async def undo(self, request: Request, number: int) -> Response:
        done: Done = await self.people.store.write(consent.resubscribe, number, self.people.native, self.people.act(request, "page"))
        self.people.acted(())
        return await self._said(request, done.addressee, "undone", "")

    async def _said(self, request: Request, addressee: Addressee, text: str, further: str) -> Response:
        sender = await self.people.sender(addressee)
        said = pages.words(sender.language)
        body = pages.paragraph(said[text].format(address=addressee.address), "status")
        if further:
            body += pages.form(f"{_path(request)}/{further}", said[further], quiet=True)
        return pages.page(sender.language, said["title"], body + _more(request, said), pages.footer(sender))


async def _way(request: Request) -> str:
    """ "one-click" for a mail program, "page" for the button. """
    return "one-click" if b"List-Unsubscribe=One-Click" in (await people.body(request, ONE_CLICK) or b"") else "page"


def _path(request: Request) -> str:
    return f"/u/{request.path_params['token']}"


def _more(request: Request, said: dict[str, str]) -> str:
    """The way to the choice between topics."""
    return pages.link(f"/p/{request.path_params['token']}", said["preferences"])
