"""/config in the Plunk dialect: what this instance can do, for front ends. It needs no key and tells nothing of a project."""

from __future__ import annotations

from typing import Any

from relay.api.core import Core, resource

router = resource("Config")


@router.get("/config")
async def get_config(here: Core) -> Any:
    """Addresses and switches of the instance."""
    public, smtp = here.settings.http.public_url.rstrip("/"), here.settings.smtp
    ports = {"secure": _port(smtp.submissions), "submission": _port(smtp.submission)}
    return {
        "environment": "production",
        "urls": {"api": f"{public}/plunk", "dashboard": f"{public}/dashboard", "landing": public, "wiki": f"{public}/plunk/docs"},
        "features": {
            "storage": {"storageEnabled": False}, "authProviders": {"github": False, "google": False}, "email": {"trackingToggleEnabled": True},
            "smtp": {"enabled": any(ports.values()), "domain": here.settings.hostname, "ports": ports}},
    }


def _port(address: str) -> int | None:
    """The port of HOST:PORT, None for no listener or one on a socket that is handed over."""
    port = address.rpartition(":")[2]
    return int(port) if port.isdigit() else None
