"""What a child may say about content: it gives the code, and this table has the words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["SENTENCES"]

SENTENCES: Final[Mapping[str, str]] = {
    "archive_bomb": "The archive unpacks to more than {ratio} times its size, which music never does. Pack it again.",
    "archive_changed": "The archive is not what it was when it was looked at. Upload it again.",
    "archive_empty": (
        "There is no file in the archive; folders, links, hidden files and archives in it do not count. "
        "Pack the music itself."
    ),
    "archive_encrypted": "The archive has a password. Pack the files again without one.",
    "archive_names": "A name in the archive is longer than {most} bytes, or there are too many. Shorten the names.",
    "archive_overlap": "Files in the archive share their bytes, which no sound archive does. Pack the files again.",
    "archive_too_large": "The archive unpacks to more than is allowed: {most} MB. Divide it.",
    "archive_too_many": "The archive has more than {most} entries. Divide it, or leave out what is no music.",
    "archive_truncated": "The archive is cut off: its end is missing. Upload the whole of it, or pack it again.",
    "archive_unreadable": "The archive is damaged, or contradicts itself. Pack the files again with another program.",
    "decoder_memory": (
        "The file needs more memory to decode than is allowed. It may be damaged, or made to do harm: choose another "
        "copy of it."
    ),
    "decoder_timeout": (
        "The file takes longer to decode than is allowed. It may be damaged, or made to do harm: choose another copy "
        "of it."
    ),
    "decoder_crashed": (
        "The decoder crashed on this file. It may be damaged, or made to do harm: choose another copy of it."
    ),
    "frame_too_large": (
        "The pictures of this video are {width}×{height} pixels, which is more than is allowed. Make them smaller."
    ),
    "is_video": "The file is a video and no song. Upload it as a video.",
    "no_video": (
        "The file has no video in it; a cover picture does not count. Choose another one, or upload it as an album."
    ),
    "not_audio": "The file is no MP3, M4A, AAC, FLAC, Ogg, Opus, WAV or AIFF sound file. Convert it to one of these.",
    "not_an_image": "The file is no JPEG, PNG or WebP picture. Convert it to one of these.",
    "picture_damaged": "The picture cannot be decoded. The file is damaged: choose another copy of it.",
    "picture_too_large": "The picture is {width}×{height} pixels, which is more than is allowed. Make it smaller.",
    "tags_too_large": "The tags of the file are larger than 16 MB. Remove what is large in them, and upload it again.",
    "truncated": "The file is cut off: its end is missing. Upload the whole file again.",
    "undecodable": "What is in the file cannot be decoded. It is damaged: choose another copy of it.",
    "unsupported_archive": (
        "This cannot be unpacked here. What can be is zip, tar, tar.gz, tar.bz2 and tar.xz, in one part and packed in "
        "the usual way; 7z and RAR are not among it. Pack the files again as one of these."
    ),
    "unreadable": "The file cannot be read. It is damaged, or its index is missing: choose another copy of it.",
    "unsupported_codec": "The pictures of this video are coded in an unsupported way. Convert it to H.264, VP9 or AV1.",
    "unsupported_format": "The file is no MP4, M4V, WebM or Matroska video. Convert it to one of these.",
    "unsupported_sound": "The sound of this file is coded in an unsupported way. Convert it to FLAC, MP3 or AAC.",
}
"""By code. A ``{name}`` is a number that the child gives."""
