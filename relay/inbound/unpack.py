"""Reports come packed (RFC 7489 §7.2.1.1, RFC 8460 §3): gzip or a zip with one file, or as they are. Opened within bounds, whatever the file says of itself."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from relay.errors import Invalid

PACKED = 5_000_000  # octets of a packed report; the largest seen are some hundred thousand
OPEN = 20_000_000  # octets of an opened one; XML packs to a thirtieth

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"


def opened(octets: bytes) -> bytes:
    """What is inside; raises Invalid("report") for what is too large or cannot be opened."""
    if len(octets) > (PACKED if octets[:2] in (_GZIP, _ZIP[:2]) else OPEN):
        raise Invalid("report", "the report is too large")
    if octets.startswith(_GZIP):
        return _gunzipped(octets)
    return _unzipped(octets) if octets.startswith(_ZIP) else octets


def _gunzipped(octets: bytes) -> bytes:
    try:
        found = zlib.decompressobj(wbits=31).decompress(octets, OPEN + 1)
    except zlib.error:
        raise Invalid("report", "the gzip cannot be read") from None
    return _bounded(found)


def _unzipped(octets: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as archive:
            name = next((each for each in archive.infolist() if not each.is_dir()), None)
            if name is None:
                raise Invalid("report", "the zip is empty")
            with archive.open(name) as file:
                return _bounded(file.read(OPEN + 1))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, OSError, EOFError, ValueError, struct.error):  # encrypted, damaged, unknown
        raise Invalid("report", "the zip cannot be read") from None


def _bounded(octets: bytes) -> bytes:
    if len(octets) > OPEN:
        raise Invalid("report", f"the report is larger than {OPEN // 1_000_000} MB when opened")
    return octets
