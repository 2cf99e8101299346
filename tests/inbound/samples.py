"""Reports as mail servers write them, kept as files of this folder's `samples`."""

from pathlib import Path

FOLDER = Path(__file__).with_name("samples")


def sample(name, **replaced):
    """Octets of a sample, lines ending in CRLF; user="a@b" puts another address where user@example.com stands."""
    text = (FOLDER / f"{name}.eml").read_text()
    if "user" in replaced:
        text = text.replace("user@example.com", replaced["user"]).replace("User@Example.com", replaced["user"])
    return text.replace("\n", "\r\n").encode()
