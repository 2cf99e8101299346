"""`relay` and `python -m relay`: the one place that knows both the command line and the whole relay."""

from __future__ import annotations

from typing import Any


def serve(*arguments: Any, **named: Any) -> int | None:
    """relay.app.serve, imported when it is wanted: the other commands start without it."""
    from relay import app

    return app.serve(*arguments, **named)


def main() -> None:
    from relay.cli.main import main

    main(serve)


if __name__ == "__main__":
    main()
