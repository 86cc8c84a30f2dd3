"""Names: of paths in the library, and what the names of files tell.

`component` makes every component of every path. `Template` and `Scheme` say how paths are made of fields, `match` finds
a directory that is there under another spelling, and `guess_song` and `guess_album` read names that others made.
"""

from __future__ import annotations

from .components import component, year
from .guesses import AlbumGuess, Guess, guess_album, guess_song
from .matching import Match, match
from .schemes import COVER_FIELDS, SCHEMES, SONG_FIELDS, VIDEO_FIELDS, Scheme
from .templates import FieldRejected, Template, Value

__all__ = [
    "COVER_FIELDS",
    "SCHEMES",
    "SONG_FIELDS",
    "VIDEO_FIELDS",
    "AlbumGuess",
    "FieldRejected",
    "Guess",
    "Match",
    "Scheme",
    "Template",
    "Value",
    "component",
    "guess_album",
    "guess_song",
    "match",
    "year",
]
