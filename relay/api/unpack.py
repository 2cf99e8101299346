"""Takes the files out of a large request, in a process of its own: `python -m relay.api.unpack REQUEST FILES`.

A request of 300 MB parsed in the relay would stop its event loop for a second and hold the interpreter several copies of it. Here it is read from the
spool piece by piece, never whole: each attachment's base64 is proven, cut into lines and appended to FILES as soon as it has been read, so that one file at a
time is in memory. What is left goes to standard output as JSON: `{"request": ..., "files": [[email, attachment, offset, length, digest], ...]}` or
`{"error": ..., "field": ...}`. Only ijson and relay.mail are imported.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import IO, Any

import ijson

from relay.errors import Invalid
from relay.mail import mime

CONTENTS = frozenset(("attachments.item.content", "emails.item.attachments.item.content"))  # where ijson says that a file's text is
READ = 8_000_000  # octets read at a time; the parser looks at a text anew with each piece of it
LINES = mime.WRAP * 8_192  # letters that are cut into lines at a time


class Moved:
    """Stands in the request for a file that is at the end of FILES now, or that is none."""

    def __init__(self, content: str, files: IO[bytes]):
        self.error = ""
        self.place, digest = files.tell(), hashlib.sha256()
        try:
            text = mime.checked(content, "")
        except Invalid as error:
            self.error = error.text
            return
        for position in range(0, len(text), LINES):
            lines = mime.wrapped(text[position:position + LINES])
            digest.update(lines)
            files.write(lines)
        self.length, self.digest = files.tell() - self.place, digest.hexdigest()


def unpack(spooled: IO[bytes], files: IO[bytes]) -> dict[str, Any]:
    """The request without its files' contents, and where in `files` each is; raises Invalid for what no send takes, ijson.JSONError for what is no JSON.

    What is malformed in other ways stays, for who reads the request next.
    """
    builder = ijson.ObjectBuilder()
    for prefix, event, value in ijson.parse(spooled, buf_size=READ, use_float=True):
        builder.event(event, Moved(value, files) if event == "string" and prefix in CONTENTS else value)
    request, found = builder.value, []
    for number, email in enumerate(emails(request)):
        attachments = email.get("attachments") if isinstance(email, dict) else None
        for place, each in enumerate(attachments) if isinstance(attachments, list) else ():
            if isinstance(each, dict) and isinstance(each.get("content"), Moved):
                moved = each.pop("content")
                if moved.error:
                    field = f"attachments[{place}]" if email is request else f"emails[{number}].attachments[{place}]"
                    raise Invalid(f"{field}.content", moved.error)
                found.append([number, place, moved.place, moved.length, moved.digest])
    return {"request": request, "files": found}


def emails(request: Any) -> list[Any]:
    """The emails of a request: those of a batch, or the one that it is."""
    batch = request.get("emails") if isinstance(request, dict) else None
    return batch if isinstance(batch, list) else [request]


def _elsewhere(_moved: Moved) -> None:
    """A file where no email has one, under a key such as "attachments.item": nobody reads it."""


def main(request: str, files: str) -> None:
    try:
        with open(request, "rb") as spooled, open(files, "wb") as out:
            answer = json.dumps(unpack(spooled, out), default=_elsewhere)
    except Invalid as error:
        answer = json.dumps({"error": error.text, "field": error.field})
    except (ijson.JSONError, ValueError, RecursionError):
        answer = json.dumps({"error": "", "field": ""})
    sys.stdout.write(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
