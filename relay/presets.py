"""Templates to begin with: a row each, plain enough for every mail program, with a text part."""

from __future__ import annotations

from dataclasses import dataclass

from relay.mail.mime import Texts


@dataclass(frozen=True, slots=True)
class Preset:
    """`id` as the API names it."""

    id: str
    name: str
    description: str
    texts: Texts


_PAGE = ('<!doctype html>\n<html><body style="margin:0;padding:24px;font-family:sans-serif;font-size:16px;line-height:1.5;color:#222">\n'
         '<div style="max-width:560px;margin:0 auto">\n{}\n</div>\n</body></html>\n')
_BUTTON = '<p><a href="{}" style="display:inline-block;padding:12px 20px;background:#1a56db;color:#fff;text-decoration:none;border-radius:6px">{}</a></p>'


def _preset(name: str, title: str, description: str, subject: str, html: str, text: str) -> Preset:
    return Preset(name, title, description, Texts(subject, _PAGE.replace("{}", html), text))


_ALL = (
    _preset(
        "welcome", "Welcome", "The first mail after signing up", "Welcome to {{ product }}, {{ name | default: 'friend' }}",
        "<h1>Welcome, {{ name | default: 'friend' }}!</h1>\n<p>It is good to have you at {{ product }}.</p>\n"
        + _BUTTON.format("{{ action_url }}", "Get started"),
        "Welcome, {{ name | default: 'friend' }}!\n\nIt is good to have you at {{ product }}.\n\nGet started: {{ action_url }}\n"),
    _preset(
        "password-reset", "Password reset", "A link to set a new password", "Reset your {{ product }} password",
        "<p>Hello {{ name | default: 'there' }},</p>\n<p>somebody, probably you, asked to reset the password of your {{ product }} account. "
        "If it was not you, nothing has changed and you can delete this mail.</p>\n" + _BUTTON.format("{{ action_url }}", "Set a new password"),
        "Hello {{ name | default: 'there' }},\n\nsomebody, probably you, asked to reset the password of your {{ product }} account. If it was not you, "
        "nothing has changed and you can delete this mail.\n\nSet a new password: {{ action_url }}\n"),
    _preset(
        "receipt", "Receipt", "What was bought, and for how much", "Your receipt from {{ product }}",
        "<h1>Thank you, {{ name | default: 'friend' }}</h1>\n<table>\n{% for item in items %}<tr><td>{{ item.name }}</td><td>{{ item.price }}</td></tr>\n"
        "{% endfor %}</table>\n<p><strong>Total: {{ total }}</strong></p>",
        "Thank you, {{ name | default: 'friend' }}\n\n{% for item in items %}{{ item.name }}  {{ item.price }}\n{% endfor %}\nTotal: {{ total }}\n"),
    _preset(
        "verification", "Address verification", "A code that proves an address", "{{ code }} is your {{ product }} code",
        "<p>Your code is</p>\n<p style=\"font-size:32px;letter-spacing:4px\"><strong>{{ code }}</strong></p>\n"
        "<p>It is good for {{ minutes | default: 10 }} minutes. "
        "Nobody from {{ product }} will ever ask you for it.</p>",
        "Your code is {{ code }}\n\nIt is good for {{ minutes | default: 10 }} minutes. Nobody from {{ product }} will ever ask you for it.\n"),
)
PRESETS = {preset.id: preset for preset in _ALL}
