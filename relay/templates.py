"""What users write with {{ variables }}: checked when saved, rendered when sent, in Liquid (https://shopify.github.io/liquid/).

    {{ name }}   {{ name | default: "friend" }}   {% if plan == "pro" %}...{% endif %}   {% for item in items %}...{% endfor %}   {{ properties.plan }}

In HTML every value is escaped, in text and subject none is. Templates come from tenants, so a render has bounds on its output, its loops and its memory, and
can read nothing but the variables it is given; include and render are not known. Handlebars looks much the same and means other things: its blocks are
refused with the Liquid that says the same, rather than sent as they stand. {{ name ?? friend }}, as Plunk's users write, is translated: the default's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from liquid import BoundTemplate, Environment, Node, RenderContext, escape
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.output import OutputNode
from liquid.exceptions import LiquidError

from relay.errors import Invalid
from relay.mail.mime import Texts

OUTPUT = 10_000_000  # bytes of a rendered text
LOOPS = 20_000  # iterations of all loops of a render
MEMORY = 2_000_000  # bytes of variables that a template assigns
SOURCE = 2_000_000  # characters of a template's text
COMPILED = 256  # texts kept compiled
LATER = {name: f"{{{{{name}}}}}" for name in ("unsubscribe_url", "preferences_url")}  # known when the copy is made: left as the copy policies look for it
LINKS = {**LATER, "unsubscribeUrl": LATER["unsubscribe_url"], **dict.fromkeys(("subscribeUrl", "manageUrl"), LATER["preferences_url"])}  # and Plunk's names
GIVEN = frozenset((*LINKS, "properties"))  # names that Relay fills in itself

_FALLBACK = re.compile(r"\{\{(-?)([^{}|?]+)\?\?([^{}]*?)(-?)\}\}")
_HANDLEBARS = re.compile(r"\{\{\{|\{\{[~]?\s*(?:[#/>^&!]|else\b)")
_INSTEAD = ("this is Handlebars; Relay's templates are Liquid: {% if x %}...{% endif %} for {{#if x}}, "
            "{% for item in items %}...{% endfor %} for {{#each items}}")


class _Bounded(Environment):
    output_stream_limit = OUTPUT
    loop_iteration_limit = LOOPS
    local_namespace_limit = MEMORY


def _environment(autoescape: bool) -> Environment:
    environment = _Bounded(autoescape=autoescape)
    for tag in ("include", "render"):
        del environment.tags[tag]
    return environment


_HTML, _TEXT = _environment(True), _environment(False)


@lru_cache(maxsize=COMPILED)  # a letter to many is looked through once, not for each reader
def compiled(field: str, source: str) -> BoundTemplate:
    """The template ready to render; raises Invalid(field) saying what is wrong and where."""
    if len(source) > SOURCE:
        raise Invalid(field, f"{field} has more than {SOURCE} characters")
    odd = _HANDLEBARS.search(source)
    if odd is not None:
        raise Invalid(field, f"{field}, line {source.count(chr(10), 0, odd.start()) + 1}: {source[odd.start():odd.start() + 20]!r}: {_INSTEAD}")
    try:
        return (_HTML if field == "html" else _TEXT).from_string(_FALLBACK.sub(_default, source))
    except (LiquidError, RecursionError) as error:
        raise Invalid(field, f"{field} is not a template: {_said(error)}") from None


def _default(found: re.Match[str]) -> str:
    """`{{ key ?? fallback }}` in Liquid: the fallback is a text, with or without quotation marks; Liquid knows no way to have both kinds in one."""
    opened, name, text, closed = (part.strip() for part in found.groups())
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
    mark = "'" if '"' in text else '"'
    text = text.replace(mark, "\u2019")
    return f"{{{{{opened} {name} | default: {mark}{text}{mark}, allow_false: true {closed}}}}}"


def _said(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300] or type(error).__name__


def variables(texts: Texts) -> list[str]:
    """The names that the texts want from outside, sorted; raises Invalid for a text that is no template."""
    names: set[str] = set()
    for field, source in texts.each():
        found = compiled(field, source).analyze()
        unknown = [name for name in found.filters if name not in _TEXT.filters]
        if unknown:
            raise Invalid(field, f"{field} uses a filter that there is not: {unknown[0]}")
        names.update(str(name) for name in found.globals)
    return sorted(names - GIVEN)


def render(texts: Texts, values: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> Texts:
    """The texts with the values in place; a name without one gives nothing.

    values  what the caller sent; also there as `properties.x`
    given   what Relay fills in: unsubscribe_url and the like

    Raises Invalid naming the text at fault.
    """
    context = {"properties": values, **values, **(given or {})}
    return Texts(**{field: _one(field, source, context) for field, source in texts.each()})


def _one(field: str, source: str, context: Mapping[str, Any]) -> str:
    if "{" not in source:
        return source
    try:
        template, pieces = compiled(field, source), _pieces(field, source)
        found = _filled(template, pieces, context) if pieces else ""
        return found if found and len(found) * 4 <= OUTPUT else template.render(context)
    except (LiquidError, RecursionError) as error:
        raise Invalid(field, f"{field} cannot be rendered: {_said(error)}") from None


# A letter to many is mostly words that never change and names whose values are texts: those are put together here, and Liquid is asked for the rest.

_TAG = re.compile(r"\{%-?\s*(\w*)")
_QUIET = {"if", "elsif", "else", "endif", "unless", "endunless"}  # tags that change nothing for what comes after them
_OWN = {"partial", "size", "first", "last"}  # names that Liquid answers itself

_Piece = str | tuple[Node, tuple[str, ...]]


@lru_cache(maxsize=COMPILED)
def _pieces(field: str, source: str) -> tuple[_Piece, ...]:
    """What a template is made of: texts, and nodes with the path of the value that each shows where it is a text, () for others; nothing if order matters."""
    if any(tag not in _QUIET for tag in _TAG.findall(source)):
        return ()
    return tuple(node.text if isinstance(node, ContentNode) else (node, _path(node)) for node in compiled(field, source).nodes)


def _path(node: Node) -> tuple[str, ...]:
    """The path that an output shows, which may have a default; () when there is more to it."""
    if not isinstance(node, OutputNode) or not isinstance(shown := node.expression, FilteredExpression) or not isinstance(shown.left, Path):
        return ()
    path = tuple(shown.left.path)
    plain = all(isinstance(name, str) and name not in _OWN for name in path) and all(each.name == "default" for each in shown.filters or ())
    return path if plain else ()  # type: ignore[return-value]


def _filled(template: BoundTemplate, pieces: tuple[_Piece, ...], context: Mapping[str, Any]) -> str:
    """The text with the values of a context in place; raises LiquidError."""
    out: list[str] = []
    scope = None
    for piece in pieces:
        if type(piece) is str:
            out.append(piece)
            continue
        node, path = piece
        value: Any = context
        for name in path:
            value = value.get(name) if type(value) is dict else None
        if type(value) is str and not value.isspace() and value:
            out.append(escape(value) if template.env.autoescape else value)
            continue
        if scope is None:
            scope = RenderContext(template, globals=template.make_globals({**context, "partial": False}))
        buffer = template._get_buffer()
        node.render(scope, buffer)
        out.append(buffer.getvalue())
    return "".join(out)


def missing(texts: Texts, values: Mapping[str, Any]) -> list[str]:
    """The names that the texts want and the values do not have."""
    return [name for name in variables(texts) if name not in values]
