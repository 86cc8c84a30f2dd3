"""The content types that come with the library, and those that other packages register."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from stagedoor.content import GROUP, Tools, builtin, installed
from stagedoor.content.decoding import Decoder
from stagedoor.content.naming import SCHEMES, Scheme
from stagedoor.engine import Uploads
from stagedoor.errors import ConfigurationError
from stagedoor.ports import ContentType, Producer


class Site:
    """A directory on ``sys.path`` into which packages are installed, as pip does it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, package: str, code: str, **points: str) -> None:
        """A package of one module, and the entry points that it registers."""
        (self.path / f"{package}.py").write_text(textwrap.dedent(code))
        info = self.path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


PLAIN = """
    from stagedoor.testing.content import PlainContent

    def lyrics(tools):
        content = PlainContent("lyrics", has_artwork=False)
        content.tools = tools
        return content

    def other(tools):
        return PlainContent("other")

    class Broken:
        def __init__(self, tools):
            raise RuntimeError("no good")

    nothing = 5
"""


def tools() -> Tools:
    return Tools(Decoder(), SCHEMES["musicdb"])


def test_the_builtin_ones() -> None:
    contents, close = builtin(others=False)
    close()
    assert [(content.name, content.has_artwork) for content in contents] == [
        ("video", True), ("album", True), ("artwork", False),
    ]  # fmt: skip
    ported: tuple[ContentType, ...] = tuple(contents)
    assert [isinstance(content, Producer) for content in ported] == [False, True, True]


def test_a_scheme_that_nobody_knows() -> None:
    with pytest.raises(ConfigurationError, match=r"scheme 'mine'. Choose one of these: musicdb, navidrome") as caught:
        builtin(scheme="mine")
    assert caught.value.code == "unknown_scheme"


def test_nobody_registers_anything() -> None:
    assert installed(tools()) == ()


def test_a_package_registers_a_content_type(site: Site) -> None:
    site.install("stage_lyrics", PLAIN, lyrics="stage_lyrics:lyrics", other="stage_lyrics:other")
    given = tools()
    found = installed(given)
    assert [content.name for content in found] == ["lyrics", "other"]
    assert getattr(found[0], "tools", None) is given
    contents, close = builtin()
    close()
    assert [content.name for content in contents] == ["video", "album", "artwork", "lyrics", "other"]
    contents, close = builtin(others=False)
    close()
    assert len(contents) == 3


def test_they_share_decoder_scheme_and_scratch(site: Site, tmp_path: Path) -> None:
    site.install("stage_lyrics", PLAIN, lyrics="stage_lyrics:lyrics")
    scheme = Scheme.custom(song="{artist}/{title}")
    contents, close = builtin(scheme=scheme, scratch=tmp_path)
    close()
    given = getattr(contents[-1], "tools", None)
    assert isinstance(given, Tools)
    assert (given.scheme, given.scratch) == (scheme, tmp_path)
    assert isinstance(given.decoder, Decoder)


def test_the_engine_takes_them(site: Site, tmp_path: Path) -> None:
    site.install("stage_lyrics", PLAIN, lyrics="stage_lyrics:lyrics")
    with Uploads.open(tmp_path / "uploads", music=tmp_path / "Music", durability="none") as uploads:
        assert list(uploads.ports.contents) == ["video", "album", "artwork", "lyrics"]


@pytest.mark.parametrize(
    ("point", "target", "words"),
    [
        ("lyrics", "stage_lyrics:missing", "cannot be loaded: AttributeError"),
        ("lyrics", "stage_nowhere:lyrics", "cannot be loaded: ModuleNotFoundError"),
        ("lyrics", "stage_lyrics:Broken", r"cannot be loaded: RuntimeError\('no good'\)"),
        ("lyrics", "stage_lyrics:nothing", "cannot be loaded: TypeError"),
        ("words", "stage_lyrics:lyrics", "registers 'words', but its content type is called 'lyrics'"),
    ],
)
def test_a_broken_one_names_its_package(site: Site, point: str, target: str, words: str) -> None:
    site.install("stage_lyrics", PLAIN, **{point: target})
    with pytest.raises(ConfigurationError, match=rf"package stage_lyrics .*{words}|package stage_lyrics {words}"):
        builtin()


@pytest.mark.parametrize(
    "code", ["content = lambda tools: 5", "content = lambda tools: type('X', (), {'name': 'x'})()"]
)
def test_what_is_no_content_type_names_its_package(site: Site, code: str) -> None:
    site.install("stage_odd", code, x="stage_odd:content")
    with pytest.raises(ConfigurationError, match="The package stage_odd registers 'x', but that is no content type"):
        builtin()


def test_a_name_that_is_no_word(site: Site) -> None:
    code = "from stagedoor.testing.content import PlainContent\ncontent = lambda tools: PlainContent('Song-Text')"
    site.install("stage_odd", code, **{"Song-Text": "stage_odd:content"})
    with pytest.raises(ConfigurationError, match=r"The package stage_odd registers 'Song-Text'.* small letters"):
        builtin()


def test_names_that_are_taken(site: Site) -> None:
    site.install("stage_album", PLAIN.replace('"lyrics"', '"album"'), album="stage_album:lyrics")
    with pytest.raises(ConfigurationError, match="The package stage_album registers the content type 'album', which"):
        builtin()


def test_two_packages_of_one_mind(site: Site) -> None:
    site.install("stage_one", PLAIN, lyrics="stage_one:lyrics")
    site.install("stage_two", PLAIN, lyrics="stage_two:lyrics")
    with pytest.raises(
        ConfigurationError, match=r"registers the content type 'lyrics', which is there already"
    ) as caught:
        builtin()
    assert "stage_one" in str(caught.value)
    assert "stage_two" in str(caught.value)


def test_who_is_broken_leaves_no_process_and_no_lock(site: Site, tmp_path: Path) -> None:
    site.install("stage_lyrics", PLAIN, lyrics="stage_lyrics:Broken")
    for _ in range(2):  # the second attempt is not told that the directory is in use
        with pytest.raises(ConfigurationError, match="no good"):
            Uploads.open(tmp_path / "uploads", music=tmp_path / "Music", durability="none")
    contents, close = builtin(others=False)
    with Uploads.open(tmp_path / "uploads", music=tmp_path / "Music", contents=contents, durability="none"):
        close()
