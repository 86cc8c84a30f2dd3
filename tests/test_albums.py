"""Albums through the real engine: every format, exact undo, crashes in the middle, and full disks."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.adapters.inprocess import InlineBus
from stagedoor.adapters.local import LocalTree
from stagedoor.content.album import Album
from stagedoor.content.decoding import Decoder, DecoderLimits
from stagedoor.engine import Uploads
from stagedoor.library.catalogue import Catalogue
from stagedoor.lifecycle import State as S
from stagedoor.tasks import Offer, UploadTask
from stagedoor.testing.archives import entry, pack, tar_of, zip_of
from stagedoor.testing.disk import Crash, FuseDisk
from stagedoor.testing.pictures import picture
from stagedoor.testing.sounds import KINDS, song
from stagedoor.worker import Worker

if TYPE_CHECKING:
    from conftest import House

pytest.importorskip("av", reason="needs the media extra")

WHO: Mapping[str, str] = {"artist": "The Understudies", "album": "Stage Door", "date": "1998"}
HOME = "The Understudies/1998 - Stage Door"
LEAVE = {"answers.destination_exists": "replace"}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    limits = DecoderLimits(seconds=300, cpu_seconds=300, start_seconds=300)
    with Decoder(limits=limits, processes=1) as made:
        yield made


def twelve() -> Mapping[str, bytes]:
    """Songs of two discs by their names in the library."""
    return {
        f"{disc}-{number} Song {number}.mp3": song(
            "mp3", 0.3, seed=10 * disc + number, title=f"Song {number}", track=f"{number}/6", disc=f"{disc}/2", **WHO
        )
        for disc in (1, 2)
        for number in range(1, 7)
    }


def zipped(files: Mapping[str, bytes]) -> bytes:
    return zip_of([entry(name, data) for name, data in files.items()])


def album(files: Mapping[str, bytes]) -> dict[str, Any]:
    """For `House.offer`."""
    return {
        "data": zipped(files), "contenttype": "album", "filename": "x.zip", "mimetype": "application/zip",
        "annotations": {},
    }  # fmt: skip


# ── the whole life ────────────────────────────────────────────────────────────────────────────────────────────


class Server:
    """Everything as a server has it, but for the clock and the syncs."""

    def __init__(self, root: Path, decoder: Decoder) -> None:
        self.root = root
        self.catalogue = Catalogue.open(root / "catalogue.sqlite", durable=False)
        self.uploads = Uploads.open(
            root / "uploads",
            music=root / "Music",
            artwork=root / "artwork",
            library=self.catalogue,
            contents=[Album(decoder, scratch=root)],
            durability="none",
            bus=InlineBus(),
        )
        self.worker = Worker(self.uploads)

    def bring(self, uploadid: str, data: bytes, **annotations: Any) -> UploadTask:
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        offer = Offer(
            uploadid, filename=f"{uploadid}.zip", contenttype="album", filesize=len(data), sha1=sha1,
            annotations=annotations,
        )  # fmt: skip
        self.uploads.initiate(offer)
        self.uploads.receive(uploadid, offset=0, data=data)
        self.worker.drain(10)
        return self.import_(uploadid)

    def import_(self, uploadid: str) -> UploadTask:
        self.uploads.request(uploadid, trigger_import=True)
        self.worker.drain(20)
        task = self.uploads.get(uploadid)
        assert (task.state, task.message) == (S.IMPORTCOMPLETE, None)
        return task

    def look_at(self, uploadid: str, data: bytes, **annotations: Any) -> UploadTask:
        """Up to where a plan can be seen, and then annotated."""
        offer = Offer(uploadid, filename=f"{uploadid}.zip", contenttype="album", filesize=len(data))
        self.uploads.initiate(offer)
        self.uploads.receive(uploadid, offset=0, data=data)
        self.worker.drain(10)
        return self.uploads.annotate(uploadid, annotations)

    def problems(self, uploadid: str) -> list[str]:
        return [problem.code for problem in self.uploads.plan(uploadid).problems]

    def trees(self) -> Mapping[str, str]:
        """Every file and directory, hidden ones included, by hash."""
        paths = (path for tree in ("Music", "artwork") for path in sorted((self.root / tree).rglob("*")))
        return {
            str(p.relative_to(self.root)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "directory"
            for p in paths
        }

    def library(self) -> object:
        assert self.catalogue.check() == []
        return self.trees(), self.catalogue.content_hash()

    def close(self) -> None:
        self.worker.stop()
        self.uploads.close()
        self.catalogue.close()


@pytest.fixture
def server(tmp_path: Path, decoder: Decoder) -> Iterator[Server]:
    made = Server(tmp_path, decoder)
    yield made
    made.close()


def test_every_format_in_one_archive(server: Server) -> None:
    untouched = server.library()
    files = {
        f"CD1/{kind}.{'m4a' if kind == 'alac' else kind}": song(
            kind, 0.5, seed=number, title=kind.upper(), track=str(number), **WHO
        )
        for number, kind in enumerate(KINDS, 1)
    }
    task = server.bring("one", zipped({**files, "cover.png": picture("PNG")}))
    assert [finding.severity for finding in task.findings] == []
    placed = {f.path: f.sha256 for f in task.placed if f.root == "music"}
    assert placed == {
        f"{HOME}/{number} {kind.upper()}.{'m4a' if kind == 'alac' else kind}": hashlib.sha256(data).hexdigest()
        for number, (kind, data) in enumerate(zip(KINDS, files.values(), strict=True), 1)
    }
    assert all(server.trees()[f"Music/{path}"] == sha256 for path, sha256 in placed.items())
    songs = server.catalogue.find_songs("The Understudies", "Stage Door", "1998")
    assert [(s.number, s.name) for s in songs] == [(n, kind.upper()) for n, kind in enumerate(KINDS, 1)]
    assert server.catalogue.albums()[0].cover == "The Understudies - Stage Door.jpg"
    assert os.listdir(server.root / "uploads" / "data") == [task.key]  # nothing was unpacked there
    server.uploads.undo("one")
    assert server.library() == untouched


def test_undo_leaves_what_others_brought(server: Server) -> None:
    files = twelve()
    first = {name: data for name, data in files.items() if name.startswith("1-")}
    second = {name: data for name, data in files.items() if name.startswith("2-")}
    server.bring("one", zipped({**first, "cover.jpg": picture()}))
    before = server.library()
    task = server.bring("two", zipped({**second, "cover.jpg": picture("JPEG", (700, 700))}))
    assert len(server.catalogue.find_songs("The Understudies", "Stage Door", "1998")) == 12
    assert {f.path for f in task.placed if f.root == "artwork"}.isdisjoint(
        f.path for f in server.uploads.get("one").placed
    )
    server.uploads.undo("two")
    assert server.library() == before


def test_the_other_way_round(server: Server) -> None:
    untouched = server.catalogue.content_hash()
    files = list(twelve().items())
    server.bring("one", zipped(dict(files[:6])))
    server.bring("two", zipped(dict(files[6:])))
    server.uploads.undo("one")
    assert [s.disc for s in server.catalogue.find_songs("The Understudies", "Stage Door", "1998")] == [2] * 6
    server.uploads.undo("two")
    assert server.catalogue.content_hash() == untouched
    # Who made the directories could not take them along, and who came later does not know that they were made.
    assert list(server.trees()) == ["Music/The Understudies", f"Music/{HOME}"]


def test_the_same_album_again_is_asked_about(server: Server) -> None:
    data = zipped(twelve())
    server.bring("one", data)
    before = server.library()
    assert list(server.uploads.known(hashlib.sha1(data, usedforsecurity=False).hexdigest())) == [HOME]
    task = server.bring("two", data, albumname="Other", **{"answers.album_exists": "add"})
    assert [p.code for p in (task.plan.problems if task.plan else ())] == ["already_in_library"]
    server.uploads.undo("two")
    assert server.library() == before


def test_an_album_is_replaced_and_comes_back(server: Server) -> None:
    files = twelve()
    server.bring("one", zipped(files))
    before = server.library()
    better = {name: data + b"\0" * 99 for name, data in files.items()}
    server.look_at("two", zipped(better))
    assert server.problems("two") == ["album_exists", "destination_exists"]
    server.uploads.annotate("two", LEAVE)
    assert server.problems("two") == []  # one decision: nothing is added beside the songs that are there
    task = server.import_("two")
    assert [file.replaced is not None for file in task.placed if file.root == "music"] == [True] * 12
    assert len(server.catalogue.find_songs("The Understudies", "Stage Door", "1998")) == 12
    server.uploads.undo("two")
    assert server.library() == before


def test_unchanged_songs_are_left_out_and_stay_whose_they_are(server: Server) -> None:
    untouched = server.library()
    files = twelve()
    first = server.bring("one", zipped(files))
    before = server.library()
    better = dict(files)
    for name in list(files)[:3]:
        better[name] += b"\0" * 99
    server.look_at("two", zipped(better), **LEAVE)
    plan = server.uploads.plan("two")
    assert [file.path for file in plan.files] == [f"{HOME}/{name}" for name in list(files)[:3]]
    same = [problem for problem in plan.problems if problem.code == "already_there"]
    assert [problem.severity for problem in same] == ["warn"]
    assert all(f"{HOME}/{name}" in same[0].sentence for name in list(files)[3:])
    task = server.import_("two")
    assert len([file for file in task.placed if file.root == "music"]) == 3
    songs = server.catalogue.find_songs("The Understudies", "Stage Door", "1998")
    assert len(songs) == 12
    assert len({song.sha256 for song in songs} & {file.sha256 for file in first.placed}) == 9
    server.uploads.undo("two")
    assert server.library() == before
    server.uploads.undo("one")
    assert server.library() == untouched


def test_an_album_that_is_there_as_a_whole_has_nothing_to_place(server: Server) -> None:
    data = zipped(twelve())
    server.bring("one", data)
    before = server.library()
    server.look_at("two", data, **LEAVE)
    assert server.problems("two") == ["already_in_library", "already_there", "nothing_to_place"]
    task = server.uploads.integrate("two")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "nothing_to_place")
    assert server.library() == before


def test_a_crash_takes_no_song_of_ours_for_one_that_was_there(closed: House, decoder: Decoder) -> None:
    """What an attempt has placed has the planned bytes as well."""
    files = twelve()
    closed.open(contents=[Album(decoder)])
    closed.bring(S.IMPORTCOMPLETE, "one", **album(files))
    before = closed.files("music")
    better = {name: data + b"\0" * 99 if number < 6 else data for number, (name, data) in enumerate(files.items())}
    closed.bring(S.PREPROCESSED, "two", **album(better))
    closed.uploads.annotate("two", LEAVE)
    left = iter([None, None, None, Crash()])
    closed.after["music.place"] = lambda *_: _raise(next(left))
    with pytest.raises(Crash):
        closed.uploads.integrate("two", trigger_import=True)
    closed.after.clear()
    closed.restart(contents=[Album(decoder)])
    closed.worker.drain(50)
    task = closed.uploads.get("two")
    assert (task.state, task.message, len([f for f in task.placed if f.root == "music"])) == (S.IMPORTCOMPLETE, None, 6)
    closed.uploads.undo("two")
    assert closed.files("music") == before


def test_songs_beside_those_that_are_replaced_are_asked_about(server: Server) -> None:
    """The leave to replace says nothing about a song that has a name of its own, and is on the album already."""
    server.bring("one", zipped(twelve()))
    better = {name: data + b"\0" * 99 for name, data in twelve().items()}
    server.look_at("two", zipped(better), tracks={"1": {"title": "Another Name"}}, **LEAVE)
    assert server.problems("two") == ["album_exists"]


def test_a_song_that_is_left_out_costs_no_leave(server: Server) -> None:
    server.bring("one", zipped(twelve()))
    server.look_at("two", zipped({name: data + b"\0" * 99 for name, data in twelve().items()}), **LEAVE)

    def leave_after(tracks: Any) -> bool:
        annotations = server.uploads.annotate("two", tracks=tracks).annotations
        return LEAVE.items() <= annotations.items()

    assert leave_after({"3": {"skip": True}})
    assert leave_after({"3": {"skip": True}, "4": {"skip": True}})
    assert not leave_after({"3": {"skip": True}})  # the name of the fourth is in the way, and was not to be seen
    server.uploads.annotate("two", LEAVE)
    assert not leave_after({"3": {"skip": True}, "5": {"title": "Song 6", "number": 6, "disc": 3}})


# ── crashes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("at", [1, 7, 12])
def test_a_crash_in_the_middle_of_twelve_songs(closed: House, decoder: Decoder, at: int) -> None:
    closed.open(contents=[Album(decoder)])
    closed.bring(S.PREPROCESSED, **album(twelve()))
    left = iter([*[None] * (at - 1), Crash()])
    closed.after["music.place"] = lambda *_: _raise(next(left))
    with pytest.raises(Crash):
        closed.uploads.integrate("one", trigger_import=True)
    closed.after.clear()
    base = closed.root / "music" / HOME
    there = {path.name: path.stat().st_ino for path in base.iterdir()}
    assert len(there) == at
    closed.restart(contents=[Album(decoder)])
    closed.worker.drain(50)
    task = closed.uploads.get("one")
    assert (task.state, task.message) == (S.IMPORTCOMPLETE, None)
    assert closed.files("music") == {f"{HOME}/{name}": data for name, data in twelve().items()}
    assert {name: inode for name, inode in there.items() if (base / name).stat().st_ino != inode} == {}  # adopted
    assert len(closed.library.find_songs("The Understudies", "Stage Door", "1998")) == 12
    closed.uploads.undo("one")
    assert (closed.files("music"), closed.files("artwork"), len(closed.library.entries())) == ({}, {}, 0)


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


@pytest.mark.parametrize("method", ["link", "write_at", "sync_directory"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_of_the_disk_in_the_middle(closed: House, decoder: Decoder, method: str, when: Any) -> None:
    closed.disk = fuse = FuseDisk(when=when, only=(method,))
    closed.open(contents=[Album(decoder)], durability="power")
    closed.bring(S.PREPROCESSED, **album(twelve()))
    fuse.at = len(fuse.calls) + 9
    with suppress(Crash):
        closed.uploads.integrate("one")
    assert fuse.dead
    closed.close()
    closed.disk = FuseDisk()
    closed.open(contents=[Album(decoder)], durability="power")
    closed.worker.drain(50)
    assert closed.uploads.get("one").state is S.INTEGRATED
    assert closed.files("music") == {f"{HOME}/{name}": data for name, data in twelve().items()}
    closed.uploads.undo("one")
    assert closed.files("music") == {}
    assert not (closed.root / "music" / "The Understudies").exists()


def test_a_song_that_has_changed_takes_all_twelve_back(closed: House, decoder: Decoder) -> None:
    """The archive on the disk is another one than was looked at: nothing of it stays."""
    closed.open(contents=[Album(decoder)])
    task = closed.bring(S.PREPROCESSED, **album(twelve()))
    files = dict(twelve())
    last = list(files)[-1]
    files[last] = files[last][:-1] + bytes([files[last][-1] ^ 1])
    stored = closed.root / "uploads" / task.destinationpath
    stored.chmod(0o600)
    stored.write_bytes(zipped(files))
    task = closed.uploads.integrate("one")
    assert (task.state, last in str(task.message)) == (S.INTEGRATIONFAILED, True)
    assert closed.files("music") == {}


@pytest.mark.parametrize("packing", ["zip", "gz"])
def test_damage_on_the_disk_is_not_blamed_on_the_user(closed: House, decoder: Decoder, packing: str) -> None:
    closed.open(contents=[Album(decoder)])
    sent = album(twelve())
    if packing == "gz":
        sent = sent | {"data": pack(tar_of(twelve()), "gz"), "filename": "x.tar.gz"}
    task = closed.bring(S.PREPROCESSED, **sent)
    stored = closed.root / "uploads" / task.destinationpath
    stored.chmod(0o600)
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.write_bytes(data)
    task = closed.uploads.integrate("one")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "data_lost")
    assert "changed" in str(task.message)
    assert "Pack" not in str(task.message)
    assert closed.files("music") == {}


# ── a full disk ───────────────────────────────────────────────────────────────────────────────────────────────


class _Full(io.FileIO):
    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _no_room(dir: str | None = None, **_: Any) -> io.FileIO:  # as tempfile calls it
    fd, name = tempfile.mkstemp(dir=dir)
    os.unlink(name)
    return _Full(fd, "r+")


def test_no_room_to_look_at_a_song_is_a_passing_failure(
    closed: House, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed.open(contents=[Album(decoder)])
    closed.send("one", **album(twelve()))
    with monkeypatch.context() as full:
        full.setattr(tempfile, "TemporaryFile", _no_room)
        closed.worker.drain(5)
        task = closed.uploads.get("one")
        assert (task.state, task.code) == (S.UPLOADCOMPLETE, "storage_full")
        assert "no room to unpack" in str(task.message)
    closed.clock.forward(3600)
    closed.worker.drain(5)
    task = closed.uploads.get("one")
    assert (task.state, task.message, len(task.content["tracks"])) == (S.PREPROCESSED, None, 12)  # type: ignore[arg-type]


def test_no_room_in_the_library_takes_nothing(closed: House, decoder: Decoder) -> None:
    closed.disk = fuse = FuseDisk(error=OSError(errno.ENOSPC, ""), only=("write_at",))
    closed.open(contents=[Album(decoder)])
    closed.bring(S.PREPROCESSED, **album(twelve()))
    fuse.at = len(fuse.calls) + 6
    closed.uploads.request("one")
    closed.worker.drain(5)
    task = closed.uploads.get("one")
    assert (task.state, task.code) == (S.PREPROCESSED, "storage_full")
    closed.clock.forward(3600)
    closed.worker.drain(5)
    assert closed.uploads.get("one").state is S.INTEGRATED
    assert len(closed.files("music")) == 12


# ── trees that spell names in another way ─────────────────────────────────────────────────────────────────────


def test_a_directory_in_nfd_gets_no_twin(server: Server) -> None:
    spelled = "Beyonce\u0301"
    (server.root / "Music" / spelled).mkdir()
    data = song("mp3", 0.3, artist="BEYONCÉ", album="Lemonade", date="2016", title="Sorry", track="4")
    task = server.bring("one", data)
    assert [f.path for f in task.placed if f.root == "music"] == [f"{spelled}/2016 - Lemonade/4 Sorry.mp3"]
    assert list(LocalTree("music", str(server.root / "Music")).names()) == [spelled]
    more = song("mp3", 0.3, seed=1, artist="Beyoncé", album="Lemonade", date="2016", title="Hold Up", track="2")
    server.bring("two", more)
    assert os.listdir(server.root / "Music") == [spelled]
    server.uploads.undo("two")
    server.uploads.undo("one")
    assert server.trees() == {f"Music/{spelled}": "directory"}
    shutil.rmtree(server.root / "Music" / spelled)
