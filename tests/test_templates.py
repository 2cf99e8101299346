"""Templates: what Liquid means here, what is refused, and that no template can take the relay with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import presets, templates
from relay.errors import Invalid
from relay.mail.mime import Texts


def html(source, **values):
    return templates.render(Texts("S", source), values).html


@pytest.mark.parametrize(("source", "values", "said"), [
    pytest.param("{{ name }}", {"name": "<b>&\"'"}, "&lt;b&gt;&amp;&#34;&#39;", id="escaped in HTML"),
    pytest.param("{{ name | safe }}", {"name": "<b>"}, "<b>", id="safe on purpose"),
    pytest.param("{{ missing }}", {}, "", id="nothing for a name without a value"),
    pytest.param('{{ name | default: "friend" }}', {}, "friend", id="default"),
    pytest.param("{% if plan == 'pro' %}a{% else %}b{% endif %}", {"plan": "pro"}, "a", id="if"),
    pytest.param("{% for i in items %}{{ i.n }},{% endfor %}", {"items": [{"n": 1}, {"n": 2}]}, "1,2,", id="for"),
    pytest.param("{{ properties.plan }}", {"plan": "pro"}, "pro", id="as a property"),
    pytest.param("{{ a.b.c }}", {"a": {"b": {"c": 7}}}, "7", id="nested"),
    pytest.param("{{ name ?? friend }}", {}, "friend", id="Plunk's default"),
    pytest.param("{{name??'my friend'}}", {"name": ""}, "my friend", id="Plunk's default in quotation marks"),
    pytest.param("{{- a.b ?? it's -}} x", {"a": {"b": "<b>"}}, "&lt;b&gt;x", id="Plunk's default of what is there"),
    pytest.param("{{ n ?? 7 }}{{ no ?? 7 }}", {"n": 0, "no": False}, "0false", id="Plunk's default of what is false"),
    pytest.param("no variables", {}, "no variables", id="plain"),
])
def test_rendering(source, values, said):
    assert html(source, **values) == said


def test_text_and_subject_are_not_escaped():
    done = templates.render(Texts("{{ a }}", None, "{{ a }}"), {"a": "<&>"})
    assert (done.subject, done.text) == ("<&>", "<&>")


def test_variables_are_those_wanted_from_outside():
    texts = Texts("{{ a }}", "{% assign b = c %}{{ b }}{% for d in e %}{{ d }}{% endfor %}{{ unsubscribe_url }}{{ properties.f }}")
    assert templates.variables(texts) == ["a", "c", "e"]
    assert templates.missing(texts, {"a": 1, "c": None}) == ["e"]


@pytest.mark.parametrize("source", [
    "{{#if a}}", "{{/if}}", "{{#each a}}", "{{else}}", "{{^a}}", "{{> partial}}", "{{{a}}}", "{{!-- x --}}", "{{~#if a}}", "{% if %}", "{{",
    "{% include 'a' %}", "{% render 'a' %}", "{% nosuch %}", "{{ a | nosuch }}", "{% for a in b %}", "x" * (templates.SOURCE + 1),
])
def test_refused_by_name(source):
    with pytest.raises(Invalid) as refused:
        templates.variables(Texts("S", source))
    assert refused.value.field == "html"


@pytest.mark.parametrize("source", [
    pytest.param("{% for a in (1..1000000000) %}x{% endfor %}", id="a loop"),
    pytest.param("{% for a in (1..9999) %}{% for b in (1..9999) %}x{% endfor %}{% endfor %}", id="loops in loops"),
    pytest.param("{% assign a = 'x' %}" + "{% assign a = a | append: a %}" * 40 + "{{ a }}", id="memory"),
    pytest.param("{{ 'x' | times: 1 | divided_by: 0 }}", id="division"),
])
def test_nothing_runs_away(source):
    with pytest.raises(Invalid):
        html(source)


@given(st.text(max_size=60), st.dictionaries(st.text(max_size=5), st.one_of(st.text(), st.integers(), st.none(), st.lists(st.integers()))))
def test_any_text_renders_or_is_refused(source, values):
    try:
        templates.variables(Texts(source, source, source))
        templates.render(Texts(source, source, source), values)
    except Invalid:
        return


@pytest.mark.parametrize("preset", presets.PRESETS.values(), ids=presets.PRESETS)
def test_presets_render_without_a_value(preset):
    assert templates.render(preset.texts, {}).html.startswith("<!doctype html>")


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(st.sampled_from("a<&'\" \n\u00a0é{}"), max_size=5),
                   st.lists(st.text(max_size=2), max_size=2), st.dictionaries(st.sampled_from(("b", "size", "first")), st.text(max_size=3), max_size=2))


@given(a=VALUES, b=VALUES, partial=VALUES)
@pytest.mark.parametrize("field", ["html", "text"])
@pytest.mark.parametrize("source", [
    "Hello {{ a }} and {{ b }}!", "{{ a | default: 'friend' }}{{ b | default: a }}", "{{ a.b }}{{ a['b'] }}{{ a.size }}{{ a.first }}{{ a.b.c }}",
    "{{ partial }}{{ properties.a }}", "{% if a == b %}{{ a }}{% else %}{{ b | upcase }}{% endif %}{{ a | url_encode }}",
    "{% assign a = 'x' %}{{ a }}{% unless b %}{{ a }}{% endunless %}", "{{ a ?? friend }}{{- b -}} {{ now_ | default: 1 }}",
])
def test_what_is_put_together_here_is_what_liquid_says(source, field, a, b, partial):
    values = {"a": a, "b": b, "partial": partial}
    assert templates._one(field, source, {"properties": values, **values}) == templates.compiled(field, source).render({"properties": values, **values})
