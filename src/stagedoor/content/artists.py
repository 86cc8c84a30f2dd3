"""Whom an upload is by, in the spelling of the library."""

from __future__ import annotations

from ..ports import MusicLibrary, Surroundings
from ..tasks import Finding, UploadTask
from . import naming

__all__ = ["settle_artist"]

_QUESTION = "artist_similar"


def settle_artist(task: UploadTask, around: Surroundings, artist: str, problems: list[Finding]) -> str:
    """The artist as the library spells it, so that one artist has one directory.

    Names that differ by case or by their Unicode form are one artist. Of names that are merely alike the user is
    asked; the annotation ``answers.artist_similar`` is the spelling that is meant.

    Args:
        task: The upload.
        around: The libraries.
        artist: As annotated or tagged.
        problems: Gets what is to be said about it: ``artist_matched`` (warn), ``artist_similar`` (hold).
    """
    library = around.library
    names = library.find_artists(artist) if isinstance(library, MusicLibrary) else ()
    # A directory is not always spelled like its artist: AC/DC cannot be.
    spelled = {naming.component(name): name for name in names}
    match = naming.match(naming.component(artist), [*around.names("music"), *spelled])
    if match.how == "matched":
        found = spelled.get(match.spelling, match.spelling)
        problems.append(Finding("artist_matched", "warn", f"{artist} is filed under {found}, as the library has it."))
        return found
    if match.how == "same" or not match.similar:
        return artist
    options = (artist, *(spelled.get(name, name) for name in match.similar))
    answer = task.annotations.get(f"answers.{_QUESTION}")
    if isinstance(answer, str) and answer in options:
        return answer
    listed = " or ".join(options[1:6])
    problems.append(Finding(_QUESTION, "hold", f"The library has {listed}. Is that {artist}?", options=options))
    return artist
