"""Content types: everything that depends on what an upload is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final, cast

from attrs import frozen

from ..errors import ConfigurationError
from ..ports import ContentType

if TYPE_CHECKING:
    from .decoding import Decoder
    from .naming import Scheme

__all__ = ["GROUP", "Tools", "builtin", "installed"]

GROUP: Final = "stagedoor.content"
"""The group of entry points under which packages register further content types."""


@frozen
class Tools:
    """What content types share.

    Attributes:
        decoder: Child processes that open strangers' files.
        scheme: How files are named.
        scratch: Directory on a disk with room for the largest song; ``None`` is the system's temporary directory.
    """

    decoder: Decoder
    scheme: Scheme
    scratch: str | os.PathLike[str] | None = None


def builtin(
    *, scheme: str | Scheme = "musicdb", scratch: str | os.PathLike[str] | None = None, others: bool = True
) -> tuple[Sequence[ContentType], Callable[[], None]]:
    """The content types that come with the library, and a function that ends the decoder processes they share.

    Nothing is started, and no media library is loaded, before the first file is looked at.

    Args:
        scheme: How files are named, or the name of one of `naming.SCHEMES`.
        scratch: See `Tools`.
        others: With those that other packages register, see `installed`.

    Raises:
        ConfigurationError: ``unknown_scheme``, or as `installed`.
    """
    from . import naming
    from .album import Album
    from .artwork import Artwork
    from .decoding import Decoder
    from .video import Video

    if isinstance(scheme, str):
        scheme = naming.Scheme.custom(preset=scheme)
    tools = Tools(Decoder(), scheme, scratch)
    own: tuple[ContentType, ...] = (
        Video(tools.decoder, scheme=scheme),
        Album(tools.decoder, scheme=scheme, scratch=scratch),
        Artwork(tools.decoder, scheme=scheme),
    )
    return (*own, *(installed(tools, {content.name for content in own}) if others else ())), tools.decoder.close


def installed(tools: Tools, taken: set[str] | frozenset[str] = frozenset()) -> Sequence[ContentType]:
    """The content types that installed packages register as entry points of the group `GROUP`.

    An entry point is a callable that takes `Tools` and returns a content type of its own name.

    Args:
        tools: Handed to each.
        taken: Names that none of them may have.

    Raises:
        ConfigurationError: One cannot be loaded, or has a name that another one has; the sentence says whose it is.
    """
    found: dict[str, ContentType] = {}
    owners = dict.fromkeys(taken, "stagedoor")
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist.name if point.dist is not None else point.value
        if point.name in owners:
            raise ConfigurationError(
                f"The package {package} registers the content type {point.name!r}, which is there already, from "
                f"{owners[point.name]}. Remove one of the two."
            )
        try:
            content: object = point.load()(tools)
        except Exception as error:  # a stranger's code: whatever it is, say whose
            raise ConfigurationError(
                f"The content type {point.name!r} of the package {package} cannot be loaded: {error!r}."
            ) from error
        problem = _problem(content, point.name)
        if problem:
            raise ConfigurationError(f"The package {package} registers {point.name!r}, but {problem}.")
        owners[point.name] = package
        found[point.name] = cast("ContentType", content)
    return tuple(found.values())


_MEMBERS: Final = ("name", "has_artwork", "preprocess", "plan", "import_", "illustrate")


def _problem(content: object, name: str) -> str:
    missing = [member for member in _MEMBERS if not hasattr(content, member)]
    if missing:
        return f"that is no content type: it has no {missing[0]}"
    called = getattr(content, "name", None)
    if called != name:
        return f"its content type is called {called!r}"
    if not re.fullmatch(r"[a-z][a-z0-9]{0,31}", name):
        return "a content type is called by up to 32 small letters and digits"
    return ""
