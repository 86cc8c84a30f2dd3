"""What a child may say about content: it gives the code, and this table has the words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["SENTENCES"]

SENTENCES: Final[Mapping[str, str]] = {
    "decoder_memory": "The file needs more memory to decode than is allowed. It may be damaged, or made to do harm.",
    "decoder_timeout": "The file takes longer to decode than is allowed. It may be damaged, or made to do harm.",
    "decoder_crashed": "The decoder crashed on this file. It may be damaged, or made to do harm.",
    "frame_too_large": "The pictures of this video are {width}×{height} pixels, which is more than is allowed.",
    "no_video": "The file has no video in it. A cover picture does not count.",
    "not_an_image": "The file is no JPEG, PNG or WebP picture. Convert it to one of these.",
    "picture_damaged": "The picture cannot be decoded. The file is damaged: choose another copy of it.",
    "picture_too_large": "The picture is {width}×{height} pixels, which is more than is allowed. Make it smaller.",
    "truncated": "The file is cut off: its end is missing. Upload the whole file again.",
    "undecodable": "The pictures of this video cannot be decoded. The file is damaged.",
    "unreadable": "The file says that it is a video, but cannot be read. It is damaged, or its index is missing.",
    "unsupported_codec": "The pictures of this video are coded in an unsupported way. Convert it to H.264, VP9 or AV1.",
    "unsupported_format": "The file is no MP4, M4V, WebM or Matroska video.",
}
"""By code. A ``{name}`` is a number that the child gives."""
