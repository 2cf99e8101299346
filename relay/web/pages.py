"""Pages for people who read mail: their words in five languages, and one plain frame that needs no script, no cookie and nothing from elsewhere."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "title": "Unsubscribe", "ask": "Do you want no more of these emails at {address}?", "act": "Unsubscribe",
        "done": "{address} is unsubscribed.", "undo": "That was a mistake, subscribe me again", "undone": "{address} is subscribed again.",
        "expired": "This link has expired. A newer email from the same sender has one that works.", "unknown": "This link is not valid.",
        "later": "This did not work just now. Please try again in a moment.",
    },
    "de": {
        "title": "Abmelden", "ask": "Möchten Sie diese E-Mails an {address} nicht mehr erhalten?", "act": "Abmelden",
        "done": "{address} ist abgemeldet.", "undo": "Das war ein Versehen, bitte wieder anmelden", "undone": "{address} ist wieder angemeldet.",
        "expired": "Dieser Link ist abgelaufen. Eine neuere E-Mail desselben Absenders enthält einen gültigen.", "unknown": "Dieser Link ist ungültig.",
        "later": "Das hat gerade nicht geklappt. Bitte versuchen Sie es gleich noch einmal.",
    },
    "fr": {
        "title": "Se désabonner", "ask": "Ne souhaitez-vous plus recevoir ces e-mails à {address} ?", "act": "Se désabonner",
        "done": "{address} est désabonné.", "undo": "C'était une erreur, réabonnez-moi", "undone": "{address} est de nouveau abonné.",
        "expired": "Ce lien a expiré. Un e-mail plus récent du même expéditeur en contient un valable.", "unknown": "Ce lien n'est pas valable.",
        "later": "Cela n'a pas fonctionné. Veuillez réessayer dans un instant.",
    },
    "es": {
        "title": "Darse de baja", "ask": "¿No desea recibir más estos correos en {address}?", "act": "Darse de baja",
        "done": "{address} se ha dado de baja.", "undo": "Fue un error, quiero suscribirme de nuevo", "undone": "{address} está suscrito de nuevo.",
        "expired": "Este enlace ha caducado. Un correo más reciente del mismo remitente contiene uno válido.", "unknown": "Este enlace no es válido.",
        "later": "No ha funcionado. Inténtelo de nuevo en un momento.",
    },
    "da": {
        "title": "Afmeld", "ask": "Vil du ikke længere modtage disse e-mails på {address}?", "act": "Afmeld",
        "done": "{address} er afmeldt.", "undo": "Det var en fejl, tilmeld mig igen", "undone": "{address} er tilmeldt igen.",
        "expired": "Linket er udløbet. En nyere e-mail fra samme afsender indeholder et gyldigt link.", "unknown": "Linket er ikke gyldigt.",
        "later": "Det lykkedes ikke. Prøv igen om et øjeblik.",
    },
}
DEFAULT = "en"
HEADERS = {
    "Cache-Control": "no-store", "X-Robots-Tag": "noindex, nofollow", "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
}

_FRAME = (
    '<!doctype html>\n<html lang="{language}">\n<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{title}</title>\n<style>body{{font:17px/1.5 system-ui,sans-serif;max-width:32em;margin:12vh auto;padding:0 1em;color:#222}}"
    "button{{font:inherit;padding:.6em 1.4em;border:0;border-radius:.4em;background:#1a56db;color:#fff;cursor:pointer}}"
    "button.quiet{{background:none;color:#1a56db;padding:0;text-decoration:underline}}footer{{margin-top:3em;color:#666;font-size:14px}}</style></head>\n"
    "<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n<footer>{footer}</footer>\n</body>\n</html>\n"
)


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


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def form(action: str, label: str, quiet: bool = False) -> str:
    """A button that posts; `action` is a path of ours."""
    kind = ' class="quiet"' if quiet else ""
    return f'<form method="post" action="{escape(action)}"><button{kind}>{escape(label)}</button></form>'


def page(language: str, title: str, body: str, footer: str = "", status: int = 200) -> HTMLResponse:
    """A whole page; `body` is HTML, `footer` text with line breaks."""
    lines = "<br>".join(escape(line) for line in footer.splitlines() if line)
    shown = language.partition("-")[0].lower() if language.partition("-")[0].lower() in WORDS else DEFAULT
    return HTMLResponse(_FRAME.format(language=shown, title=escape(title), body=body, footer=lines), status, HEADERS)
