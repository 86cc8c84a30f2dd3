"""The server: one ASGI application, and the program that serves it.

``app = create_app(config=ServerConfig(data=Path("uploads")))`` can be served by any ASGI server or mounted in another
application; `stagedoor.server.run` serves it the fast way. The wires are tus at ``/files/``, HTTP resumable uploads at
``/uploads/``, WebSocket at ``/ws``, the API at ``/api/``, and a page at ``/``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import ServerConfig

if TYPE_CHECKING:
    from ..engine import Uploads
    from ..settings import Settings
    from .app import Application

__all__ = ["ServerConfig", "create_app"]


def create_app(
    uploads: Uploads | None = None,
    *,
    config: ServerConfig | None = None,
    settings: Settings | None = None,
    management: bool = True,
) -> Application:
    """Make an application. It begins with the lifespan event, or with ``async with app.running():``.

    Args:
        uploads: An engine of yours, which you close; when not given, one is opened in ``config.data``.
        config: The server's settings.
        settings: The limits of the engine that is opened.
        management: Whether the application runs the management threads.

    Raises:
        InUse: Another process owns the directory.
        ConfigurationError: It cannot work like this.
    """
    from .app import Application
    from .opening import open_core

    return Application(open_core(uploads, config or ServerConfig(), management=management, settings=settings))
