"""Every method of the official SDK against a running relay: what it answers, the SDK's own typed models take."""

import pytest
from poststack import PostStackError, types

EMAIL = {"from": "PostStack <you@yourdomain.com>", "to": ["user@example.com"], "subject": "Hello", "html": "<p>Hi</p>", "tags": ["welcome"]}
RULES = {"operator": "and", "conditions": [{"field": "properties.plan", "comparator": "equals", "value": "pro"}]}


def meta(found):
    return types.PaginationMeta.model_validate(found["meta"])


def refused(ask, *given, **named):
    with pytest.raises(PostStackError) as error:
        ask(*given, **named)
    return error.value
