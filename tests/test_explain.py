"""Explanations: true of what the engine does, and as a person would say it."""

from __future__ import annotations

import hashlib
import json
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from stagedoor.adapters.inprocess import InlineBus
from stagedoor.adapters.memory import MemoryBytes, MemoryTasks, MemoryTree
from stagedoor.engine import Uploads
from stagedoor.errors import Refused, StorageError, TaskNotFound
from stagedoor.explain import Explanation, count, duration, explain, moment, size, stamp
from stagedoor.library.memory import MemoryLibrary
from stagedoor.lifecycle import ROWS, By, State, Trigger
from stagedoor.ports import Preprocessed, Source, Surroundings
from stagedoor.session import Session
from stagedoor.settings import Settings
from stagedoor.tasks import Finding, Offer, Plan, UploadTask, evolve
from stagedoor.testing.content import PlainContent

NAMES = {"artistname": "Alpha", "name": "Beta"}


@pytest.fixture(autouse=True)
def _greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class House:
    """A real engine in memory, and a clock that goes when it is told to."""

    def __init__(self, *contents: PlainContent, **limits: Any) -> None:
        self.now = 1_000_000.0
        self.trees = {name: MemoryTree(name) for name in ("music", "artwork")}
        self.heard: list[object] = []
        self.uploads = Uploads(
            bytes=MemoryBytes(),
            tasks=MemoryTasks(),
            trees=self.trees,
            library=MemoryLibrary(),
            contents=contents or (PlainContent(failures={"preprocess": 9}), PlainContent("sound", has_artwork=False)),
            settings=Settings(**({"free_floor": 0} | limits)),
            bus=InlineBus(),
            clock=lambda: self.now,
        )
        self.uploads.subscribe(self.heard.append)

    def offer(self, data: bytes = b"fine film", **other: Any) -> House:
        declared: dict[str, Any] = {
            "filename": "film.mp4",
            "contenttype": "video",
            "filesize": len(data),
            "sha1": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            "annotations": NAMES,
        }
        self.uploads.initiate(Offer("one", **(declared | other)))
        self.data = data
        return self.later(60)

    def send(self, data: bytes = b"fine film", **other: Any) -> House:
        self.offer(data, **other)
        self.uploads.receive("one", offset=0, data=data)
        return self.later(60)

    def perform(self, times: int = 1) -> House:
        for _ in range(times):
            assert self.uploads.perform("one")
        return self.later(60)

    def later(self, seconds: float) -> House:
        self.now += seconds
        return self

    def explain(self) -> Explanation:
        return explain(self.uploads, "one")


def waiting() -> House:
    return House().offer()


def part() -> House:
    house = House().offer()
    house.uploads.receive("one", offset=0, data=b"fine")
    return house


def undeclared() -> House:
    house = House().offer(filesize=None, sha1=None)
    house.uploads.receive("one", offset=0, data=b"fine")
    return house


def unhashed() -> House:
    """All bytes are here, and the process that hashed them as they came is gone."""
    house = House().offer()
    house.uploads._live.clear()
    house.uploads.receive("one", offset=0, data=house.data)
    return house


def overdue() -> House:
    return House().offer().later(8 * 86_400)


def switched_off() -> House:
    house = House().offer()
    uploads = house.uploads
    uploads.ports = attrs.evolve(uploads.ports, settings=attrs.evolve(uploads.settings, allow=False))
    return house


def complete() -> House:
    return House().send()


def failed() -> House:
    return House().send(sha1="0" * 40)


def restarted() -> House:
    house = failed()
    house.uploads.retry("one")
    return house.later(5)


def invalid() -> House:
    return House().send(b"bad film").perform()


def another_look() -> House:
    house = invalid()
    house.uploads.retry("one")
    return house


def shaky() -> House:
    house = House().send(b"shaky film").perform()
    return house.later(-60)  # the pause before the second attempt is one second


def shaken() -> House:
    return House().send(b"shaky film").perform().perform().perform()


def given_up() -> House:
    return House().send(b"shaky film").perform().perform().perform().perform()


def accepted() -> House:
    return House().send().perform()


def asked() -> House:
    return House().send(b"ask me").perform()


def answered() -> House:
    house = asked()
    house.uploads.annotate("one", {"answers.which": "this one"})
    return house


def nameless() -> House:
    return House().send(annotations={}).perform()


def wanted() -> House:
    house = accepted()
    house.uploads.request("one", trigger_import=True)
    return house.later(3)


def integrated() -> House:
    house = accepted()
    house.uploads.integrate("one")
    return house.later(60)


def integrated_and_wanted() -> House:
    return wanted().perform()


def integration_failed() -> House:
    house = nameless()
    house.uploads.integrate("one")
    return house.later(60)


def back_from_failure() -> House:
    house = integration_failed()
    house.uploads.retry("one")
    return house.later(60)


def importing(data: bytes = b"fine film", **other: Any) -> House:
    house = House().send(data, **other).perform()
    house.uploads.integrate("one")
    house.uploads.start_import("one")
    return house.later(60)


def illustrating() -> House:
    return importing().perform()


def finished() -> House:
    return importing().perform(2)


def import_failed() -> House:
    return importing(b"noimport").perform()


def artwork_failed() -> House:
    return importing(b"noart").perform(2)


def undoing() -> House:
    """Asked for, and the process that was to do it is gone."""
    house = finished()

    def fail(session: Session) -> bool:
        raise StorageError("The disk is slow.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "undone", fail)
        with pytest.raises(StorageError, match="tried again"):
            house.uploads.undo("one")
    return house.later(60)


def undone() -> House:
    house = finished()
    house.uploads.undo("one")
    return house.later(60)


def removed() -> House:
    house = finished()
    house.uploads.remove("one")
    return house.later(60)


def expired() -> House:
    house = accepted().later(40 * 86_400)
    house.uploads.expire("one")
    return house


def nobody() -> House:
    return House()


CASES = [
    nobody, waiting, part, undeclared, unhashed, overdue, switched_off, complete, failed, restarted, invalid,
    another_look, shaky, shaken, given_up, accepted, asked, answered, nameless, wanted, integrated,
    integrated_and_wanted, integration_failed, back_from_failure, importing, illustrating, finished, import_failed,
    artwork_failed, undoing, undone, removed, expired,
]  # fmt: skip


def case(name: str) -> House:
    return next(make for make in CASES if make.__name__ == name)()


def told(found: Explanation) -> str:
    """An explanation as text, what is the same in every state left out."""
    lines = [f"{found.state}"]
    lines += [f"  {line}" for line in found.why]
    lines += [f"  > {line}" for line in found.next]
    lines += [f"  ! {line}" for line in found.obstacles]
    usual = (Trigger.REMOVE, Trigger.ANNOTATE)
    lines += [f"  + {a.sentence} [{a.command}]" for a in found.possible if a.trigger not in usual]
    dull = ({Trigger.RETRY}, {Trigger.REQUEST_UNDO}, {Trigger.CHUNK, Trigger.DECLARE})
    lines += [
        f"  - {r.sentence} {r.remedy} [{r.command}]{f' by {r.guard}' if r.guard else ''}"
        for r in found.refused
        if set(r.triggers) not in dull or r.guard or found.state in (State.UPLOADFAILED, State.IMPORTARTWORK)
    ]
    return "".join(
        textwrap.fill(line, 110, subsequent_indent="      ", break_long_words=False) + "\n" for line in lines
    )


GOLDEN = """
nobody
notexisting
  There is no upload 'one': it was never offered, or it has been removed.
  > Nothing.
  - Whatever is asked of it is refused, because there is no such upload. Look at the list for the right id, or
      offer the file. [stagedoor list]

waiting
waitforchunk
  “film.mp4” was offered 1 minute ago as a video of 9 bytes.
  Nothing of it has arrived yet.
  > Nothing, until the client sends more.
  > If nobody does anything, it is removed in 7 days, on 1970-01-19 13:46.
  + Send it, at most 16,777,216 bytes at a time. [stagedoor add film.mp4]
  - It can be neither integrated nor imported: it is not here yet. Send the rest first. []

part
waitforchunk
  “film.mp4” was offered 1 minute ago as a video of 9 bytes.
  4 of 9 bytes have arrived (44 %).
  > Nothing, until the client sends more.
  > If nobody does anything, it is removed in 7 days, on 1970-01-19 13:46.
  + Send the bytes from 4 on, at most 16,777,216 bytes at a time. [stagedoor add film.mp4]
  - It can be neither integrated nor imported: it is not here yet. Send the rest first. []

undeclared
waitforchunk
  “film.mp4” was offered 1 minute ago as a video of unknown length.
  4 bytes have arrived; how many there will be is not declared yet.
  No SHA-1 was declared, so nobody can tell whether what arrives is what was sent.
  > Nothing, until the client sends more.
  > If nobody does anything, it is removed in 7 days, on 1970-01-19 13:46.
  + Send the bytes from 4 on, at most 16,777,216 bytes at a time. [stagedoor add film.mp4]
  + Declare its length and its SHA-1. []
  - It can be neither integrated nor imported: it is not here yet. Send the rest first. []

unhashed
waitforchunk
  “film.mp4” was offered 1 minute ago as a video of 9 bytes.
  All 9 bytes are here, but their SHA-1 has not been compared yet.
  > The management thread reads all bytes again and compares their SHA-1.
  > Then it is uploadcomplete, or uploadfailed if that fails.
  - More bytes are not taken: all are here. There is nothing left to send; wait for the checksum. [] by
      chunk_fits
  - It can be neither integrated nor imported: nobody knows yet whether it arrived well. Wait until its SHA-1
      is compared. []

overdue
waitforchunk
  “film.mp4” was offered 8 days ago as a video of 9 bytes.
  Nothing of it has arrived yet.
  > Nothing, until the client sends more.
  > It expired 24 hours ago and is removed as soon as the management thread looks.
  + Send it, at most 16,777,216 bytes at a time. [stagedoor add film.mp4]
  + Remove it, because its time is over. []
  - It can be neither integrated nor imported: it is not here yet. Send the rest first. []

switched_off
waitforchunk
  “film.mp4” was offered 1 minute ago as a video of 9 bytes.
  Nothing of it has arrived yet.
  > Nothing, until the client sends more.
  > If nobody does anything, it is removed in 7 days, on 1970-01-19 13:46.
  - Uploads are switched off on this server. Ask whoever runs the server to switch uploads on. [] by
      chunk_fits
  - It can be neither integrated nor imported: it is not here yet. Send the rest first. []

complete
uploadcomplete
  All 9 bytes of “film.mp4” are here; their SHA-1 was found right 1 minute ago.
  > The management thread looks at the content.
  > Then it is preprocessed, or invalidcontent if that fails.
  - It can be neither integrated nor imported: its content has not been looked at yet. Wait until it has. []

failed
uploadfailed
  The upload of “film.mp4” failed 1 minute ago: The file that arrived has the SHA-1
      ccf70c46585368fcf95ef27077296a72394a24c1, but 0000000000000000000000000000000000000000 was declared.
      Send it again.
  > Nothing: somebody has to start it again, or remove it.
  > If nobody does anything, it is removed in 7 days, on 1970-01-19 13:47.
  + Start again from the first byte. [stagedoor retry one]
  - More bytes are not taken: the upload failed. Retry first; then send it from the first byte. [stagedoor
      retry one]
  - It can be neither integrated nor imported: its upload failed. Retry, and send it again. [stagedoor retry
      one]
  - There is nothing to undo: it is not in the library.  []

restarted
waitforchunk
  “film.mp4” was started again 5 seconds ago.
  The attempt before failed: The file that arrived has the SHA-1 ccf70c46585368fcf95ef27077296a72394a24c1, but
      0000000000000000000000000000000000000000 was declared. Send it again.
  Nothing of it has arrived yet.
  > Nothing, until the client sends more.
  > If nobody does anything, it is removed in 7 days, on 1970-01-19 13:48.
  + Send it, at most 16,777,216 bytes at a time. [stagedoor add film.mp4]
  - It can be neither integrated nor imported: it is not here yet. Send the rest first. []

invalid
invalidcontent
  The content of “film.mp4” was refused 1 minute ago: This content is bad.
  > Nothing: somebody has to ask for another look, or remove it.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:48.
  + Have the content looked at once more. [stagedoor retry one]
  - It can be neither integrated nor imported: its content was refused. Retry for another look, or upload a
      better file. [stagedoor retry one]

another_look
uploadcomplete
  All 8 bytes are here. Somebody asked just now to look at the content once more.
  > The management thread looks at the content.
  > Then it is preprocessed, or invalidcontent if that fails.
  - It can be neither integrated nor imported: its content has not been looked at yet. Wait until it has. []

shaky
uploadcomplete
  All 10 bytes of “film.mp4” are here; their SHA-1 was found right 1 minute ago.
  > The management thread looks at the content.
  > Attempt 1 of 3 failed: The preprocess step shakes.
  > It is tried again in 1 second.
  > Then it is preprocessed, or invalidcontent if that fails.
  - It can be neither integrated nor imported: its content has not been looked at yet. Wait until it has. []

shaken
uploadcomplete
  All 10 bytes of “film.mp4” are here; their SHA-1 was found right 4 minutes ago.
  > The management thread looks at the content.
  > Attempt 3 of 3 failed: The preprocess step shakes.
  > That was the last one: it becomes invalidcontent at once.
  - It can be neither integrated nor imported: its content has not been looked at yet. Wait until it has. []

given_up
invalidcontent
  The content of “film.mp4” was refused 1 minute ago: Tried 3 times. The preprocess step shakes.
  > Nothing: somebody has to ask for another look, or remove it.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:51.
  + Have the content looked at once more. [stagedoor retry one]
  - It can be neither integrated nor imported: its content was refused. Retry for another look, or upload a
      better file. [stagedoor retry one]

accepted
preprocessed
  The content of “film.mp4” was accepted 1 minute ago.
  > Nothing: it waits for somebody to ask for the integration.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:48.
  + Have it put into the library, and imported. [stagedoor import one]
  - It cannot be imported: it is not in the library yet. Ask for the integration, with the import. [stagedoor
      import one]

asked
preprocessed
  The content of “film.mp4” was accepted 1 minute ago.
  An open question: Which one is it?
  > Nothing: it waits for somebody to ask for the integration.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:48.
  - Which one is it? Answer with the annotation answers.which first. Then ask again. [stagedoor annotate one
      answers.which=ANSWER] by no_open_question
  - It cannot be imported: it is not in the library yet. Ask for the integration, with the import. [stagedoor
      import one]

answered
preprocessed
  The content of “film.mp4” was accepted 1 minute ago.
  It was asked: Which one is it? The answer is “this one”.
  > Nothing: it waits for somebody to ask for the integration.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:49.
  + Have it put into the library, and imported. [stagedoor import one]
  - It cannot be imported: it is not in the library yet. Ask for the integration, with the import. [stagedoor
      import one]

nameless
preprocessed
  The content of “film.mp4” was accepted 1 minute ago.
  > Nothing: it waits for somebody to ask for the integration.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:48.
  ! The annotation artistname is missing.
  + Have it put into the library, and imported. It would fail as things stand. [stagedoor import one]
  - It cannot be imported: it is not in the library yet. Ask for the integration, with the import. [stagedoor
      import one]

wanted
preprocessed
  The content of “film.mp4” was accepted 1 minute ago.
  Integration and import were asked for 3 seconds ago.
  > The management thread puts the files into the library.
  > Then it is integrated, or integrationfailed if that fails.
  + Ask for the integration again, with or without the import. []
  - It cannot be imported: it is not in the library yet. Ask for the integration, with the import. [stagedoor
      import one]

integrated
integrated
  It was put into the library 1 minute ago.
  The file is Alpha/Beta.mp4 in the music directory.
  > Nothing: it waits for somebody to ask for the import.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:49. What it put into the library stays
      there.
  + Have it imported into the music database. [stagedoor import one]
  + Take it back out of library and music database, provided that none of its files was changed since.
      [stagedoor undo one]
  - It cannot be integrated: it is in the library already. To integrate it anew, take the import back first.
      []

integrated_and_wanted
integrated
  It was put into the library 1 minute ago.
  The file is Alpha/Beta.mp4 in the music directory.
  Its import was asked for together with the integration.
  > The management thread starts the import.
  > Then it is startimport.
  + Have it imported into the music database. [stagedoor import one]
  + Take it back out of library and music database, provided that none of its files was changed since.
      [stagedoor undo one]
  - It cannot be integrated: it is in the library already. To integrate it anew, take the import back first.
      []

integration_failed
integrationfailed
  It could not be put into the library 1 minute ago: The annotation artistname is missing.
  None of its files is there.
  > Nothing: somebody has to mend the cause and retry, or remove it.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:49.
  ! The annotation artistname is missing.
  + Go back to where annotations can be corrected and the integration asked for again. [stagedoor retry one]
  - It can be neither integrated nor imported: the last attempt failed. Mend the cause, then retry. [stagedoor
      retry one]

back_from_failure
preprocessed
  The integration failed, and somebody went back 1 minute ago to correct the annotations.
  > Nothing: it waits for somebody to ask for the integration.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:50.
  ! The annotation artistname is missing.
  + Have it put into the library, and imported. It would fail as things stand. [stagedoor import one]
  - It cannot be imported: it is not in the library yet. Ask for the integration, with the import. [stagedoor
      import one]

importing
startimport
  It is in the library, and its import was started 1 minute ago.
  The file is Alpha/Beta.mp4 in the music directory.
  > The management thread tells the music database.
  > Then it is importartwork, or importfailed if that fails.
  - It cannot be integrated: it is in the library already. To integrate it anew, take the import back first.
      []
  - It cannot be imported: that is being done. Wait until it is. []

illustrating
importartwork
  The music database took it 1 minute ago; the artwork is still to be made.
  The file is Alpha/Beta.mp4 in the music directory.
  > The management thread makes the artwork.
  > Then it is importcomplete, or importfailed if that fails.
  - More bytes are not taken: the file is whole and verified. For another file, offer another upload. []
  - It cannot be integrated: it is in the library already. To integrate it anew, take the import back first.
      []
  - It cannot be imported: that is being done. Wait until it is. []
  - There is nothing to retry: nothing failed.  []
  - There is nothing to undo: the import is not finished. Wait until it is; then it can be taken back. []

finished
importcomplete
  It was completed 1 minute ago: the library and the music database have it.
  The file is Alpha/Beta.mp4 in the music directory.
  The file is Alpha/Beta/frame.jpg in the artwork directory.
  > Nothing: it is done.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:50. What it put into the library stays
      there.
  + Take it back out of library and music database, provided that none of its files was changed since.
      [stagedoor undo one]
  - It cannot be integrated: it is in the library already. To integrate it anew, take the import back first.
      []
  - It cannot be imported: that is done. To import it anew, take the import back first. []

import_failed
importfailed
  The import failed 1 minute ago: The catalogue does not want this.
  The file is Alpha/Beta.mp4 in the music directory.
  > Nothing: somebody has to retry, take the import back, or remove it.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:50. What it put into the library stays
      there.
  + Try the import once more. [stagedoor retry one]
  + Take it back out of library and music database, provided that none of its files was changed since.
      [stagedoor undo one]
  - It cannot be integrated: it is in the library already. To integrate it anew, take the import back first.
      []
  - It cannot be imported: the last attempt failed. Mend the cause, then retry. [stagedoor retry one]

artwork_failed
importfailed
  The artwork could not be made 1 minute ago: There is nothing to see.
  The file is Alpha/Beta.mp4 in the music directory.
  > Nothing: somebody has to retry, take the import back, or remove it.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:50. What it put into the library stays
      there.
  + Try the import once more. [stagedoor retry one]
  + Take it back out of library and music database, provided that none of its files was changed since.
      [stagedoor undo one]
  - It cannot be integrated: it is in the library already. To integrate it anew, take the import back first.
      []
  - It cannot be imported: the last attempt failed. Mend the cause, then retry. [stagedoor retry one]

undoing
importcomplete
  It was completed 2 minutes ago: the library and the music database have it.
  The file is Alpha/Beta.mp4 in the music directory.
  The file is Alpha/Beta/frame.jpg in the artwork directory.
  Somebody asked 1 minute ago to take the import back.
  > The management thread takes the import back.
  > Attempt 1 of 3 failed: The disk is slow.
  > It is tried again at once.
  > Then it is preprocessed.
  + Ask once more to take it back. [stagedoor undo one]
  - It cannot be integrated: it is in the library already. To integrate it anew, take the import back first.
      []
  - It cannot be imported: that is done. To import it anew, take the import back first. []

undone
preprocessed
  The import was taken back 1 minute ago; library and music database are as they were before it.
  > Nothing: it waits for somebody to ask for the integration.
  > If nobody does anything, it is removed in 30 days, on 1970-02-11 13:51.
  + Have it put into the library, and imported. [stagedoor import one]
  - It cannot be imported: it is not in the library yet. Ask for the integration, with the import. [stagedoor
      import one]

removed
remove
  Its removal was asked for 1 minute ago.
  Its id is no longer valid.
  What it put into the library stays there.
  > The management thread deletes the uploaded data, and the record of it last.
  > Then the id may be used again.
  - Whatever is asked of it is refused, because it is being removed. Wait until it is gone; then the file can
      be offered again. []

expired
remove
  It expired just now: nothing had happened for longer than it is kept.
  Its id is no longer valid.
  > The management thread deletes the uploaded data, and the record of it last.
  > Then the id may be used again.
  - Whatever is asked of it is refused, because it is being removed. Wait until it is gone; then the file can
      be offered again. []
"""


def golden() -> dict[str, str]:
    parts = [part for part in GOLDEN.strip("\n").split("\n\n") if part]
    return {name: text + "\n" for name, _, text in (p.partition("\n") for p in parts)}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_it_reads_like_this(make: Callable[[], House]) -> None:
    assert told(make().explain()) == golden()[make.__name__]


def test_every_state_is_explained() -> None:
    assert {case(name).explain().state for name in golden()} == set(State)
    assert set(golden()) == {make.__name__ for make in CASES}


# ── true ──────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(house: House, trigger: Trigger) -> None:
    """What a client does who asks for this."""
    uploads, task = house.uploads, house.uploads.find("one")
    offset = task.offset if task else 0
    match trigger:
        case Trigger.CHUNK:
            uploads.receive("one", offset=offset, data=house.data[offset : offset + 1] or b"x")
        case Trigger.DECLARE:
            uploads.declare("one", filesize=9)
        case Trigger.ANNOTATE:
            uploads.annotate("one", origin="CD")
        case Trigger.REQUEST:
            uploads.request("one")
        case Trigger.START_IMPORT:
            uploads.start_import("one")
        case Trigger.RETRY:
            uploads.retry("one")
        case Trigger.REQUEST_UNDO:
            uploads.undo("one")
        case Trigger.REMOVE:
            uploads.remove("one")
        case Trigger.EXPIRE:
            uploads.expire("one")
        case _:
            raise AssertionError(trigger)


@pytest.mark.parametrize("make", CASES[1:], ids=lambda make: make.__name__)
def test_what_may_be_done_is_not_refused(make: Callable[[], House]) -> None:
    for action in make().explain().possible:
        ask(make(), action.trigger)


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_what_is_refused_is_refused_like_that(make: Callable[[], House]) -> None:
    for refusal in make().explain().refused:
        for trigger in refusal.triggers:
            house = make()
            house.data = b"fine film"
            with pytest.raises((Refused, TaskNotFound)) as caught:
                ask(house, trigger)
            assert (caught.value.code, caught.value.guard) == (refusal.code, refusal.guard)


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_nothing_that_a_client_may_ask_for_is_left_out(make: Callable[[], House]) -> None:
    found = make().explain()
    mentioned = {a.trigger for a in found.possible} | {t for r in found.refused for t in r.triggers}
    asked_for = {row.trigger for row in ROWS if By.CLIENT in row.by}
    # A declaration that is complete may be repeated, which helps nobody.
    assert asked_for - mentioned <= ({Trigger.DECLARE} if found.state is State.WAITFORCHUNK else set())


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_it_changes_nothing_and_tells_nobody(make: Callable[[], House]) -> None:
    house = make()
    house.heard.clear()
    before = house.uploads.find("one"), [dict(tree.files) for tree in house.trees.values()]
    assert house.explain() == house.explain()
    assert (house.uploads.find("one"), [dict(tree.files) for tree in house.trees.values()]) == before
    assert not house.heard


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_no_guard_that_works_is_asked(make: Callable[[], House], monkeypatch: pytest.MonkeyPatch) -> None:
    house = make()

    def works(*_: object, **__: object) -> bool:
        raise AssertionError("this takes time")

    for name in (
        "checksum_matches", "content_accepted", "placed_in_library", "imported", "artwork_made", "undone",
        "library_untouched", "work",
    ):  # fmt: skip
        monkeypatch.setattr(Session, name, works)
    for name in ("open", "append", "commit", "seal", "create", "delete"):
        monkeypatch.setattr(MemoryBytes, name, works)
    for name in ("place", "check", "remove", "withdraw", "settle"):
        monkeypatch.setattr(MemoryTree, name, works)
    for name in ("preprocess", "import_", "illustrate"):
        monkeypatch.setattr(PlainContent, name, works)
    assert house.explain().why


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_it_is_plain_json(make: Callable[[], House]) -> None:
    found = make().explain()
    document = json.loads(json.dumps(found.as_dict()))
    assert document["state"] == found.state
    assert document["why"] == list(found.why)
    assert [r["triggers"] for r in document["refused"]] == [list(r.triggers) for r in found.refused]


# ── odd circumstances ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_under_way_is_told() -> None:
    seen: list[Explanation] = []

    class Watched(PlainContent):
        def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
            seen.append(house.later(2).explain())
            return super().preprocess(task, source)

    house = House(Watched(failures={"preprocess": 1}))
    house.send(b"shaky film").perform().perform()
    first, second = seen
    assert first.next[1] == "Attempt 1 of 3 began 2 seconds ago."
    assert second.next[1:3] == (
        "Attempt 2 of 3 began 2 seconds ago.",
        "The one before failed: The preprocess step shakes.",
    )
    assert first.due is second.due is Trigger.PREPROCESS


def test_files_that_a_step_has_placed_are_not_in_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Explanation] = []
    real = MemoryTree.place

    def place(self: MemoryTree, *args: Any, **options: Any) -> Any:
        placed = real(self, *args, **options)
        seen.append(house.explain())
        return placed

    house = wanted()
    monkeypatch.setattr(MemoryTree, "place", place)
    house.perform()
    assert seen[0].state is State.PREPROCESSED
    assert seen[0].obstacles == ()


def test_a_name_that_is_taken_is_an_obstacle() -> None:
    house = accepted()
    house.trees["music"].files["Alpha/Beta.mp4"] = b"somebody else's"
    found = house.explain()
    assert found.obstacles[0].startswith("There is Alpha/Beta.mp4 in the music directory already.")
    assert "It would fail as things stand." in next(a for a in found.possible if a.trigger is Trigger.REQUEST).sentence


@pytest.mark.parametrize(
    ("error", "says"),
    [(StorageError("The music directory is gone"), "The music directory is gone."), (None, "cannot handle")],
)
def test_what_keeps_a_plan_from_being_made_is_an_obstacle(
    error: StorageError | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = accepted()
    if error is None:
        monkeypatch.setitem(house.uploads.ports.contents, "sound", PlainContent("sound"))
        monkeypatch.delitem(house.uploads.ports.contents, "video")
    else:

        def plan(self: PlainContent, task: UploadTask, around: Surroundings) -> Plan:
            raise error

        monkeypatch.setattr(PlainContent, "plan", plan)
    (obstacle,) = house.explain().obstacles
    assert says in obstacle


def test_content_without_artwork_skips_a_state() -> None:
    house = importing(contenttype="sound")
    assert house.explain().next[-1] == "Then it is importcomplete, or importfailed if that fails."


def test_an_upload_may_be_kept_for_ever() -> None:
    house = House(retention={State.WAITFORCHUNK: None}).offer()
    assert house.explain().next == ("Nothing, until the client sends more.", "It is kept for ever.")


def test_findings_are_told() -> None:
    class Watched(PlainContent):
        def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
            return Preprocessed(findings=[Finding("renamed", "warn", "It is filed as .mp4")])

    house = House(Watched()).send().perform()
    assert "What was noticed: It is filed as .mp4." in house.explain().why


def test_what_went_wrong_last_is_told_in_states_that_are_no_failure() -> None:
    house = undoing()
    house.later(600).trees["music"].files["Alpha/Beta.mp4"] = b"tagged"
    house.perform()
    found = house.explain()
    assert found.state is State.IMPORTCOMPLETE
    assert any(line.startswith("What went wrong last: Alpha/Beta.mp4 in the music directory has") for line in found.why)


def test_a_clock_that_was_set_back_makes_no_past_the_future() -> None:
    assert case("finished").later(-1e5).explain().why[0].startswith("It was completed just now")
    assert case("waiting").later(-1e5).explain().why[0].startswith("“film.mp4” was offered just now")


@pytest.mark.parametrize("name", ["$(rm -rf ~)", "-rf", "a b.mp4", "x;reboot", "ü.mp4", ""])
def test_a_strange_name_never_becomes_part_of_a_command(name: str) -> None:
    house = House().offer(filename=name)
    commands = {a.command for a in house.explain().possible}
    assert f"stagedoor add {name if name == 'ü.mp4' else 'FILE'}" in commands


def test_a_task_may_be_given_instead_of_an_id() -> None:
    house = accepted()
    task = house.uploads.get("one")
    assert explain(house.uploads, task) == house.explain()
    assert explain(house.uploads, evolve(task, state=State.REMOVE)).state is State.REMOVE


def test_an_unknown_id_is_cut_and_quoted() -> None:
    assert "\x1b" not in explain(House().uploads, "nobody").why[0]
    with pytest.raises(Refused, match="upload id"):
        explain(House().uploads, "\x1b[2J")


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"), (1, "1 second"), (59.4, "59 seconds"), (59.6, "1 minute"), (90, "2 minutes"),
        (3_599, "1 hour"), (7_200, "2 hours"), (47 * 3_600, "47 hours"), (48 * 3_600, "2 days"),
        (7 * 86_400 - 60, "7 days"), (400 * 86_400, "400 days"), (5_000 * 86_400, "5,000 days"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_moments() -> None:
    assert [moment(t, 100.0) for t in (100, 99.5, 100.5, 40, 160)] == [
        "just now", "just now", "at once", "1 minute ago", "in 1 minute",
    ]  # fmt: skip


def test_numbers() -> None:
    assert (count(1, "row"), count(1_234, "row")) == ("1 row", "1,234 rows")
    assert (size(1), size(1_048_576), size(None)) == ("1 byte", "1,048,576 bytes", "an unknown number of bytes")
    assert stamp(0) == "1970-01-01 00:00:00"
