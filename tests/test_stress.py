"""Two hundred uploads at once, from sixteen threads that cut, repeat, annotate and remove: the promises hold."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stagedoor.adapters.inprocess import ThreadedBus
from stagedoor.adapters.local import LocalBytes, LocalTasks, LocalTree
from stagedoor.engine import Uploads
from stagedoor.errors import Refused, TaskNotFound
from stagedoor.library.memory import MemoryLibrary
from stagedoor.lifecycle import State, Trigger, row_taken
from stagedoor.notices import Notice, NoticeKind
from stagedoor.settings import Settings
from stagedoor.tasks import Offer
from stagedoor.testing.content import PlainContent
from stagedoor.worker import manage

UPLOADS, THREADS = 200, 16


class Client:
    """One upload's client: sends, loses its connection, sends again, annotates, asks, removes."""

    def __init__(self, uploads: Uploads, number: int) -> None:
        self.uploads, self.number = uploads, number
        self.random = random.Random(number)
        self.script = self.random.choice(["fine", "fine", "fine", "shaky", "bad", "ask", "noart", "noimport"])
        self.content = self.script.encode() + self.random.randbytes(self.random.randint(1, 60_000))
        self.sha1 = hashlib.sha1(self.content).hexdigest()
        self.wrong = self.random.random() < 0.1
        self.id = f"upload-{number}"
        self.acknowledged = 0
        self.removed = False
        self.undone = False

    def offer(self) -> Offer:
        sha1 = "0" * 40 if self.wrong else self.sha1
        return Offer(self.id, filename=f"{self.number}.mp4", contenttype="video", filesize=len(self.content), sha1=sha1)

    def run(self) -> None:
        uploads, dice = self.uploads, self.random
        task = uploads.initiate(self.offer())
        while task.state is State.WAITFORCHUNK:
            if dice.random() < 0.15:  # the connection is lost, and with it the answer
                task = uploads.initiate(self.offer())
                assert task.offset >= self.acknowledged, "promise 1: A ≤ R"
                if task.state is not State.WAITFORCHUNK:
                    break
            if dice.random() < 0.1:
                uploads.annotate(self.id, note=dice.randrange(1000))
            if dice.random() < 0.01:
                self._remove()
                return
            start = max(0, task.offset - (dice.randint(1, 500) if dice.random() < 0.15 else 0))
            end = task.offset if start < task.offset else start + dice.randint(1, 9000)
            if dice.random() < 0.05:
                with pytest.raises(Refused):
                    uploads.receive(self.id, offset=task.offset + 7, data=b"out of turn")
            task = uploads.receive(self.id, offset=start, data=self.content[start:end])
            assert task.offset >= self.acknowledged, "promise 2: R never falls"
            self.acknowledged = task.offset
        uploads.annotate(self.id, {"artistname": f"Artist{self.number % 7}", "name": f"Name{self.number}"})
        rested = uploads.wait(self.id, timeout=120)
        assert rested is not None
        if rested.state is State.PREPROCESSED:
            if rested.open_questions:
                with pytest.raises(Refused, match=r"answers\.which"):
                    uploads.request(self.id)
                uploads.annotate(self.id, {"answers.which": "this"})
            if dice.random() < 0.5:
                uploads.integrate(self.id, trigger_import=True)
            else:
                uploads.request(self.id, trigger_import=True)
            uploads.wait(self.id, timeout=120)
        fate = dice.random()
        if fate < 0.15:
            self._remove()
        elif fate < 0.3 and uploads.get(self.id).state in (State.IMPORTCOMPLETE, State.IMPORTFAILED):
            assert uploads.undo(self.id).state is State.PREPROCESSED
            self.undone = True

    def _remove(self) -> None:
        self.uploads.remove(self.id)
        self.removed = True

    @property
    def expected(self) -> State | None:
        if self.removed:
            return None
        if self.wrong:
            return State.UPLOADFAILED
        if self.script == "bad":
            return State.INVALIDCONTENT
        if self.undone:
            return State.PREPROCESSED
        return State.IMPORTFAILED if self.script in ("noart", "noimport") else State.IMPORTCOMPLETE


@pytest.mark.parametrize("seed", [0, 1000])
def test_two_hundred_uploads_at_once(seed: int, tmp_path: Path) -> None:
    root = tmp_path / "uploads"
    root.mkdir()
    library = MemoryLibrary()
    trees = {name: LocalTree(name, str(tmp_path / name), "none") for name in ("music", "artwork")}
    heard: dict[str, list[Notice]] = defaultdict(list)
    raised = threading.Event()

    def blow_up(notice: Notice) -> None:
        raised.set()
        raise RuntimeError("a callback of somebody else")

    with Uploads(
        bytes=LocalBytes(str(root), durability="process", open_places=20),
        tasks=LocalTasks(str(root), durability="process", cached=30),
        trees=trees,
        library=library,
        contents=[PlainContent(failures={"preprocess": 2, "import_": 2, "illustrate": 2})],
        settings=Settings(backoff=0.0, free_floor=0),
        bus=ThreadedBus(),
    ) as uploads:
        uploads.subscribe(blow_up)
        uploads.subscribe(lambda notice: heard[notice.uploadid].append(notice))
        clients = [Client(uploads, seed + number) for number in range(UPLOADS)]
        with manage(uploads, threads=3), ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(client.run) for client in clients]:
                done.result(timeout=300)
            for client in clients:
                uploads.wait(client.id, timeout=120)
        assert raised.is_set()

        for client in clients:
            if client.expected is None:
                with pytest.raises(TaskNotFound):
                    uploads.get(client.id)
                continue
            task = uploads.get(client.id)
            assert task.state is client.expected, (client.number, client.script, task)
            if task.state is not State.UPLOADFAILED:
                with uploads.ports.bytes.open(task.key) as stored:
                    assert hashlib.sha1(stored.read()).hexdigest() == client.sha1, "promise 3"
            for line in task.history:  # promise 6
                if line.trigger != "create":
                    dest = State(line.dest) if line.dest != line.source else None
                    assert row_taken(Trigger(line.trigger), State(line.source), dest), line
        tasks = {task.key: task for task in uploads.tasks()}

    # Promises 4, 5 and 10: the library has what the survivors placed, and nothing else but what removal leaves.
    by_path = {f"Artist{c.number % 7}/Name{c.number}.mp4": c for c in clients}
    music = {str(p.relative_to(tmp_path / "music")): p for p in (tmp_path / "music").rglob("*") if p.is_file()}
    for path, file in music.items():
        assert file.read_bytes() == by_path[path].content, "promise 4"
        assert by_path[path].removed or by_path[path].expected in (State.IMPORTCOMPLETE, State.IMPORTFAILED)
    for client in clients:
        placed = client.expected in (State.IMPORTCOMPLETE, State.IMPORTFAILED)
        assert not placed or f"Artist{client.number % 7}/Name{client.number}.mp4" in music
    assert len(library.entries()) == len({entry.uid for entry in library.entries()}), "promise 5"

    # Promise 8 and 10: nothing is left that belongs to nobody.
    assert {p.name for p in (root / "data").iterdir()} == set(tasks)
    assert {p.name for p in (root / "tasks").iterdir()} == {f"{task.id}.json" for task in tasks.values()}

    # Promise 7: told in order.
    for notices in heard.values():
        revisions = [n.task.revision for n in notices if n.task is not None]
        assert revisions == sorted(revisions)
        offsets = [n.offset for n in notices if n.kind is NoticeKind.CHUNK_REQUEST]
        assert offsets == sorted(offsets)
