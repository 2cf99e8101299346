"""Takes the files out of a large request, in a process of its own: `python -m relay.api.unpack REQUEST FILES`.

A request of 300 MB parsed in the relay would stop its event loop for a second and hold the interpreter several copies of it. Here it is read from the
spool, each attachment's base64 is proven, cut into lines and appended to FILES, and what is left goes to standard output as JSON:
`{"request": ..., "files": [[email, attachment, offset, length, digest], ...]}` or `{"error": ..., "field": ...}`. Only orjson and relay.mail are imported.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import IO, Any

import orjson

from relay.errors import Invalid
from relay.mail import mime


def unpack(octets: bytes, files: IO[bytes]) -> dict[str, Any]:
    """The request without its files' contents, and where in `files` each is; raises Invalid for what no send takes.

    What is malformed in other ways stays, for who reads the request next.
    """
    request = orjson.loads(octets)
    found = []
    for number, email in enumerate(emails(request)):
        attachments = email.get("attachments") if isinstance(email, dict) else None
        for place, each in enumerate(attachments) if isinstance(attachments, list) else ():
            if isinstance(each, dict) and isinstance(each.get("content"), str):
                field = f"attachments[{place}]" if email is request else f"emails[{number}].attachments[{place}]"
                found.append([number, place, *_moved(each.pop("content"), field, files)])
    return {"request": request, "files": found}


def emails(request: Any) -> list[Any]:
    """The emails of a request: those of a batch, or the one that it is."""
    batch = request.get("emails") if isinstance(request, dict) else None
    return batch if isinstance(batch, list) else [request]


def _moved(content: str, field: str, files: IO[bytes]) -> tuple[int, int, str]:
    """Offset, length and digest of the file, now in lines at the end of `files`."""
    wrapped = mime.wrapped(mime.checked(content, field))
    place = files.tell()
    files.write(wrapped)
    return place, len(wrapped), hashlib.sha256(wrapped).hexdigest()


def main(request: str, files: str) -> None:
    try:
        with open(files, "wb") as out:
            answer = unpack(Path(request).read_bytes(), out)
    except Invalid as error:
        answer = {"error": error.text, "field": error.field}
    except orjson.JSONDecodeError:
        answer = {"error": "", "field": ""}
    sys.stdout.buffer.write(orjson.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
