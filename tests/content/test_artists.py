"""One artist, one spelling, one directory. With whole plans it is in test_album.py."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.content import naming
from stagedoor.content.artists import Artist, settle_artist
from stagedoor.errors import ContentRejected
from stagedoor.library.catalogue import Catalogue
from stagedoor.lifecycle import State
from stagedoor.tasks import Finding, UploadTask
from stagedoor.testing.content import Around

NFD = unicodedata.normalize("NFD", "Beyoncé")


def settled(
    artist: str, *, there: tuple[str, ...] = (), known: tuple[str, ...] = (), answer: str | None = None
) -> tuple[Artist, list[Finding]]:
    task = UploadTask(
        id="x", filesize=1, offset=1, contenttype="album", mimetype="", sourcefilename="x", sourcechecksum=None,
        destinationpath="x", state=State.PREPROCESSED, uid="1" * 32, created=0.0, updated=0.0,
        annotations={} if answer is None else {"answers.artist_similar": answer},
    )  # fmt: skip
    problems: list[Finding] = []
    with Catalogue.open(":memory:") as library:
        for name in known:
            library.add_album(name, "Album")
        around = Around(library=library, paths={"music": [f"{name}/x" for name in there]})
        return settle_artist(task, around, artist, problems), problems


@pytest.mark.parametrize(
    ("artist", "there", "known", "name", "filed", "told"),
    [
        ("Beyoncé", (), (), "Beyoncé", "Beyoncé", False),
        ("Beyoncé", ("Beyoncé",), ("Beyoncé",), "Beyoncé", "Beyoncé", False),
        ("BEYONCÉ", ("Beyoncé",), (), "Beyoncé", "Beyoncé", True),
        ("BEYONCÉ", (), ("Beyoncé",), "Beyoncé", "Beyoncé", True),
        ("Beyoncé", (NFD,), (), "Beyoncé", NFD, False),
        ("BEYONCÉ", (NFD,), (), "Beyoncé", NFD, True),  # NFC for people, and the directory as it is
        ("Beyoncé", ("BEYONCÉ",), ("beyoncé",), "beyoncé", "BEYONCÉ", True),  # each as it is
        (NFD, (), ("Beyoncé",), "Beyoncé", "Beyoncé", False),
        ("AC/DC", ("AC∕DC",), (), "AC/DC", "AC∕DC", False),
        ("ac/dc", ("AC∕DC",), (), "AC/DC", "AC∕DC", True),
        ("ac/dc", (), ("AC/DC",), "AC/DC", "AC/DC", True),
    ],
)
def test_one_artist(
    artist: str, there: tuple[str, ...], known: tuple[str, ...], name: str, filed: str, told: bool
) -> None:
    found, problems = settled(artist, there=there, known=known)
    assert (found.name, found.filed) == (name, filed)
    assert [problem.code for problem in problems] == (["artist_matched"] if told else [])


@pytest.mark.parametrize("where", ["there", "known"])
def test_names_that_are_alike(where: str) -> None:
    spelled: Any = {where: ("Sigur Rós", "Sigur-Ros")}
    _, (question,) = settled("Sigur Ros", **spelled)
    assert (question.severity, question.options[0], set(question.options[1:])) == (
        "hold", "Sigur Ros", {"Sigur Rós", "Sigur-Ros"},
    )  # fmt: skip
    for option in question.options:
        found, problems = settled("Sigur Ros", answer=option, **spelled)
        assert (found.name, problems) == (option, [])
    _, problems = settled("Sigur Ros", answer="Somebody", **spelled)
    assert [problem.code for problem in problems] == ["artist_similar"]


def test_a_name_in_the_catalogue_that_is_none_is_in_nobodys_way() -> None:
    found, problems = settled("…", known=("...",))  # one is a name of a directory, the other is not
    assert (found, problems) == (Artist("…", "…"), [])


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=3))
def test_whatever_the_names_are(artist: str, there: list[str]) -> None:
    """What is found is there, and is found again; every answer closes the question."""
    directories = []
    for name in (artist, *there):
        try:
            directories.append(naming.component(name))
        except ContentRejected:
            if name == artist:
                return
    disk = tuple(directories[1:])
    found, problems = settled(artist, there=disk)
    assert found.there == () or found.filed in disk
    for problem in problems:
        for option in problem.options:
            again, left = settled(artist, there=disk, answer=option)
            assert [one for one in left if one.severity == "hold"] == []
            assert again.filed in disk or option == artist
