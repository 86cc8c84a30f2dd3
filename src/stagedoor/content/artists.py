"""Whom an upload is by, in the spelling of the library."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress

from attrs import frozen

from ..errors import ContentRejected
from ..ports import MusicLibrary, Surroundings
from ..tasks import Finding, UploadTask
from . import naming

__all__ = ["Artist", "settle_artist"]

_QUESTION = "artist_similar"


@frozen
class Artist:
    """An artist of the library, or a new one.

    Attributes:
        name: For people and for the catalogue.
        filed: For paths: as the directory is spelled that is there, else as `name`.
        there: The directory that is there, for `naming.Template.path`.
    """

    name: str
    filed: str
    there: tuple[str, ...] = ()


def settle_artist(task: UploadTask, around: Surroundings, artist: str, problems: list[Finding]) -> Artist:
    """The artist as the library spells it, so that one artist has one directory.

    Names that differ by case or by their Unicode form are one artist. Of names that are merely alike the user is
    asked; the annotation ``answers.artist_similar`` is the spelling that is meant.

    Args:
        task: The upload.
        around: The libraries.
        artist: As annotated or tagged.
        problems: Gets what is to be said about it: ``artist_matched`` (warn), ``artist_similar`` (hold).
    """
    found = _find(around, artist)
    if not isinstance(found, Artist):
        if not found:
            return Artist(artist, artist)
        options = (artist, *found)
        answer = task.annotations.get(f"answers.{_QUESTION}")
        if answer not in found:
            if answer != artist:
                sentence = f"The library has {' or '.join(found[:5])}. Is that {artist}?"
                problems.append(Finding(_QUESTION, "hold", sentence, options=options))
            return Artist(artist, artist)
        meant = _find(around, str(answer))
        return meant if isinstance(meant, Artist) else Artist(str(answer), str(answer))
    if unicodedata.normalize("NFC", found.name) != unicodedata.normalize("NFC", artist):  # else nobody sees why
        sentence = f"{artist} is filed under {found.name}, as the library has it."
        problems.append(Finding("artist_matched", "warn", sentence))
    return found


def _find(around: Surroundings, artist: str) -> Artist | tuple[str, ...]:
    """The artist of this name, or the names that are alike."""
    component = naming.component(artist)
    directory = naming.match(component, around.names("music"))
    library = around.library
    names = library.find_artists(artist) if isinstance(library, MusicLibrary) else ()
    # A directory is not always spelled like its artist: AC/DC cannot be.
    spelled = dict(_filed(names))
    known = naming.match(component, spelled)
    there = () if directory.how == "new" else (directory.spelling,)
    if known.how != "new":
        name = spelled[known.spelling]
    elif there:
        name = artist if naming.component(directory.spelling) == component else _meant(directory.spelling)
    else:
        similar = dict.fromkeys(spelled.get(name) or _meant(name) for name in (*known.similar, *directory.similar))
        return tuple(similar)
    return Artist(name, there[0] if there else name, there)


def _meant(directory: str) -> str:
    """The artist of a directory: nobody types the character that stands for a slash in names of files."""
    return unicodedata.normalize("NFC", directory).replace("\N{DIVISION SLASH}", "/")


def _filed(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The names by the directories that they would have."""
    for name in names:
        with suppress(ContentRejected):  # somebody has put "?" into the catalogue by hand
            yield naming.component(name), name
