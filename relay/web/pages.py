"""Pages for people who read mail: one plain frame that needs no script, no cookie and nothing from elsewhere; the words are in relay.words."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from starlette.responses import HTMLResponse

from relay.policy import Sender
from relay.words import WORDS

DEFAULT = "en"

_STYLE = (
    "body{font:17px/1.5 system-ui,sans-serif;max-width:32em;margin:10vh auto;padding:0 1em;color:#222;background:#fff}"
    "button{font:inherit;padding:.6em 1.4em;border:0;border-radius:.4em;background:#1a56db;color:#fff;cursor:pointer}"
    "button.quiet{background:none;color:#1a56db;padding:0;text-decoration:underline}form{margin:1.5em 0}a{color:#1a56db}"
    ":focus-visible{outline:3px solid #1a56db;outline-offset:3px}fieldset{border:0;margin:0 0 1em;padding:0}legend{padding:0;margin:0 0 .6em}"
    "label{display:block;margin:.6em 0;overflow-wrap:anywhere}label small{display:block;color:#555}label.beside{padding-left:1.7em;text-indent:-1.7em}"
    "label.beside small{text-indent:0}input[type=checkbox]{width:1.1em;height:1.1em;margin:0 .6em 0 0;vertical-align:-.15em}"
    "input:not([type=checkbox]),select{display:block;box-sizing:border-box;width:100%;font:inherit;padding:.4em;border:1px solid #666;border-radius:.3em}"
    ".away{position:absolute;left:-99em}[role=status]{border-left:.3em solid #1a7f37;padding-left:.7em}[role=alert]{border-left:.3em solid #b42318;"
    "padding-left:.7em}footer{margin-top:3em;color:#555;font-size:14px}"
)
_FRAME = (
    '<!doctype html>\n<html lang="{language}">\n<head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    f"<title>{{title}}</title>\n<style>{_STYLE.replace('{', '{{').replace('}', '}}')}</style></head>\n"
    "<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n<footer>{footer}</footer>\n</body>\n</html>\n"
)
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; form-action 'self'{{target}}; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex, nofollow", "X-Frame-Options": "DENY"}


def words(language: str) -> dict[str, str]:
    """The words of a language ("de", "de-AT"), English where it has none."""
    return WORDS.get(language.partition("-")[0].lower(), WORDS[DEFAULT])


def spoken(accepted: str) -> str:
    """The first language of an Accept-Language field that there are words for; for pages that know no project."""
    for part in accepted.split(","):
        language = part.partition(";")[0].strip().lower().partition("-")[0]
        if language in WORDS:
            return language
    return DEFAULT


def paragraph(text: str, role: str = "") -> str:
    """`role` "status" or "alert" has screen readers say it at once."""
    return f'<p role="{role}">{escape(text)}</p>' if role else f"<p>{escape(text)}</p>"


def link(path: str, text: str) -> str:
    """To a path of ours."""
    return f'<p><a href="{escape(path)}">{escape(text)}</a></p>'


def form(action: str, label: str, quiet: bool = False, fields: str = "") -> str:
    """What posts to `action`, a path of ours: `fields`, which is HTML, and a button."""
    kind = ' class="quiet"' if quiet else ""
    return f'<form method="post" action="{escape(action)}">{fields}<button{kind}>{escape(label)}</button></form>'


def footer(sender: Sender) -> str:
    """Who it is that writes."""
    return f"{sender.title}\n{sender.postal_address}"


def page(language: str, title: str, body: str, footer: str = "", status: int = 200, target: str = "") -> HTMLResponse:
    """A whole page.

    body    HTML
    footer  text with line breaks
    target  an origin, "https://example.com", that a form of the page may lead on to
    """
    lines = "<br>".join(escape(line) for line in footer.splitlines() if line)
    shown = language.partition("-")[0].lower() if language.partition("-")[0].lower() in WORDS else DEFAULT
    headers = {**HEADERS, "Content-Security-Policy": _POLICY.format(target=f" {target}" if target else "")}
    return HTMLResponse(_FRAME.format(language=shown, title=escape(title), body=body, footer=lines), status, headers)
