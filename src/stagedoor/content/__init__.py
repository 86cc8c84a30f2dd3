"""Content types: everything that depends on what an upload is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ports import ContentType

__all__ = ["builtin"]


def builtin() -> tuple[Sequence[ContentType], Callable[[], None]]:
    """The content types that come with the library, and a function that ends the decoder processes they share.

    Nothing is started, and no media library is loaded, before the first file is looked at.
    """
    from .decoding import Decoder
    from .video import Video

    decoder = Decoder()
    return (Video(decoder),), decoder.close
