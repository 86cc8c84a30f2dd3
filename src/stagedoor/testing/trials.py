"""Trials of the real engine on real disks that are taken away, fail, or are full.

Each is a few seconds of what ``make proof`` does for long: `Shutdowns` takes the file system away, again and again;
`Faults` lets one system call fail; `Full` leaves too little room, in bytes, in files, or in the length that a process
may give a file. After each the engine starts again, the promises are checked, and all goes on to the end. What is
wrong is a sentence in ``found.wrong``. Where they cannot run, the ``missing`` of `stagedoor.testing.kernel` says why.
"""

from __future__ import annotations

import random
import resource
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from attrs import define, field

from ..adapters.local import Durability
from ..errors import UploadError
from .crashes import Ledger, Scene, Stage, Theatre, open_uploads, play, scenes_of
from .kernel import CALLS, Ext4Image, Flush, Injection, SmallDisk, fastest_directory, traced

__all__ = ["Faults", "Full", "Shutdowns", "Tally"]

_ERRORS: Final = ("EIO", "ENOSPC", "EMFILE")
_DATA: Final = ("ordered", "ordered", "writeback", "journal")
_FLUSHES: Final[Sequence[Flush]] = ("nologflush", "nologflush", "logflush", "logflush", "default")
_AGE: Final = 12
_SMALL: Final = 9_000


@define
class Tally:
    """What trials did, and found.

    Attributes:
        trials: Crashes, or faults.
        told: What processes acknowledged before them.
        recoveries: How many hit a start.
        finished: After how many all was played to its end.
        errors: How often the engine answered with which code.
        died: Processes that the kernel ended: with the disk goes what SQLite has mapped of it.
        late: What was told after a crash had begun; it does not count.
        unhurt: Faults after which the process went on to its end as if nothing had been.
        wrong: A sentence for everything that is not as it was promised.
    """

    trials: int = 0
    told: int = 0
    recoveries: int = 0
    finished: int = 0
    errors: dict[str, int] = field(factory=dict)
    died: int = 0
    late: int = 0
    unhurt: int = 0
    wrong: list[str] = field(factory=list)

    def answered(self, codes: Iterable[str]) -> None:
        """Errors of the engine."""
        for code in codes:
            self.errors[code] = self.errors.get(code, 0) + 1


class _Trial:
    """With a theatre, and a tally."""

    def __init__(self, theatre: Theatre) -> None:
        self.found = Tally()
        self._theatre = theatre

    def _start(self, ledger: Ledger, root: Path, where: str, *, on: bool) -> bool:
        """Start the engine, check what was promised, and play on.

        Returns:
            Whether all was well.
        """
        wrong: list[str] = []
        try:
            with open_uploads(root) as uploads:
                wrong += ledger.check(uploads, root)
                if on and not wrong:
                    play(uploads, ledger)
                    wrong += ledger.check_end(uploads, root)
                    self.found.finished += 1
        except (UploadError, AssertionError, OSError) as error:
            wrong.append(f"{type(error).__name__}: {error}")
        self.found.wrong += [f"{where}: {sentence}" for sentence in wrong]
        return not wrong

    def _heard(self, ledger: Ledger, before: int) -> None:
        self.found.answered(ledger.errors)
        self.found.told += ledger.lines - before
        ledger.errors.clear()


class Shutdowns(_Trial):
    """Takes an ext4 file system away while three clients are at it: a kernel's crash, without the kernel.

    The next process finds what was left, and goes on; a file system is used again and again, in one of its modes, until
    it has seen a dozen crashes. Close it at the end.

    Args:
        theatre: Where the processes come from.
        seed: Of all that is by chance.
        durability: Of the processes; with another than ``power`` things get lost.
    """

    def __init__(self, theatre: Theatre, seed: int = 0, durability: Durability = "power") -> None:
        super().__init__(theatre)
        self._chance = random.Random(f"shutdown {seed}")  # noqa: S311  # not for secrets
        self._durability: Durability = durability
        self._seed = seed
        self._disk: Ext4Image | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the file system."""
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def one(self) -> None:
        """A crash, and what comes after it.

        Raises:
            OSError: Root's programs refuse.
        """
        chance = self._chance
        if self._disk is None:
            self._mode = (chance.choice(_DATA), chance.choice((1024, 2048, 4096)))
            self._disk = Ext4Image(data=self._mode[0], block=self._mode[1])
            self._ledger, self._age = Ledger([]), 0
        disk, ledger = self._disk, self._ledger
        number = self.found.trials
        self._age += 1
        ledger.scenes = [*ledger.scenes, *scenes_of(f"s{self._seed}n{number}", 2)]
        ledger.down, before = False, ledger.lines
        stage = self._theatre.perform(disk.root, ledger, durability=self._durability, clients=3)
        if chance.random() < 0.2:  # it starts, and finds what the last crash has left
            self.found.recoveries += 1
            stage.listen(seconds=chance.uniform(0.0, 0.03))
        else:
            enough = before + chance.randint(1, 320)
            stage.listen(lambda: ledger.lines >= enough)
        stage.before_the_crash()
        flush = chance.choice(_FLUSHES)
        disk.shut_down(flush)
        stage.leave()
        ledger.crashed()
        self.found.trials += 1
        self.found.died += not stage.ended
        self.found.late += ledger.late
        ledger.late = 0
        self._heard(ledger, before)
        disk.unmount()
        disk.mount()
        if chance.random() < 0.25:
            disk.unmount()
            disk.check()
            disk.mount()
        where = f"crash {number} of seed {self._seed} ({', '.join(map(str, self._mode))}, {flush})"
        last = self._age == _AGE
        well = True
        if last or chance.random() < 0.75:  # else the next process starts on it as it is
            well = self._start(ledger, disk.root, where, on=last or chance.random() < 0.5)
        if last or not well:
            self.close()


class _Fresh(_Trial):
    """Trials with a new directory each."""

    scenes: Sequence[Scene]

    def __init__(self, theatre: Theatre) -> None:
        super().__init__(theatre)
        self.scenes = scenes_of("f", 1, largest=_SMALL, fates=("keep", "replace"))


class Faults(_Fresh):
    """Lets one system call of the engine's process fail, by ``strace``, once or from then on for good.

    The process asks again some times after an error; then it ends, and another one, whose calls do not fail, goes on.

    Args:
        theatre: Where the processes come from.
        calls: The system calls that may fail; those that the engine makes when not given.
    """

    def __init__(self, theatre: Theatre, calls: Sequence[str] = CALLS) -> None:
        super().__init__(theatre)
        self.counts = {name: count for name, count in self._count().items() if name in calls}

    def _count(self) -> Mapping[str, int]:
        with tempfile.TemporaryDirectory(dir=fastest_directory()) as home:
            ledger = Ledger(self.scenes)
            watched = self._run(Path(home), ledger, None)
            if not ledger.finished or ledger.wrong:
                raise AssertionError(f"Without a fault it does not come to its end: {ledger.sentences} {ledger.wrong}")
            return watched.counts

    def all(self) -> Sequence[Injection]:
        """Every call that the engine makes × three errors × once and for good."""
        return [
            Injection(call, error, at, lasting)
            for call, count in sorted(self.counts.items())
            for at in range(1, count + 1)
            for error in _ERRORS
            for lasting in (False, True)
        ]

    def _run(self, root: Path, ledger: Ledger, injection: Injection | None) -> traced:
        stage = self._theatre.perform(root, ledger, patience=3, hold="start")
        try:
            with traced(stage.pid, injection) as watched:
                stage.go()
                stage.leave()
        except OSError:
            stage.kill()
            raise
        if not stage.ended:
            ledger.wrong.append("the process ended without a word")
        return watched

    def one(self, injection: Injection) -> None:
        """A fault, and what comes after it.

        Raises:
            OSError: The process cannot be traced.
        """
        with tempfile.TemporaryDirectory(dir=fastest_directory()) as home:
            root, ledger = Path(home), Ledger(self.scenes, may_fail=True)
            watched = self._run(root, ledger, injection)
            self.found.trials += watched.injected > 0
            self.found.unhurt += watched.injected > 0 and not ledger.errors
            started = not any(sentence.startswith(":") for sentence in ledger.sentences)
            if not injection.lasting and started and not ledger.finished:
                ledger.wrong.append(f"after one fault it did not get to the end by itself: {ledger.sentences}")
            self._heard(ledger, 0)
            self._start(ledger, root, str(injection), on=True)


class Full(_Fresh):
    """Too little room, and then enough: of bytes, of files, or in the length that a file may have."""

    def room(self, spare: int, *, files: bool) -> None:
        """On a tmpfs: with so many bytes, or files, left when the uploads begin.

        Raises:
            OSError: It cannot be mounted.
        """
        with SmallDisk(8 << 20) as disk:
            ledger = Ledger(self.scenes, may_fail=True)
            stage = self._ready(ledger, disk.root)
            if files:
                disk.resize(8 << 20, files=disk.files + spare)
            else:
                disk.resize(disk.used + spare)
            stage.go()
            stage.leave()
            what = f"with room for {spare:,} {'files' if files else 'bytes'}"
            self._judge(ledger, what, ended=stage.ended)
            disk.resize(64 << 20)
            self._start(ledger, disk.root, what, on=True)

    def length(self, most: int) -> None:
        """With a limit on the length of a file in bytes, as ``prlimit --fsize`` sets it."""
        with tempfile.TemporaryDirectory(dir=fastest_directory()) as home:
            ledger = Ledger(self.scenes, may_fail=True)
            stage = self._ready(ledger, Path(home))
            resource.prlimit(stage.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
            stage.go()
            stage.leave()
            what = f"with files of at most {most:,} bytes"
            self._judge(ledger, what, ended=stage.ended)
            self._start(ledger, Path(home), what, on=True)

    def _ready(self, ledger: Ledger, root: Path) -> Stage:
        """A process whose engine has started while there was room."""
        stage = self._theatre.perform(root, ledger, patience=2, hold="play")
        stage.listen(lambda: stage.ready)
        return stage

    def _judge(self, ledger: Ledger, what: str, *, ended: bool) -> None:
        self.found.trials += 1
        if not ended:
            ledger.wrong.append("the process ended without a word")
        for code, sentence in zip(ledger.errors, ledger.sentences, strict=True):
            # What may not grow any more is an I/O error for SQLite, whatever the reason.
            if code != "storage_full" and "The catalogue" not in sentence:
                self.found.wrong.append(f"{what}: the answer was {code}: {sentence}")
        self.found.unhurt += not ledger.errors
        self._heard(ledger, 0)
