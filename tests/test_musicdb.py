"""The drop-in, line by line of ``spec/contract.md``: one class an operation, then the rules that concern them all."""

import copy
import hashlib
import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stagedoor.adapters.inprocess import InlineBus, ThreadedBus
from stagedoor.errors import InUse, UploadError
from stagedoor.library.memory import MemoryLibrary
from stagedoor.musicdb import ArtworkConfig, Config, InvalidValue, MusicConfig, UploadManager, UploadsConfig
from stagedoor.settings import Settings
from stagedoor.tasks import SPECIFICATION_KEYS, UploadTask
from stagedoor.testing.content import PlainContent

NAMES = {"artistname": "Queen", "name": "Jazz"}
KEYS = {"uploadid", "offset", "chunksize", "state", "message", "uploadtask"}
BAD_TYPES = [None, 5, b"id", ["id"]]


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Ear:
    """A callback that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, notification: str, data: dict[str, Any]) -> None:
        self.heard.append((notification, data))

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        heard, self.heard = self.heard, []
        return heard

    def states(self) -> list[tuple[str, str]]:
        """Notification and state of what was heard since the last look."""
        return [(notification, data["state"]) for notification, data in self.take()]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        uploads=UploadsConfig(path=tmp_path / "uploads", allow=True),
        music=MusicConfig(path=tmp_path / "music"),
        artwork=ArtworkConfig(path=tmp_path / "artwork"),
    )


Make = Callable[..., UploadManager]


@pytest.fixture
def library() -> MemoryLibrary:
    return MemoryLibrary()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(config: Config, library: MemoryLibrary, clock: Clock) -> Iterator[Make]:
    made: list[UploadManager] = []

    def make(config: Any = config, **extras: Any) -> UploadManager:
        extras.setdefault("bus", InlineBus())
        extras.setdefault(
            "contents", [PlainContent(), PlainContent("album"), PlainContent("artwork", has_artwork=False)]
        )
        made.append(UploadManager(config, library, durability="none", clock=clock, **extras))
        return made[-1]

    yield make
    for manager in made:
        manager.Close()


@pytest.fixture
def manager(make: Make) -> UploadManager:
    return make()


@pytest.fixture
def ear(manager: UploadManager) -> Ear:
    ear = Ear()
    manager.RegisterCallback(ear)
    return ear


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def initiate(manager: UploadManager, data: bytes = b"a film", uploadid: str = "one", **other: Any) -> None:
    declared: dict[str, Any] = {
        "mimetype": "video/mp4",
        "contenttype": "video",
        "filesize": len(data),
        "checksum": sha1(data),
        "sourcefilename": "clip.mp4",
    }
    manager.InitiateUpload(uploadid, **declared | other)


def upload(manager: UploadManager, data: bytes = b"a film", uploadid: str = "one", **other: Any) -> dict[str, Any]:
    """Bring an upload to ``uploadcomplete``."""
    initiate(manager, data, uploadid, **other)
    assert manager.NewChunk(uploadid, data) is True
    return manager.GetTaskByID(uploadid)


def preprocess(manager: UploadManager, data: bytes = b"a film", uploadid: str = "one", **other: Any) -> dict[str, Any]:
    """Bring an upload to ``preprocessed``, with the annotations that its path needs."""
    task = upload(manager, data, uploadid, **other)
    manager.AnnotateUpload(uploadid, NAMES)
    assert manager.PreProcessUploadedFile(task) is True
    return task


def start_import(manager: UploadManager, data: bytes = b"a film", **other: Any) -> dict[str, Any]:
    """Bring an upload to ``startimport``."""
    preprocess(manager, data, **other)
    assert manager.IntegrateUploadedFile("one", True) is True
    return manager.GetTaskByID("one")


def complete(manager: UploadManager) -> dict[str, Any]:
    """Bring an upload to ``importcomplete``."""
    task = start_import(manager)
    assert manager.ImportVideo(task) is True
    assert manager.ImportVideoArtwork(task) is True
    return task


def state(manager: UploadManager, uploadid: str = "one") -> str:
    return str(manager.GetTaskByID(uploadid)["state"])


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def unknown(heard: list[tuple[str, dict[str, Any]]], uploadid: str) -> bool:
    """Whether all that was heard is one ``InternalError`` about an id that does not exist."""
    [(notification, data)] = heard
    return (notification, data["state"], data["uploadid"], data["uploadtask"]) == (
        "InternalError",
        "notexisting",
        uploadid,
        None,
    )


# ── the operations ────────────────────────────────────────────────────────────────────────────────────────────


class TestConstructor:
    def test_any_object_with_the_attributes_is_a_configuration(self, tmp_path: Path, make: Make) -> None:
        config = SimpleNamespace(
            uploads=SimpleNamespace(path=str(tmp_path / "u"), allow=True),
            music=SimpleNamespace(path=tmp_path / "m"),
            artwork=SimpleNamespace(path=str(tmp_path / "a")),
            websocket=SimpleNamespace(apikey="secret"),
        )
        upload(make(config))
        assert (tmp_path / "u" / "tasks" / "one.json").is_file()

    @pytest.mark.parametrize("section", ["uploads", "music", "artwork"])
    @pytest.mark.parametrize("path", [None, 5, b"bytes", ["list"]])
    def test_a_path_of_the_wrong_type(self, section: str, path: object, config: Config, make: Make) -> None:
        parts = {"uploads": config.uploads, "music": config.music, "artwork": config.artwork}
        broken = SimpleNamespace(**parts | {section: SimpleNamespace(path=path, allow=True)})
        with pytest.raises(TypeError, match=rf"config\.{section}\.path"):
            make(broken)

    @pytest.mark.parametrize("config", [None, "config", {}, SimpleNamespace()])
    def test_what_is_no_configuration(self, config: object, make: Make) -> None:
        with pytest.raises(TypeError, match="config"):
            make(config)

    @pytest.mark.parametrize("allow", [None, 1, "yes"])
    def test_allow_of_the_wrong_type(self, allow: Any, config: Config, make: Make) -> None:
        with pytest.raises(TypeError, match=r"config\.uploads\.allow"):
            make(
                Config(
                    uploads=UploadsConfig(path=config.uploads.path, allow=allow),
                    music=config.music,
                    artwork=config.artwork,
                )
            )

    @pytest.mark.parametrize("database", ["music.db", 5, object(), {}])
    def test_what_is_no_database(self, database: Any, config: Config) -> None:
        with pytest.raises(TypeError, match="Library"):
            UploadManager(config, database)

    def test_nothing_is_made_when_the_arguments_are_wrong(self, config: Config, tmp_path: Path) -> None:
        with pytest.raises(TypeError):
            UploadManager(config, object())  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []

    def test_no_database_is_the_catalogue_of_our_own(self, config: Config, tmp_path: Path) -> None:
        with UploadManager(config, None, durability="none", contents=[PlainContent()], bus=InlineBus()) as manager:
            complete(manager)
        assert (tmp_path / "uploads" / "catalogue.sqlite").is_file()

    def test_a_database_that_was_given_is_not_closed(self, make: Make, library: MemoryLibrary) -> None:
        manager = make()
        complete(manager)
        manager.Close()
        assert library.find_sha1(sha1(b"a film")) == ("Queen/Jazz.mp4",)

    def test_uploads_are_off_by_default(self, tmp_path: Path) -> None:
        assert UploadsConfig(path=tmp_path).allow is False

    def test_one_manager_owns_the_directory(self, manager: UploadManager, make: Make) -> None:
        with pytest.raises(InUse):
            make()
        manager.Close()
        make()


class TestInitiateUpload:
    def test_creates_the_task(self, manager: UploadManager) -> None:
        assert initiate(manager, checksum=sha1(b"a film").upper()) is None  # type: ignore[func-returns-value]
        task = manager.GetTaskByID("one")
        assert {key: task[key] for key in ("state", "offset", "filesize", "contenttype", "mimetype")} == {
            "state": "waitforchunk", "offset": 0, "filesize": 6, "contenttype": "video", "mimetype": "video/mp4",
        }  # fmt: skip
        assert (task["sourcefilename"], task["sourcechecksum"]) == ("clip.mp4", sha1(b"a film"))
        assert (task["annotations"], task["videofile"], task["artworkfile"]) == ({}, None, None)

    def test_stores_the_task(self, manager: UploadManager, tmp_path: Path) -> None:
        initiate(manager)
        stored = json.loads((tmp_path / "uploads" / "tasks" / "one.json").read_bytes())
        assert (stored["id"], stored["state"]) == ("one", "waitforchunk")

    def test_requests_the_first_chunk(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        [(notification, data)] = ear.take()
        assert notification == "ChunkRequest"
        assert data == {
            "uploadid": "one",
            "offset": 0,
            "chunksize": 6,
            "state": "waitforchunk",
            "message": None,
            "uploadtask": manager.GetTaskByID("one"),
        }

    def test_the_chunk_size_is_that_of_musicdb(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager, filesize=1_000_000)
        assert ear.take()[0][1]["chunksize"] == 409_600

    @pytest.mark.parametrize("name", ["uploadid", "mimetype", "contenttype", "checksum", "sourcefilename"])
    @pytest.mark.parametrize("value", BAD_TYPES)
    def test_texts_of_the_wrong_type(self, name: str, value: Any, manager: UploadManager, ear: Ear) -> None:
        with pytest.raises(TypeError, match=name):
            initiate(manager, **{name: value})
        assert (manager.GetTasks(), ear.take()) == ({}, [])

    @pytest.mark.parametrize("filesize", [None, "6", 6.0, True])
    def test_a_size_of_the_wrong_type(self, filesize: object, manager: UploadManager) -> None:
        with pytest.raises(TypeError, match="filesize"):
            initiate(manager, filesize=filesize)

    @pytest.mark.parametrize("contenttype", ["", "song", "Video", "video ", "../video", "v" * 100])
    def test_another_content_type(self, contenttype: str, manager: UploadManager, ear: Ear) -> None:
        with pytest.raises(ValueError, match="content type") as caught:
            initiate(manager, contenttype=contenttype)
        assert isinstance(caught.value, InvalidValue)
        assert caught.value.code == "invalid_contenttype"
        assert (manager.GetTasks(), ear.take()) == ({}, [])

    @pytest.mark.parametrize("contenttype", ["video", "album", "artwork"])
    def test_the_content_types_of_the_specification(self, contenttype: str, manager: UploadManager) -> None:
        assert upload(manager, contenttype=contenttype)["contenttype"] == contenttype

    def test_a_content_type_that_was_registered(self, make: Make) -> None:
        manager = make(contents=[PlainContent("score")])
        assert upload(manager, contenttype="score")["contenttype"] == "score"

    def test_a_specified_content_type_that_this_server_lacks(self, make: Make) -> None:
        manager, ear = make(contents=[PlainContent("score")]), Ear()
        manager.RegisterCallback(ear)
        initiate(manager)
        assert unknown(ear.take(), "one")
        assert manager.GetTasks() == {}

    @pytest.mark.parametrize("filesize", [0, -1])
    def test_a_size_of_nothing(self, filesize: int, manager: UploadManager) -> None:
        with pytest.raises(ValueError, match="empty") as caught:
            initiate(manager, filesize=filesize)
        assert isinstance(caught.value, UploadError)
        assert caught.value.code == "empty"
        assert manager.GetTasks() == {}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("uploadid", ""), ("uploadid", "../one"), ("uploadid", ".one"), ("uploadid", "a/b"),
            ("uploadid", "x" * 129), ("uploadid", "one\n"), ("checksum", ""), ("checksum", "a" * 39),
            ("checksum", "../" + "a" * 37),
            ("sourcefilename", "clip\0.mp4"), ("sourcefilename", "\ud800.mp4"), ("filesize", 1 << 63),
        ],
    )  # fmt: skip
    def test_values_that_are_never_allowed(self, name: str, value: Any, manager: UploadManager) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  -- the code says which
            initiate(manager, **{name: value})
        assert manager.GetTasks() == {}

    def test_switched_off(self, config: Config, make: Make, tmp_path: Path) -> None:
        off = Config(uploads=UploadsConfig(path=config.uploads.path), music=config.music, artwork=config.artwork)
        manager, ear = make(off, settings=Settings(allow=True)), Ear()
        manager.RegisterCallback(ear)
        assert initiate(manager) is None  # type: ignore[func-returns-value]
        heard = ear.take()
        assert unknown(heard, "one")
        assert "switched off" in heard[0][1]["message"]
        assert manager.GetTasks() == {}
        assert list((tmp_path / "uploads" / "tasks").iterdir()) == []
        assert list((tmp_path / "uploads" / "data").iterdir()) == []

    def test_switched_off_the_arguments_are_checked_all_the_same(self, config: Config, make: Make) -> None:
        off = Config(uploads=UploadsConfig(path=config.uploads.path), music=config.music, artwork=config.artwork)
        manager = make(off)
        with pytest.raises(TypeError):
            initiate(manager, filesize="6")
        with pytest.raises(ValueError, match="content type"):
            initiate(manager, contenttype="song")

    def test_a_limit(self, make: Make) -> None:
        manager, ear = make(settings=Settings(max_file_size=5)), Ear()
        manager.RegisterCallback(ear)
        initiate(manager)
        assert unknown(ear.take(), "one")
        assert manager.GetTasks() == {}

    # An id offered again.

    def test_again_while_waiting(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        manager.NewChunk("one", b"a fi")
        before = manager.GetTaskByID("one")
        ear.take()
        initiate(manager)
        [(notification, data)] = ear.take()
        assert (notification, data["offset"], data["chunksize"]) == ("ChunkRequest", 4, 2)
        assert manager.GetTaskByID("one") == before

    def test_again_after_a_restart(self, make: Make) -> None:
        first = make()
        initiate(first)
        first.NewChunk("one", b"a fi")
        first.Close()
        manager, ear = make(), Ear()
        manager.RegisterCallback(ear)
        initiate(manager)
        assert [(n, d["offset"]) for n, d in ear.take()] == [("ChunkRequest", 4)]
        assert manager.NewChunk("one", b"lm") is True
        assert state(manager) == "uploadcomplete"

    def test_again_after_a_failure_starts_over(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager, checksum=sha1(b"another"))
        manager.NewChunk("one", b"a film")
        ear.take()
        initiate(manager, checksum=sha1(b"another"))
        assert ear.states() == [("StateUpdate", "waitforchunk"), ("ChunkRequest", "waitforchunk")]
        assert manager.GetTaskByID("one")["offset"] == 0

    def test_again_in_a_later_state(self, manager: UploadManager, ear: Ear) -> None:
        preprocess(manager)
        before = manager.GetTaskByID("one")
        ear.take()
        initiate(manager)
        assert ear.states() == [("StateUpdate", "preprocessed")]
        assert manager.GetTaskByID("one") == before

    def test_again_while_it_is_removed(self, manager: UploadManager, ear: Ear) -> None:
        upload(manager)
        manager.RequestRemoveUpload("one")
        ear.take()
        initiate(manager)
        assert ear.states() == [("InternalError", "remove")]
        manager.RemoveTask(manager.GetTaskByID("one"))
        initiate(manager)
        assert state(manager) == "waitforchunk"

    @pytest.mark.parametrize(
        "other",
        [{"filesize": 7}, {"checksum": sha1(b"x")}, {"contenttype": "album"}, {"sourcefilename": "other.mp4"}],
    )
    def test_another_declaration_is_refused(self, other: dict[str, Any], manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        manager.NewChunk("one", b"a fi")
        before = manager.GetTaskByID("one")
        ear.take()
        initiate(manager, **other)
        [(notification, data)] = ear.take()
        assert (notification, data["uploadid"], data["state"]) == ("InternalError", "one", "waitforchunk")
        assert "another upload" in data["message"]
        assert manager.GetTaskByID("one") == before

    def test_an_id_used_again_is_another_upload(self, manager: UploadManager) -> None:
        old = upload(manager)
        manager.RemoveTask(old)
        assert upload(manager)["uid"] != old["uid"]


class TestNewChunk:
    def test_requests_the_next_chunk(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        ear.take()
        assert manager.NewChunk("one", b"a f") is True
        [(notification, data)] = ear.take()
        assert (notification, data["offset"], data["chunksize"], data["state"]) == (
            "ChunkRequest",
            3,
            3,
            "waitforchunk",
        )
        assert manager.GetTaskByID("one")["offset"] == 3

    def test_appends_at_the_offset_on_record(self, manager: UploadManager) -> None:
        initiate(manager, b"aaaaaa")
        for expected in (2, 4, 6):  # the same bytes again are no replay: nothing says so
            assert manager.NewChunk("one", b"aa") is True
            assert manager.GetTaskByID("one")["offset"] == expected
        assert state(manager) == "uploadcomplete"

    def test_the_last_one_completes(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        manager.NewChunk("one", b"a f")
        ear.take()
        assert manager.NewChunk("one", b"ilm") is True
        assert ear.states() == [("StateUpdate", "uploadcomplete")]

    def test_the_last_one_of_a_damaged_file(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        ear.take()
        assert manager.NewChunk("one", b"a filn") is False
        [(notification, data)] = ear.take()
        assert (notification, data["state"]) == ("InternalError", "uploadfailed")
        assert sha1(b"a filn") in data["message"]

    def test_the_last_one_after_a_restart(self, make: Make) -> None:
        first = make()
        initiate(first, b"good")
        initiate(first, b"bad one", "two")
        assert first.NewChunk("one", b"go")
        assert first.NewChunk("two", b"bad")
        first.Close()
        manager = make()
        assert manager.NewChunk("one", b"od") is True
        assert manager.NewChunk("two", b" ONE") is False
        assert (state(manager), state(manager, "two")) == ("uploadcomplete", "uploadfailed")

    @pytest.mark.parametrize("rawdata", [None, "text", bytearray(b"a"), memoryview(b"a"), [97], 97])
    def test_what_are_no_bytes(self, rawdata: Any, manager: UploadManager) -> None:
        initiate(manager)
        with pytest.raises(TypeError, match="rawdata"):
            manager.NewChunk("one", rawdata)
        assert manager.GetTaskByID("one")["offset"] == 0

    @pytest.mark.parametrize("uploadid", BAD_TYPES)
    def test_an_id_of_the_wrong_type(self, uploadid: Any, manager: UploadManager) -> None:
        with pytest.raises(TypeError, match="uploadid"):
            manager.NewChunk(uploadid, b"a")

    @pytest.mark.parametrize("uploadid", ["two", "", "../one", "one\n"])
    def test_an_unknown_id(self, uploadid: str, manager: UploadManager, ear: Ear) -> None:
        assert manager.NewChunk(uploadid, b"a") is False
        assert unknown(ear.take(), uploadid.replace("\n", "\\n") if uploadid else None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("rawdata", [b"", b"a film and more"])
    def test_a_chunk_that_does_not_fit(self, rawdata: bytes, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        manager.NewChunk("one", b"a")
        before = manager.GetTaskByID("one")
        ear.take()
        assert manager.NewChunk("one", rawdata) is False
        assert (manager.GetTaskByID("one"), ear.take()) == (before, [])

    def test_a_chunk_that_is_too_large(self, make: Make) -> None:
        manager = make(settings=Settings(max_chunk=3))
        initiate(manager)
        assert manager.NewChunk("one", b"a fi") is False
        assert manager.NewChunk("one", b"a f") is True

    def test_the_chunk_size_is_advice(self, make: Make) -> None:
        manager = make(settings=Settings(chunk_size=2))
        upload(manager)
        assert state(manager) == "uploadcomplete"

    def test_in_a_later_state(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        ear.take()
        assert manager.NewChunk("one", b"a") is False
        assert (manager.GetTaskByID("one"), ear.take()) == (task, [])
        assert Path(task["destinationpath"]).read_bytes() == b"a film"

    def test_with_uploads_switched_off(self, config: Config, make: Make) -> None:
        first = make()
        initiate(first)
        first.Close()
        off = Config(uploads=UploadsConfig(path=config.uploads.path), music=config.music, artwork=config.artwork)
        manager = make(off)
        assert manager.NewChunk("one", b"a film") is False
        assert manager.GetTaskByID("one")["offset"] == 0


class TestUploadCompleted:
    def waiting(self, make: Make, data: bytes = b"a film") -> tuple[UploadManager, dict[str, Any]]:
        """An upload whose bytes are all there, and whose checksum nobody has looked at."""
        first = make()
        initiate(first)
        first.NewChunk("one", data[:3])
        first.Close()
        second = make()
        second.uploads.receive("one", offset=3, data=data[3:])
        return second, second.GetTaskByID("one")

    def test_the_checksum_matches(self, make: Make) -> None:
        manager, task = self.waiting(make)
        ear = Ear()
        manager.RegisterCallback(ear)
        assert task["state"] == "waitforchunk"
        assert manager.UploadCompleted(task) is True
        assert ear.states() == [("StateUpdate", "uploadcomplete")]

    def test_the_checksum_of_what_is_stored_counts(self, make: Make) -> None:
        manager, task = self.waiting(make)
        Path(task["destinationpath"]).write_bytes(b"a bomb")
        ear = Ear()
        manager.RegisterCallback(ear)
        assert manager.UploadCompleted(task) is False
        [(notification, data)] = ear.take()
        assert (notification, data["state"]) == ("InternalError", "uploadfailed")
        assert sha1(b"a bomb") in data["message"]
        assert data["message"] == manager.GetTaskByID("one")["message"]

    def test_bytes_are_missing(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        manager.NewChunk("one", b"a")
        task = manager.GetTaskByID("one")
        ear.take()
        assert manager.UploadCompleted(task) is False
        assert (state(manager), ear.take()) == ("waitforchunk", [])

    def test_it_was_completed_before(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        ear.take()
        assert manager.UploadCompleted(task) is True
        assert ear.take() == []
        preprocess(manager, uploadid="two")
        ear.take()
        assert manager.UploadCompleted(manager.GetTaskByID("two")) is True
        assert ear.take() == []

    def test_it_failed_before(self, manager: UploadManager) -> None:
        initiate(manager, checksum=sha1(b"another"))
        manager.NewChunk("one", b"a film")
        assert manager.UploadCompleted(manager.GetTaskByID("one")) is False

    def test_the_name_of_the_file(self, manager: UploadManager, tmp_path: Path) -> None:
        task = upload(manager, sourcefilename="A Clip.MP4")
        path = Path(task["destinationpath"])
        assert path.name == f"video-{sha1(b'a film')}.mp4"
        assert path.is_relative_to(tmp_path / "uploads")
        assert path.read_bytes() == b"a film"

    def test_two_uploads_of_one_content_share_nothing(self, manager: UploadManager) -> None:
        one, two = upload(manager), upload(manager, uploadid="two")
        assert Path(one["destinationpath"]).name == Path(two["destinationpath"]).name
        assert one["destinationpath"] != two["destinationpath"]
        manager.RemoveTask(one)
        assert Path(two["destinationpath"]).read_bytes() == b"a film"

    def test_an_unknown_task(self, manager: UploadManager, ear: Ear) -> None:
        assert manager.UploadCompleted({"id": "two"}) is False
        assert unknown(ear.take(), "two")


class TestPreProcessUploadedFile:
    def test_accepted(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        ear.take()
        assert manager.PreProcessUploadedFile(task) is True
        assert ear.states() == [("StateUpdate", "preprocessed")]
        assert task["state"] == "preprocessed"

    def test_rejected(self, manager: UploadManager, ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
        task = upload(manager, b"bad film")
        ear.take()
        assert manager.PreProcessUploadedFile(task) is False
        [(notification, data)] = ear.take()
        assert (notification, data["state"], data["message"]) == (
            "InternalError",
            "invalidcontent",
            "This content is bad.",
        )
        assert task["state"] == "invalidcontent"
        assert any("This content is bad." in line for line in errors(caplog))

    def test_in_another_state(self, manager: UploadManager, ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
        initiate(manager)
        waiting = manager.GetTaskByID("one")
        done = preprocess(manager, uploadid="two")
        ear.take()
        for task in (waiting, done):
            before = copy.deepcopy(task)
            caplog.clear()
            assert manager.PreProcessUploadedFile(task) is False
            assert manager.GetTaskByID(task["id"]) == before
            [line] = errors(caplog)
            assert task["id"] in line
            assert task["state"] in line
        assert ear.take() == []

    @pytest.mark.parametrize("contenttype", ["video", "album", "artwork", "score"])
    def test_every_content_type(self, contenttype: str, make: Make) -> None:
        manager = make(contents=[PlainContent(contenttype)])
        assert manager.PreProcessUploadedFile(upload(manager, contenttype=contenttype)) is True

    @pytest.mark.parametrize("contenttype", ["video", "album", "artwork"])
    def test_dispatches_on_the_content_type(
        self, contenttype: str, manager: UploadManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        called: list[str] = []

        def method(name: str) -> Callable[[dict[str, Any]], bool]:
            def method(task: dict[str, Any]) -> bool:
                called.append(name)
                return True

            return method

        for name in ("video", "album", "artwork"):
            monkeypatch.setattr(manager, f"PreProcess{name.capitalize()}", method(name))
        assert manager.PreProcessUploadedFile(upload(manager, contenttype=contenttype)) is True
        assert called == [contenttype]

    def test_a_passing_trouble_is_no_failure(self, make: Make, clock: Clock) -> None:
        manager = make(contents=[PlainContent(failures={"preprocess": 1})])
        task = upload(manager, b"shaky film")
        assert manager.PreProcessUploadedFile(task) is False
        assert task["state"] == "uploadcomplete"
        assert manager.PreProcessUploadedFile(task) is False  # it is too early for the second attempt
        clock.now += 60
        assert manager.PreProcessUploadedFile(task) is True

    @pytest.mark.parametrize("task", [*BAD_TYPES, {}, {"id": 5}])
    def test_what_is_no_task(self, task: Any, manager: UploadManager) -> None:
        with pytest.raises(TypeError):
            manager.PreProcessUploadedFile(task)

    def test_an_unknown_task(self, manager: UploadManager, ear: Ear) -> None:
        assert manager.PreProcessUploadedFile({"id": "two"}) is False
        assert unknown(ear.take(), "two")


@pytest.mark.parametrize("contenttype", ["video", "album", "artwork"])
class TestPreProcessVideoArtworkAlbum:
    def method(self, manager: UploadManager, contenttype: str) -> Callable[[dict[str, Any]], bool]:
        method: Callable[[dict[str, Any]], bool] = getattr(manager, f"PreProcess{contenttype.capitalize()}")
        return method

    def test_its_content_type(self, contenttype: str, manager: UploadManager) -> None:
        task = upload(manager, contenttype=contenttype)
        assert self.method(manager, contenttype)(task) is True
        assert state(manager) == "preprocessed"

    def test_another_content_type(self, contenttype: str, manager: UploadManager) -> None:
        task = upload(manager, contenttype="album" if contenttype == "video" else "video")
        assert self.method(manager, contenttype)(task) is False
        assert state(manager) == "uploadcomplete"

    def test_another_state(self, contenttype: str, manager: UploadManager) -> None:
        initiate(manager, contenttype=contenttype)
        assert self.method(manager, contenttype)(manager.GetTaskByID("one")) is False
        assert state(manager) == "waitforchunk"


class TestAnnotateUpload:
    def test_during_the_upload(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        manager.NewChunk("one", b"a ")
        ear.take()
        assert manager.AnnotateUpload("one", {"name": "Jazz", "release": 1978}) is True
        [(notification, data)] = ear.take()
        assert (notification, data["state"], data["offset"], data["chunksize"]) == ("StateUpdate", "waitforchunk", 2, 4)
        assert data["uploadtask"]["annotations"] == {"name": "Jazz", "release": 1978}
        assert manager.NewChunk("one", b"film") is True

    def test_after_the_upload(self, manager: UploadManager, ear: Ear) -> None:
        preprocess(manager)
        ear.take()
        assert manager.AnnotateUpload("one", {"origin": "CD"}) is True
        assert ear.states() == [("StateUpdate", "preprocessed")]

    def test_merges_keys(self, manager: UploadManager) -> None:
        initiate(manager)
        manager.AnnotateUpload("one", {"a": 1, "b": {"x": [1, None]}})
        manager.AnnotateUpload("one", {"b": "new", "any other key": True})
        assert manager.GetTaskByID("one")["annotations"] == {"a": 1, "b": "new", "any other key": True}

    def test_it_is_stored(self, manager: UploadManager, tmp_path: Path) -> None:
        initiate(manager)
        manager.AnnotateUpload("one", {"a": 1})
        assert json.loads((tmp_path / "uploads" / "tasks" / "one.json").read_bytes())["annotations"] == {"a": 1}

    @pytest.mark.parametrize("uploadid", BAD_TYPES)
    def test_an_id_of_the_wrong_type(self, uploadid: Any, manager: UploadManager) -> None:
        with pytest.raises(TypeError, match="uploadid"):
            manager.AnnotateUpload(uploadid, {})

    @pytest.mark.parametrize("annotations", [None, [], "name", 5, {5: "name"}])
    def test_annotations_of_the_wrong_type(self, annotations: Any, manager: UploadManager) -> None:
        initiate(manager)
        with pytest.raises(TypeError):
            manager.AnnotateUpload("one", annotations)

    @pytest.mark.parametrize("uploadid", ["two", "../one"])
    def test_an_unknown_id(self, uploadid: str, manager: UploadManager, ear: Ear) -> None:
        with pytest.raises(ValueError, match="no upload") as caught:
            manager.AnnotateUpload(uploadid, {})
        assert isinstance(caught.value, UploadError)
        assert caught.value.code == "not_found"
        assert unknown(ear.take(), uploadid)

    @pytest.mark.parametrize("annotations", [{"a": object()}, {"a": float("nan")}, {"a": "x" * 100_000}])
    def test_refused(self, annotations: dict[str, Any], manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        before = manager.GetTaskByID("one")
        ear.take()
        assert manager.AnnotateUpload("one", annotations) is False
        assert (manager.GetTaskByID("one"), ear.take()) == (before, [])

    def test_while_it_is_removed(self, manager: UploadManager) -> None:
        initiate(manager)
        manager.RequestRemoveUpload("one")
        assert manager.AnnotateUpload("one", {"a": 1}) is False


class TestIntegrateUploadedFile:
    def test_integrated(self, manager: UploadManager, ear: Ear, tmp_path: Path) -> None:
        preprocess(manager)
        ear.take()
        assert manager.IntegrateUploadedFile("one", False) is True
        assert ("StateUpdate", "integrated") in ear.states()
        task = manager.GetTaskByID("one")
        assert task["state"] == "integrated"
        assert task["videofile"] == str(tmp_path / "music" / "Queen" / "Jazz.mp4")
        assert Path(task["videofile"]).read_bytes() == b"a film"

    def test_without_import_nothing_follows(self, manager: UploadManager, library: MemoryLibrary) -> None:
        preprocess(manager)
        manager.IntegrateUploadedFile("one", False)
        assert manager.uploads.perform("one") is False
        assert (state(manager), library.entries()) == ("integrated", ())

    def test_with_import(self, manager: UploadManager, ear: Ear, library: MemoryLibrary) -> None:
        preprocess(manager)
        ear.take()
        assert manager.IntegrateUploadedFile("one", True) is True
        assert ear.states()[-2:] == [("StateUpdate", "integrated"), ("StateUpdate", "startimport")]
        assert library.entries() == ()  # that is left to the management

    def test_with_import_by_the_management(self, make: Make, library: MemoryLibrary) -> None:
        manager = make(bus=None)
        preprocess(manager)
        manager.StartUploadManagementThread()
        assert manager.IntegrateUploadedFile("one", True) is True
        done = manager.uploads.wait("one", timeout=10)
        assert done is not None
        assert done.state == "importcomplete"
        assert len(library.entries()) == 1

    def test_an_import_that_was_asked_for_survives_a_restart(self, make: Make) -> None:
        first = make()
        preprocess(first)
        first.IntegrateUploadedFile("one", True)
        first.Close()
        manager = make(bus=None)
        manager.StartUploadManagementThread()
        done = manager.uploads.wait("one", timeout=10)
        assert done is not None
        assert done.state == "importcomplete"

    def test_it_fails(self, manager: UploadManager, ear: Ear, tmp_path: Path) -> None:
        preprocess(manager)
        there = tmp_path / "music" / "Queen" / "Jazz.mp4"
        there.parent.mkdir()
        there.write_bytes(b"somebody's")
        ear.take()
        assert manager.IntegrateUploadedFile("one", True) is False
        assert ear.states()[-1] == ("InternalError", "integrationfailed")
        assert there.read_bytes() == b"somebody's"

    def test_in_another_state(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        upload(manager, uploadid="two")
        preprocess(manager, uploadid="three")
        manager.IntegrateUploadedFile("three", False)
        ear.take()
        for uploadid in ("one", "two", "three"):
            before = manager.GetTaskByID(uploadid)
            assert manager.IntegrateUploadedFile(uploadid, True) is False
            assert manager.GetTaskByID(uploadid) == before
        assert ear.take() == []

    def test_an_open_question(self, manager: UploadManager) -> None:
        preprocess(manager, b"ask film")
        assert manager.IntegrateUploadedFile("one", False) is False
        assert state(manager) == "preprocessed"
        manager.AnnotateUpload("one", {"answers.which": "this"})
        assert manager.IntegrateUploadedFile("one", False) is True

    @pytest.mark.parametrize("uploadid", BAD_TYPES)
    def test_an_id_of_the_wrong_type(self, uploadid: Any, manager: UploadManager) -> None:
        with pytest.raises(TypeError, match="uploadid"):
            manager.IntegrateUploadedFile(uploadid, True)

    @pytest.mark.parametrize("uploadid", ["two", "../one"])
    def test_an_unknown_id(self, uploadid: str, manager: UploadManager, ear: Ear) -> None:
        with pytest.raises(ValueError, match="no upload"):
            manager.IntegrateUploadedFile(uploadid, True)
        assert unknown(ear.take(), uploadid)

    @pytest.mark.parametrize("contenttype", ["video", "album", "artwork"])
    def test_after_an_undo_it_waits_for_an_annotation(self, contenttype: str, manager: UploadManager, ear: Ear) -> None:
        preprocess(manager, contenttype=contenttype)
        manager.IntegrateUploadedFile("one", False)
        manager.uploads.undo("one")
        before = manager.GetTaskByID("one")
        ear.take()
        assert manager.IntegrateUploadedFile("one", False) is False
        assert (manager.GetTaskByID("one"), ear.take()) == (before, [])
        manager.AnnotateUpload("one", {"name": "News"})
        assert manager.IntegrateUploadedFile("one", False) is True
        manager.uploads.undo("one")
        assert manager.IntegrateUploadedFile("one", False) is False

    def test_a_page_that_integrates_at_once_does_not_undo_an_undo(self, manager: UploadManager) -> None:
        preprocess(manager, contenttype="artwork")
        manager.IntegrateUploadedFile("one", False)
        answers: list[bool] = []

        def page(notification: str, data: dict[str, Any]) -> None:
            if data["state"] == "preprocessed":
                answers.append(manager.IntegrateUploadedFile(data["uploadid"], True))

        manager.RegisterCallback(page)
        manager.uploads.undo("one")
        assert state(manager) == "preprocessed"
        assert set(answers) == {False}


@pytest.mark.parametrize("contenttype", ["video", "album", "artwork"])
class TestIntegrateVideoArtworkAlbum:
    def method(self, manager: UploadManager, contenttype: str) -> Callable[[dict[str, Any]], bool]:
        method: Callable[[dict[str, Any]], bool] = getattr(manager, f"Integrate{contenttype.capitalize()}")
        return method

    def test_its_content_type(self, contenttype: str, manager: UploadManager) -> None:
        task = preprocess(manager, contenttype=contenttype)
        assert self.method(manager, contenttype)(task) is True
        assert task["state"] == "integrated"
        assert manager.uploads.perform("one") is False

    @pytest.mark.parametrize("missing", ["artistname", "name"])
    def test_an_annotation_is_missing(
        self, contenttype: str, missing: str, manager: UploadManager, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        task = upload(manager, contenttype=contenttype)
        manager.PreProcessUploadedFile(task)
        manager.AnnotateUpload("one", {key: value for key, value in NAMES.items() if key != missing})
        assert self.method(manager, contenttype)(task) is False
        assert any(f"The annotation {missing} is missing." in line for line in errors(caplog))
        assert task["state"] == "integrationfailed"
        assert list((tmp_path / "music").iterdir()) == []

    def test_another_content_type(self, contenttype: str, manager: UploadManager) -> None:
        task = preprocess(manager, contenttype="album" if contenttype == "video" else "video")
        assert self.method(manager, contenttype)(task) is False
        assert state(manager) == "preprocessed"

    def test_another_state(self, contenttype: str, manager: UploadManager) -> None:
        task = upload(manager, contenttype=contenttype)
        assert self.method(manager, contenttype)(task) is False
        assert state(manager) == "uploadcomplete"

    def test_an_unknown_task(self, contenttype: str, manager: UploadManager, ear: Ear) -> None:
        assert self.method(manager, contenttype)({"id": "two"}) is False
        assert unknown(ear.take(), "two")


class TestImportVideo:
    def test_imported(self, manager: UploadManager, ear: Ear, library: MemoryLibrary) -> None:
        task = start_import(manager)
        ear.take()
        assert manager.ImportVideo(task) is True
        assert ear.states() == [("StateUpdate", "importartwork")]
        assert library.find_sha1(sha1(b"a film")) == ("Queen/Jazz.mp4",)

    def test_the_database_does_not_take_it(self, manager: UploadManager, ear: Ear) -> None:
        task = start_import(manager, b"noimport film")
        ear.take()
        assert manager.ImportVideo(task) is False
        assert ear.states() == [("InternalError", "importfailed")]

    def test_another_state(self, manager: UploadManager, ear: Ear) -> None:
        task = preprocess(manager)
        ear.take()
        assert manager.ImportVideo(task) is False
        manager.IntegrateUploadedFile("one", False)
        assert manager.ImportVideo(task) is False
        assert state(manager) == "integrated"

    def test_not_twice(self, manager: UploadManager) -> None:
        task = start_import(manager)
        assert manager.ImportVideo(task) is True
        assert manager.ImportVideo(task) is False
        assert state(manager) == "importartwork"

    @pytest.mark.parametrize("contenttype", ["album", "artwork"])
    def test_another_content_type(self, contenttype: str, manager: UploadManager) -> None:
        task = start_import(manager, contenttype=contenttype)
        assert manager.ImportVideo(task) is False
        assert state(manager) == "startimport"

    def test_an_unknown_task(self, manager: UploadManager, ear: Ear) -> None:
        assert manager.ImportVideo({"id": "two"}) is False
        assert unknown(ear.take(), "two")


class TestImportArtwork:
    def test_artworks_have_no_artwork_step(self, manager: UploadManager, ear: Ear) -> None:
        task = start_import(manager, contenttype="artwork")
        ear.take()
        assert manager.ImportArtwork(task) is True
        assert ear.states() == [("StateUpdate", "importcomplete")]

    def test_another_state(self, manager: UploadManager) -> None:
        assert manager.ImportArtwork(preprocess(manager, contenttype="artwork")) is False
        assert state(manager) == "preprocessed"

    def test_another_content_type(self, manager: UploadManager) -> None:
        assert manager.ImportArtwork(start_import(manager)) is False
        assert state(manager) == "startimport"


class TestImportAlbum:
    def test_albums_go_through_the_artwork_step(self, manager: UploadManager, ear: Ear) -> None:
        task = start_import(manager, contenttype="album")
        ear.take()
        assert manager.ImportAlbum(task) is True
        assert manager.ImportAlbumArtwork(task) is True
        assert ear.states() == [("StateUpdate", "importartwork"), ("StateUpdate", "importcomplete")]

    def test_another_content_type(self, manager: UploadManager) -> None:
        task = start_import(manager)
        assert manager.ImportAlbum(task) is False
        assert manager.ImportVideo(task) is True
        assert manager.ImportAlbumArtwork(task) is False
        assert state(manager) == "importartwork"


class TestImportVideoArtwork:
    def test_made(self, manager: UploadManager, ear: Ear, tmp_path: Path) -> None:
        task = start_import(manager)
        manager.ImportVideo(task)
        ear.take()
        assert manager.ImportVideoArtwork(task) is True
        assert ear.states() == [("StateUpdate", "importcomplete")]
        assert (tmp_path / "artwork" / "Queen" / "Jazz" / "frame.jpg").is_file()

    def test_it_cannot_be_made(self, manager: UploadManager, ear: Ear) -> None:
        task = start_import(manager, b"noart film")
        manager.ImportVideo(task)
        ear.take()
        assert manager.ImportVideoArtwork(task) is False
        assert ear.states() == [("InternalError", "importfailed")]

    def test_another_state(self, manager: UploadManager) -> None:
        task = start_import(manager)
        assert manager.ImportVideoArtwork(task) is False
        assert state(manager) == "startimport"

    def test_another_content_type(self, manager: UploadManager) -> None:
        task = start_import(manager, contenttype="album")
        manager.ImportAlbum(task)
        assert manager.ImportVideoArtwork(task) is False
        assert state(manager) == "importartwork"


class TestRequestRemoveUpload:
    @pytest.mark.parametrize(
        "reach",
        [initiate, upload, preprocess, start_import, complete],
    )
    def test_in_any_state(self, reach: Callable[[UploadManager], object], manager: UploadManager, ear: Ear) -> None:
        reach(manager)
        ear.take()
        assert manager.RequestRemoveUpload("one") is True
        assert ear.states() == [("StateUpdate", "remove")]

    def test_only_the_state_is_set(self, manager: UploadManager, tmp_path: Path) -> None:
        task = upload(manager)
        manager.RequestRemoveUpload("one")
        assert Path(task["destinationpath"]).is_file()
        assert json.loads((tmp_path / "uploads" / "tasks" / "one.json").read_bytes())["state"] == "remove"

    def test_the_management_deletes(self, make: Make, tmp_path: Path) -> None:
        manager = make(bus=None)
        upload(manager)
        manager.StartUploadManagementThread()
        manager.RequestRemoveUpload("one")
        assert manager.uploads.wait("one", timeout=10) is None
        assert list((tmp_path / "uploads" / "tasks").iterdir()) == []
        assert list((tmp_path / "uploads" / "data").iterdir()) == []

    def test_music_and_database_are_not_touched(self, manager: UploadManager, library: MemoryLibrary) -> None:
        task = complete(manager)
        manager.RequestRemoveUpload("one")
        manager.uploads.perform("one")
        assert manager.GetTasks() == {}
        assert Path(task["videofile"]).read_bytes() == b"a film"
        assert len(library.entries()) == 1

    def test_twice(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        manager.RequestRemoveUpload("one")
        ear.take()
        assert manager.RequestRemoveUpload("one") is False
        assert ear.take() == []

    @pytest.mark.parametrize("uploadid", ["two", "../one"])
    def test_an_unknown_id(self, uploadid: str, manager: UploadManager, ear: Ear) -> None:
        assert manager.RequestRemoveUpload(uploadid) is False
        assert unknown(ear.take(), uploadid)

    @pytest.mark.parametrize("uploadid", BAD_TYPES)
    def test_an_id_of_the_wrong_type(self, uploadid: Any, manager: UploadManager) -> None:
        with pytest.raises(TypeError, match="uploadid"):
            manager.RequestRemoveUpload(uploadid)


class TestRemoveTask:
    @pytest.mark.parametrize("reach", [initiate, upload, preprocess, start_import, complete])
    def test_nothing_is_left_of_it(
        self, reach: Callable[[UploadManager], object], manager: UploadManager, tmp_path: Path
    ) -> None:
        reach(manager)
        task = manager.GetTaskByID("one")
        assert manager.RemoveTask(task) is True
        assert manager.GetTasks() == {}
        left = {p.relative_to(tmp_path / "uploads").as_posix() for p in (tmp_path / "uploads").rglob("*")}
        assert left == {".lock", "tasks", "data"}

    def test_what_was_asked_for_before(self, manager: UploadManager) -> None:
        task = upload(manager)
        manager.RequestRemoveUpload("one")
        assert manager.RemoveTask(task) is True
        assert manager.GetTasks() == {}

    def test_clients_hear_of_the_state(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        ear.take()
        manager.RemoveTask(task)
        assert ear.states() == [("StateUpdate", "remove")]
        assert task["state"] == "remove"

    def test_an_unknown_task(self, manager: UploadManager, ear: Ear) -> None:
        assert manager.RemoveTask({"id": "two"}) is False
        assert unknown(ear.take(), "two")

    def test_an_old_copy_does_not_stand_for_a_new_upload(self, manager: UploadManager, ear: Ear) -> None:
        old = upload(manager)
        manager.RemoveTask(dict(old))
        upload(manager)
        ear.take()
        assert manager.RemoveTask(old) is False
        assert unknown(ear.take(), "one")
        assert state(manager) == "uploadcomplete"


class TestGetTaskByID:
    def test_all_keys(self, manager: UploadManager) -> None:
        initiate(manager)
        task = manager.GetTaskByID("one")
        assert set(SPECIFICATION_KEYS) <= set(task)
        assert {"schema", "uid", "revision", "created", "updated", "message", "history"} <= set(task)
        json.dumps(task)

    def test_a_copy(self, manager: UploadManager) -> None:
        initiate(manager)
        manager.AnnotateUpload("one", {"a": {"b": [1]}})
        before = manager.GetTaskByID("one")
        task = manager.GetTaskByID("one")
        task["state"] = "remove"
        task["annotations"]["a"]["b"].append(2)
        task["history"].clear()
        assert manager.GetTaskByID("one") == before

    @pytest.mark.parametrize("uploadid", BAD_TYPES)
    def test_an_id_of_the_wrong_type(self, uploadid: Any, manager: UploadManager) -> None:
        with pytest.raises(TypeError, match="uploadid"):
            manager.GetTaskByID(uploadid)

    @pytest.mark.parametrize("uploadid", ["two", "../one", "x" * 128])
    def test_an_unknown_id(self, uploadid: str, manager: UploadManager, ear: Ear) -> None:
        with pytest.raises(ValueError, match="no upload"):
            manager.GetTaskByID(uploadid)
        heard = ear.take()
        assert unknown(heard, uploadid)
        assert heard[0][1]["message"]

    def test_a_removed_id_is_not_valid_any_more(self, manager: UploadManager) -> None:
        manager.RemoveTask(upload(manager))
        with pytest.raises(ValueError, match="no upload"):
            manager.GetTaskByID("one")

    def test_paths_are_absolute(self, manager: UploadManager, tmp_path: Path) -> None:
        complete(manager)
        preprocess(manager, uploadid="two", contenttype="artwork", data=b"a cover")
        manager.AnnotateUpload("two", {"name": "Cover"})
        manager.IntegrateUploadedFile("two", False)
        film, cover = manager.GetTaskByID("one"), manager.GetTaskByID("two")
        assert film["destinationpath"].startswith(str(tmp_path / "uploads") + os.sep)
        assert (film["videofile"], film["artworkfile"]) == (str(tmp_path / "music/Queen/Jazz.mp4"), None)
        assert (cover["videofile"], cover["artworkfile"]) == (None, str(tmp_path / "artwork/Queen/Cover.mp4"))


class TestGetTasks:
    def test_all_by_id(self, manager: UploadManager) -> None:
        assert manager.GetTasks() == {}
        initiate(manager)
        upload(manager, uploadid="two")
        tasks = manager.GetTasks()
        assert tasks == {"one": manager.GetTaskByID("one"), "two": manager.GetTaskByID("two")}

    def test_copies(self, manager: UploadManager) -> None:
        initiate(manager)
        tasks = manager.GetTasks()
        tasks["one"]["state"] = "remove"
        tasks.clear()
        assert state(manager) == "waitforchunk"

    def test_the_offset_is_that_on_record(self, manager: UploadManager) -> None:
        initiate(manager)
        manager.NewChunk("one", b"a f")
        assert manager.GetTasks()["one"]["offset"] == 3


class TestSaveTask:
    def test_annotations(self, manager: UploadManager, ear: Ear, tmp_path: Path) -> None:
        initiate(manager)
        task = manager.GetTaskByID("one")
        ear.take()
        task["annotations"]["name"] = "Jazz"
        assert manager.SaveTask(task) is None  # type: ignore[func-returns-value]
        assert json.loads((tmp_path / "uploads" / "tasks" / "one.json").read_bytes())["annotations"] == {"name": "Jazz"}
        assert ear.states() == [("StateUpdate", "waitforchunk")]
        task["annotations"]["artist"] = "Queen"  # the copy is up to date, so it can be saved again
        manager.SaveTask(task)
        assert manager.GetTaskByID("one")["annotations"] == {"name": "Jazz", "artist": "Queen"}

    def test_nothing_changed(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        ear.take()
        manager.SaveTask(task)
        manager.SaveTask({"id": "one"})
        assert (manager.GetTaskByID("one"), ear.take()) == (task, [])

    def test_fires_the_row_that_leads_to_the_state(self, manager: UploadManager) -> None:
        task = upload(manager)
        task["state"] = "preprocessed"
        task["annotations"] |= NAMES
        manager.SaveTask(task)
        assert (state(manager), manager.GetTaskByID("one")["annotations"]) == ("preprocessed", NAMES)
        task["state"] = "integrated"
        manager.SaveTask(task)
        assert Path(task["videofile"]).read_bytes() == b"a film"

    @pytest.mark.parametrize(
        "wanted", ["waitforchunk", "integrated", "importcomplete", "invalidcontent", "notexisting"]
    )
    def test_no_row_leads_there(self, wanted: str, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        ear.take()
        task["state"] = wanted
        task["annotations"]["name"] = "Jazz"
        with pytest.raises(ValueError):  # noqa: PT011  -- the sentence differs
            manager.SaveTask(task)
        assert (state(manager), manager.GetTaskByID("one")["annotations"], ear.take()) == ("uploadcomplete", {}, [])

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("filesize", 7), ("contenttype", "album"), ("mimetype", "x/y"), ("sourcefilename", "other.mp4"),
            ("sourcechecksum", sha1(b"x")), ("destinationpath", "/etc/passwd"), ("videofile", "/etc/passwd"),
            ("artworkfile", "/etc/passwd"),
        ],
    )  # fmt: skip
    def test_nothing_else_can_be_changed(self, key: str, value: object, manager: UploadManager) -> None:
        before = upload(manager)
        with pytest.raises(ValueError, match=key):
            manager.SaveTask({**before, key: value})
        assert manager.GetTaskByID("one") == before

    def test_annotations_cannot_be_taken_away(self, manager: UploadManager) -> None:
        initiate(manager)
        manager.AnnotateUpload("one", {"a": 1, "b": 2})
        task = manager.GetTaskByID("one")
        del task["annotations"]["a"]
        with pytest.raises(ValueError, match="not taken away"):
            manager.SaveTask(task)

    def test_an_old_copy_takes_nothing_back(self, manager: UploadManager) -> None:
        preprocess(manager)
        old = manager.GetTaskByID("one")  # preprocessed: an undo would lead there
        manager.IntegrateUploadedFile("one", False)
        with pytest.raises(ValueError, match="has changed"):
            manager.SaveTask(old)
        assert state(manager) == "integrated"

    @pytest.mark.parametrize("uploadid", ["two", "../one"])
    def test_an_unknown_task(self, uploadid: str, manager: UploadManager, ear: Ear) -> None:
        with pytest.raises(ValueError, match="no upload"):
            manager.SaveTask({"id": uploadid})
        assert unknown(ear.take(), uploadid)

    @pytest.mark.parametrize("task", [None, "one", {}, {"id": 5}, {"id": "one", "annotations": []}])
    def test_what_is_no_task(self, task: Any, manager: UploadManager) -> None:
        initiate(manager)
        with pytest.raises(TypeError):
            manager.SaveTask(task)


class TestLoadTasks:
    def test_the_same_after_loading(self, manager: UploadManager) -> None:
        initiate(manager)
        manager.NewChunk("one", b"a f")
        preprocess(manager, uploadid="two")
        before = manager.GetTasks()
        assert manager.LoadTasks() is None  # type: ignore[func-returns-value]
        assert manager.GetTasks() == before
        assert manager.NewChunk("one", b"ilm") is True

    def test_what_the_files_say_replaces_the_list(self, manager: UploadManager, tmp_path: Path) -> None:
        upload(manager)
        upload(manager, uploadid="two")
        (tmp_path / "uploads" / "tasks" / "one.json").unlink()
        manager.LoadTasks()
        assert list(manager.GetTasks()) == ["two"]

    def test_a_task_file_of_musicdb(self, manager: UploadManager, tmp_path: Path) -> None:
        uploads = tmp_path / "uploads"
        name = f"video-{sha1(b'a film')}.mp4"
        (uploads / name).write_bytes(b"a film")
        old = {
            "id": "old", "filesize": 6, "offset": 6, "contenttype": "video", "mimetype": "video/mp4",
            "sourcefilename": "clip.mp4", "sourcechecksum": sha1(b"a film"), "destinationpath": str(uploads / name),
            "videofile": None, "artworkfile": None, "state": "preprocessed", "annotations": NAMES,
        }  # fmt: skip
        (uploads / "tasks" / "old.json").write_text(json.dumps(old))
        manager.LoadTasks()
        task = manager.GetTaskByID("old")
        assert {key: task[key] for key in old if key != "destinationpath"} == {
            key: value for key, value in old.items() if key != "destinationpath"
        }
        assert Path(task["destinationpath"]).read_bytes() == b"a film"
        assert manager.IntegrateUploadedFile("old", False) is True

    def test_a_damaged_file_stops_nothing(self, manager: UploadManager, tmp_path: Path) -> None:
        upload(manager)
        (tmp_path / "uploads" / "tasks" / "torn.json").write_text('{"id": "torn"')
        manager.LoadTasks()
        assert list(manager.GetTasks()) == ["one"]

    @pytest.mark.parametrize("bus", [InlineBus, ThreadedBus, lambda: None])
    def test_callbacks_and_management_stay(self, bus: Callable[[], Any], make: Make) -> None:
        manager = make(bus=bus())
        heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        manager.RegisterCallback(lambda notification, data: heard.put(data["state"]))
        manager.StartUploadManagementThread()
        manager.LoadTasks()
        upload(manager)
        done = manager.uploads.wait("one", timeout=10)
        assert done is not None
        assert done.state == "preprocessed"
        assert [heard.get(timeout=10) for _ in range(3)] == ["waitforchunk", "uploadcomplete", "preprocessed"]


class TestUpdateTaskState:
    def test_a_state_update_is_sent(self, manager: UploadManager, ear: Ear, tmp_path: Path) -> None:
        task = upload(manager)
        ear.take()
        assert manager.UpdateTaskState(task, "remove") is None  # type: ignore[func-returns-value]
        assert ear.states() == [("StateUpdate", "remove")]
        assert json.loads((tmp_path / "uploads" / "tasks" / "one.json").read_bytes())["state"] == "remove"
        assert task["state"] == "remove"

    def test_a_message_is_sent_as_an_internal_error(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        ear.take()
        manager.UpdateTaskState(task, "remove", "It is a bomb.")
        [(notification, data)] = [heard for heard in ear.take() if heard[1]["message"]]
        assert (notification, data["state"], data["message"]) == ("InternalError", "remove", "It is a bomb.")

    def test_the_state_that_is_there(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        ear.take()
        manager.UpdateTaskState(task, "uploadcomplete")
        manager.UpdateTaskState(task, "uploadcomplete", "Careful.")
        assert [(n, d["state"], d["message"]) for n, d in ear.take()] == [
            ("StateUpdate", "uploadcomplete", None),
            ("InternalError", "uploadcomplete", "Careful."),
        ]
        assert manager.GetTaskByID("one") == task

    def test_the_rows_of_a_whole_life(self, manager: UploadManager) -> None:
        task = upload(manager)
        manager.AnnotateUpload("one", NAMES)
        for wanted in (
            "preprocessed", "integrated", "preprocessed", "integrated", "startimport", "importartwork",
            "importcomplete", "preprocessed", "remove",
        ):  # fmt: skip
            manager.UpdateTaskState(task, wanted)
            assert (task["state"], state(manager)) == (wanted, wanted)

    @pytest.mark.parametrize(
        ("data", "failed", "repaired"),
        [
            (b"a film", "uploadfailed", "waitforchunk"),
            (b"bad", "invalidcontent", "uploadcomplete"),
            (b"noimport", "importfailed", "startimport"),
        ],
    )
    def test_retries(self, data: bytes, failed: str, repaired: str, manager: UploadManager) -> None:
        initiate(manager, data, checksum=sha1(b"x" if failed == "uploadfailed" else data))
        manager.NewChunk("one", data)
        manager.AnnotateUpload("one", NAMES)
        task = manager.GetTaskByID("one")
        if failed != "uploadfailed" and manager.PreProcessUploadedFile(task):
            manager.IntegrateUploadedFile("one", True)
            manager.ImportVideo(task)
        assert task["state"] == failed
        manager.UpdateTaskState(task, repaired)
        assert state(manager) == repaired

    def test_re_annotation_and_retry(self, manager: UploadManager) -> None:
        task = upload(manager)
        manager.PreProcessUploadedFile(task)
        assert manager.IntegrateUploadedFile("one", False) is False
        assert state(manager) == "integrationfailed"
        manager.AnnotateUpload("one", NAMES)
        manager.UpdateTaskState(task, "preprocessed")
        assert manager.IntegrateUploadedFile("one", False) is True

    def test_all_bytes_must_be_there(self, manager: UploadManager, ear: Ear) -> None:
        initiate(manager)
        ear.take()
        with pytest.raises(ValueError, match="did not lead"):
            manager.UpdateTaskState(manager.GetTaskByID("one"), "uploadcomplete")
        assert (state(manager), ear.take()) == ("waitforchunk", [])

    def test_content_must_be_accepted(self, manager: UploadManager) -> None:
        task = upload(manager, b"bad")
        with pytest.raises(ValueError, match="This content is bad"):
            manager.UpdateTaskState(task, "preprocessed")
        assert state(manager) == "invalidcontent"

    @pytest.mark.parametrize("wanted", ["uploadfailed", "invalidcontent", "integrationfailed", "importfailed"])
    def test_a_failure_cannot_be_claimed(self, wanted: str, manager: UploadManager) -> None:
        task = upload(manager)
        with pytest.raises(ValueError, match="leads"):
            manager.UpdateTaskState(task, wanted, "Because I say so.")
        assert state(manager) == "uploadcomplete"

    @pytest.mark.parametrize("wanted", ["", "done", "UPLOADCOMPLETE", "notexisting"])
    def test_what_is_no_stored_state(self, wanted: str, manager: UploadManager) -> None:
        task = upload(manager)
        with pytest.raises(ValueError):  # noqa: PT011  -- the sentence differs
            manager.UpdateTaskState(task, wanted)

    def test_nothing_leaves_remove(self, manager: UploadManager) -> None:
        task = upload(manager)
        manager.RequestRemoveUpload("one")
        with pytest.raises(ValueError, match="from remove"):
            manager.UpdateTaskState(task, "uploadcomplete")

    def test_wrong_types(self, manager: UploadManager) -> None:
        task = upload(manager)
        wrong: list[tuple[Any, ...]] = [
            (None, "remove"), ("one", "remove"), ({}, "remove"), (task, 5), (task, "remove", 5),
        ]  # fmt: skip
        for arguments in wrong:
            with pytest.raises(TypeError):
                manager.UpdateTaskState(*arguments)
        assert state(manager) == "uploadcomplete"

    def test_an_unknown_task(self, manager: UploadManager, ear: Ear) -> None:
        with pytest.raises(ValueError, match="no upload"):
            manager.UpdateTaskState({"id": "two"}, "remove")
        assert unknown(ear.take(), "two")


class TestNotifyClient:
    @pytest.mark.parametrize("notification", ["ChunkRequest", "StateUpdate", "InternalError"])
    @pytest.mark.parametrize("message", [None, "Hello."])
    def test_the_data(self, notification: str, message: str | None, manager: UploadManager, ear: Ear) -> None:
        initiate(manager, filesize=1_000_000)
        manager.NewChunk("one", b"a f")
        task = manager.GetTaskByID("one")
        ear.take()
        assert manager.NotifyClient(notification, task, message) is None  # type: ignore[func-returns-value]
        assert ear.take() == [
            (
                notification,
                {
                    "uploadid": "one",
                    "offset": 3,
                    "chunksize": 409_600,
                    "state": "waitforchunk",
                    "message": message,
                    "uploadtask": task,
                },
            )
        ]

    @pytest.mark.parametrize("notification", ["", "chunkrequest", "UploadComplete", None, 5])
    def test_an_unknown_name(self, notification: Any, manager: UploadManager, ear: Ear) -> None:
        with pytest.raises(ValueError, match="no notification"):
            manager.NotifyClient(notification, None)
        assert ear.take() == []

    def test_no_task(self, manager: UploadManager, ear: Ear) -> None:
        manager.NotifyClient("InternalError", None, "There is no such upload.")
        assert ear.take() == [
            (
                "InternalError",
                {
                    "uploadid": None,
                    "offset": 0,
                    "chunksize": 0,
                    "state": "notexisting",
                    "message": "There is no such upload.",
                    "uploadtask": None,
                },
            )
        ]

    def test_a_task_that_is_gone(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        manager.RemoveTask(dict(task))
        ear.take()
        manager.NotifyClient("StateUpdate", task)
        [(notification, data)] = ear.take()
        assert (notification, data["uploadid"], data["state"]) == ("StateUpdate", "one", "notexisting")

    def test_an_old_copy_does_not_stand_for_a_new_upload(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        manager.RemoveTask(dict(task))
        upload(manager)
        ear.take()
        manager.NotifyClient("StateUpdate", task)
        assert ear.states() == [("StateUpdate", "notexisting")]

    def test_what_is_told_is_what_is_on_record(self, manager: UploadManager, ear: Ear) -> None:
        task = upload(manager)
        task["state"] = "importcomplete"
        ear.take()
        manager.NotifyClient("StateUpdate", task)
        assert ear.states() == [("StateUpdate", "uploadcomplete")]

    def test_wrong_types(self, manager: UploadManager) -> None:
        with pytest.raises(TypeError):
            manager.NotifyClient("StateUpdate", "one")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            manager.NotifyClient("StateUpdate", None, 5)  # type: ignore[arg-type]

    def test_every_notification_has_all_keys(self, manager: UploadManager, ear: Ear) -> None:
        complete(manager)
        manager.RemoveTask(manager.GetTaskByID("one"))
        manager.NewChunk("two", b"")
        heard = ear.take()
        assert {frozenset(data) for _, data in heard} == {frozenset(KEYS)}
        assert {notification for notification, _ in heard} == {"ChunkRequest", "StateUpdate", "InternalError"}
        json.dumps(heard)


class TestRegisterCallback:
    def test_a_callback_that_raises_disturbs_no_other(
        self, manager: UploadManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        before, after = Ear(), Ear()

        def bad(notification: str, data: dict[str, Any]) -> None:
            data.clear()
            raise RuntimeError("out of order")

        for function in (before, bad, after):
            assert manager.RegisterCallback(function) is None  # type: ignore[func-returns-value]
        initiate(manager)
        assert before.take() == after.take() != []
        assert any("out of order" in str(r.exc_info) for r in caplog.records)

    def test_all_clients_are_informed(self, manager: UploadManager) -> None:
        ears = [Ear() for _ in range(5)]
        for ear in ears:
            manager.RegisterCallback(ear)
        upload(manager)
        assert all(
            ear.states() == [("ChunkRequest", "waitforchunk"), ("StateUpdate", "uploadcomplete")] for ear in ears
        )

    def test_data_is_a_copy_for_each(self, manager: UploadManager) -> None:
        def greedy(notification: str, data: dict[str, Any]) -> None:
            data["uploadtask"]["annotations"]["mine"] = True

        ear = Ear()
        manager.RegisterCallback(greedy)
        manager.RegisterCallback(ear)
        initiate(manager)
        assert ear.take()[0][1]["uploadtask"]["annotations"] == {}

    def test_a_callback_may_call_the_manager(self, manager: UploadManager) -> None:
        def client(notification: str, data: dict[str, Any]) -> None:
            if notification == "ChunkRequest":
                assert manager.NewChunk(data["uploadid"], b"a film"[data["offset"] :][:1]) is True

        manager.RegisterCallback(client)
        initiate(manager)
        assert state(manager) == "uploadcomplete"

    def test_what_cannot_be_called(self, manager: UploadManager) -> None:
        with pytest.raises(TypeError, match="callable"):
            manager.RegisterCallback("function")  # type: ignore[arg-type]

    def test_a_callback_that_blocks_delays_no_other(self, make: Make) -> None:
        manager = make(bus=None)
        gate, heard = threading.Event(), threading.Event()
        manager.RegisterCallback(lambda notification, data: gate.wait(10) and None)
        manager.RegisterCallback(lambda notification, data: heard.set())
        initiate(manager)
        assert heard.wait(10)
        gate.set()


class TestRemoveCallback:
    def test_it_is_called_no_more(self, manager: UploadManager, ear: Ear) -> None:
        assert manager.RemoveCallback(ear) is None  # type: ignore[func-returns-value]
        initiate(manager)
        assert ear.take() == []

    def test_one_that_is_not_registered(self, manager: UploadManager, caplog: pytest.LogCaptureFixture) -> None:
        manager.RemoveCallback(print)
        assert "not registered" in caplog.text

    def test_bound_methods_are_equal_not_identical(self, manager: UploadManager) -> None:
        ear = Ear()
        manager.RegisterCallback(ear.__call__)
        manager.RemoveCallback(ear.__call__)
        initiate(manager)
        assert ear.take() == []

    def test_registered_twice_removed_once(self, manager: UploadManager, ear: Ear) -> None:
        manager.RegisterCallback(ear)
        initiate(manager)
        assert len(ear.take()) == 2
        manager.RemoveCallback(ear)
        initiate(manager)
        assert len(ear.take()) == 1

    def test_during_delivery(self, manager: UploadManager) -> None:
        later = Ear()

        def once(notification: str, data: dict[str, Any]) -> None:
            manager.RemoveCallback(once)
            manager.RemoveCallback(later)
            calls.append(notification)

        calls: list[str] = []
        last = Ear()
        for function in (once, later, last):
            manager.RegisterCallback(function)
        upload(manager)
        assert calls == ["ChunkRequest"]
        assert later.take() == []
        assert len(last.take()) == 2

    def test_during_delivery_in_its_own_thread(self, make: Make) -> None:
        manager = make(bus=None)
        calls: queue.SimpleQueue[str] = queue.SimpleQueue()

        def once(notification: str, data: dict[str, Any]) -> None:
            manager.RemoveCallback(once)
            calls.put(notification)

        manager.RegisterCallback(once)
        upload(manager)
        manager.Close()
        assert calls.get(timeout=10) == "ChunkRequest"
        assert calls.empty()


def management_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(("stagedoor-management", "stagedoor-step"))]


class TestManagementThread:
    def test_does_what_is_due(self, make: Make) -> None:
        manager = make(bus=None)
        manager.StartUploadManagementThread()
        upload(manager)
        done = manager.uploads.wait("one", timeout=10)
        assert done is not None
        assert done.state == "preprocessed"

    def test_finds_at_its_start_what_is_due(self, make: Make) -> None:
        manager = make(bus=None)
        upload(manager)
        manager.StartUploadManagementThread()
        done = manager.uploads.wait("one", timeout=10)
        assert done is not None
        assert done.state == "preprocessed"

    def test_stop_blocks_until_the_threads_are_gone(self, make: Make) -> None:
        class Slow(PlainContent):
            def preprocess(self, task: UploadTask, source: Any) -> Any:
                entered.set()
                assert gate.wait(10)
                return super().preprocess(task, source)

        entered, gate = threading.Event(), threading.Event()
        manager = make(bus=None, contents=[Slow()])
        manager.StartUploadManagementThread()
        upload(manager)
        assert entered.wait(10)
        stopping = threading.Thread(target=manager.StopUploadManagementThread)
        stopping.start()
        assert management_threads()
        gate.set()
        stopping.join(10)
        assert management_threads() == []
        assert state(manager) == "preprocessed"  # the step under way ended

    def test_twice_is_no_error(self, manager: UploadManager) -> None:
        manager.StartUploadManagementThread()
        manager.StartUploadManagementThread()
        assert len([t for t in management_threads() if "management" in t.name]) == 1
        manager.StopUploadManagementThread()
        manager.StopUploadManagementThread()
        assert management_threads() == []

    def test_it_can_be_started_again(self, make: Make) -> None:
        manager = make(bus=None)
        manager.StartUploadManagementThread()
        manager.StopUploadManagementThread()
        upload(manager)
        assert state(manager) == "uploadcomplete"
        manager.StartUploadManagementThread()
        done = manager.uploads.wait("one", timeout=10)
        assert done is not None
        assert done.state == "preprocessed"

    def test_a_bad_upload_stops_nobody_else(self, make: Make) -> None:
        class Broken(PlainContent):
            def preprocess(self, task: UploadTask, source: Any) -> Any:
                if task.id == "one":
                    raise ZeroDivisionError
                return super().preprocess(task, source)

        manager = make(bus=None, contents=[Broken()])
        manager.StartUploadManagementThread()
        upload(manager)
        upload(manager, uploadid="two")
        done = manager.uploads.wait("two", timeout=10)
        assert done is not None
        assert done.state == "preprocessed"

    def test_a_client_that_answers_by_itself(self, make: Make, library: MemoryLibrary) -> None:
        """MusicDB's page: a chunk for every request, and integration as soon as an artwork is preprocessed."""
        manager, data = make(bus=None), b"a cover"

        def page(notification: str, heard: dict[str, Any]) -> None:
            if notification == "ChunkRequest":
                manager.NewChunk("one", data[heard["offset"] :][:3])
            elif heard["state"] == "uploadcomplete":
                manager.AnnotateUpload("one", NAMES)
            elif heard["state"] == "preprocessed":
                manager.IntegrateUploadedFile("one", True)
            elif heard["state"] == "importcomplete":
                done.set()

        done = threading.Event()
        manager.RegisterCallback(page)
        manager.StartUploadManagementThread()
        initiate(manager, data, contenttype="artwork")
        assert done.wait(10)
        assert len(library.entries()) == 1

    def test_a_removal_waits_for_the_step_under_way(self, make: Make) -> None:
        class Slow(PlainContent):
            def preprocess(self, task: UploadTask, source: Any) -> Any:
                entered.set()
                assert gate.wait(10)
                return super().preprocess(task, source)

        entered, gate = threading.Event(), threading.Event()
        manager = make(bus=None, contents=[Slow()])
        manager.StartUploadManagementThread()
        task = upload(manager)
        assert entered.wait(10)
        assert manager.RemoveTask(task) is False
        assert (task["state"], state(manager)) == ("remove", "remove")
        gate.set()
        assert manager.uploads.wait("one", timeout=10) is None

    def test_a_step_that_the_management_is_at_is_left_to_it(self, make: Make) -> None:
        class Slow(PlainContent):
            def preprocess(self, task: UploadTask, source: Any) -> Any:
                entered.set()
                assert gate.wait(10)
                return super().preprocess(task, source)

        entered, gate = threading.Event(), threading.Event()
        manager = make(bus=None, contents=[Slow()])
        manager.StartUploadManagementThread()
        task = upload(manager)
        assert entered.wait(10)
        assert manager.PreProcessUploadedFile(task) is False
        gate.set()
        done = manager.uploads.wait("one", timeout=10)
        assert done is not None
        assert done.state == "preprocessed"


class TestClose:
    def test_stops_and_releases(self, make: Make) -> None:
        manager = make(bus=None)
        manager.StartUploadManagementThread()
        heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        manager.RegisterCallback(lambda notification, data: heard.put(notification))
        initiate(manager)
        manager.Close()
        manager.Close()
        assert heard.get_nowait() == "ChunkRequest"  # what was to be told was told first
        assert management_threads() == []
        make()

    def test_a_context_manager(self, config: Config, library: MemoryLibrary) -> None:
        with UploadManager(config, library, durability="none", contents=[]) as manager:
            manager.StartUploadManagementThread()
        assert management_threads() == []


# ── rules for all of them ─────────────────────────────────────────────────────────────────────────────────────


class TestLog:
    def test_what_strangers_sent_is_escaped(self, manager: UploadManager, caplog: pytest.LogCaptureFixture) -> None:
        evil = "one\n2026-01-01 CRITICAL forged\x1b[31m\u202e"
        manager.NewChunk(evil, b"a")
        manager.RequestRemoveUpload(evil)
        manager.PreProcessUploadedFile({"id": evil})
        with pytest.raises(ValueError, match="no upload"):
            manager.GetTaskByID(evil)
        initiate(manager, sourcefilename="a\n\x1b[31m.mp4")
        initiate(manager, sourcefilename="b\n\x1b[31m.mp4")
        assert caplog.records
        for record in caplog.records:
            assert record.getMessage().isprintable()

    def test_a_long_id_is_cut(self, manager: UploadManager, caplog: pytest.LogCaptureFixture, ear: Ear) -> None:
        manager.NewChunk("x" * 1_000_000, b"a")
        assert max(len(r.getMessage()) for r in caplog.records) < 1_000
        assert len(ear.take()[0][1]["uploadid"]) == 128


def test_the_names_of_the_specification() -> None:
    """Names and parameters, as the documentation page of MusicDB gives them."""
    import inspect

    signatures = {
        "AnnotateUpload": "uploadid annotations",
        "GetTaskByID": "uploadid",
        "GetTasks": "",
        "ImportArtwork": "task",
        "ImportVideo": "task",
        "ImportVideoArtwork": "task",
        "InitiateUpload": "uploadid mimetype contenttype filesize checksum sourcefilename",
        "IntegrateUploadedFile": "uploadid triggerimport",
        "IntegrateVideo": "task",
        "LoadTasks": "",
        "NewChunk": "uploadid rawdata",
        "NotifyClient": "notification task message",
        "PreProcessArtwork": "task",
        "PreProcessUploadedFile": "task",
        "PreProcessVideo": "task",
        "RegisterCallback": "function",
        "RemoveCallback": "function",
        "RemoveTask": "task",
        "RequestRemoveUpload": "uploadid",
        "SaveTask": "task",
        "UpdateTaskState": "task state errormessage",
        "UploadCompleted": "task",
    }
    for name, parameters in signatures.items():
        found = list(inspect.signature(getattr(UploadManager, name)).parameters)
        assert found == ["self", *parameters.split()], name
    assert list(inspect.signature(UploadManager).parameters)[:2] == ["config", "database"]
