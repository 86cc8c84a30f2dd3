"""``stagedoor doctor``: whether everything can work here."""

from __future__ import annotations

import argparse
import errno
import os
import platform
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TypeAlias

import attrs
from attrs import frozen

from .. import __version__
from ..adapters.disk import Disk
from ..adapters.local import LocalTree
from ..errors import StorageError, UploadError
from ..explain import count, duration, size
from ..lifecycle import State, due
from ..settings import Settings
from . import FAILED, FINE
from .call import Call, homeless
from .records import Looking, owner_of
from .screen import Level

__all__ = ["register"]


def register(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    command("doctor", _doctor, "Look whether everything here can work.")


@frozen
class _Remark:
    """A sentence of the doctor's."""

    about: str
    level: Level
    sentence: str


def _doctor(call: Call) -> int:
    remarks = []
    for about, look in (
        ("system", _look_at_system),
        ("uploads directory", _look_at_uploads),
        ("uploads", _look_at_records),
        ("library", _look_at_library),
        ("media", _look_at_media),
    ):
        found = [_Remark(about, level, sentence) for level, sentence in look(call)]
        remarks += found
        if not call.options.json:
            call.out.say(about.capitalize(), "bold")
            for remark in found:
                call.out.sign(remark.level, remark.sentence, indent=2)
    bad = sum(remark.level == "bad" for remark in remarks)
    if call.options.json:
        call.out.json({"ok": not bad, "remarks": [attrs.asdict(remark) for remark in remarks]})
    else:
        call.out.say("It can work." if not bad else f"{count(bad, 'thing')} must be mended.", "bold")
    return FAILED if bad else FINE


_Said: TypeAlias = tuple[Level, str]


def _look_at_system(call: Call) -> Iterator[_Said]:
    yield (
        "note",
        f"stagedoor {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}.",
    )
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < 1024:
        yield "warn", f"A process may open {most:,} files only; uploads keep two each open. Raise it: ulimit -n 4096."
    if platform.system() != "Linux":
        yield "warn", "Only Linux is tested: locks, links and the sandbox may differ here."


def _look_at_uploads(call: Call) -> Iterator[_Said]:
    yield from _directory(call.root, "The uploads directory", Settings().free_floor)
    if not os.path.isdir(call.root):
        return
    owner = owner_of(call.root)
    if owner is None:
        yield "note", "No process owns it."
    else:
        who = f"Process {owner[0]}" if owner[0] > 0 else "A process that cannot be seen from here"
        what = f": {owner[1]}" if owner[1] else ""
        yield "note", f"{who} owns it{what}. What changes something has to go through that process."


def _directory(path: str, what: str, floor: int) -> Iterator[_Said]:
    """Whether a directory is there, can be written, and has room."""
    if os.path.lexists(path) and not os.path.isdir(path):
        yield "bad", f"{what} {path} is no directory. Move away what is there."
        return
    there = path
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    if not os.access(there, os.W_OK | os.X_OK):
        yield "bad", f"{what} {path} cannot be written by this user ({_user()}). Change who owns {there}."
    found = os.statvfs(there)
    free = found.f_bavail * found.f_frsize
    kind = _file_system(there)
    where = (
        f"{what} is {path} ({kind}, {size(free)} free)."
        if there == path
        else (f"{what} {path} is not there yet; stagedoor add makes it ({kind}, {size(free)} free).")
    )
    if free < floor:
        yield "bad", f"{where} New uploads need {size(floor)} to be left. Free some space."
    else:
        yield ("good" if there == path else "note"), where
    if kind in ("tmpfs", "ramfs"):
        yield "warn", f"{there} is in memory: nothing there survives a power cut."
    if kind.startswith(("nfs", "cifs", "smb", "9p", "fuse")):
        yield "warn", f"{there} is on a {kind} file system: whether locks and syncs keep their promises is up to it."


def _user() -> str:
    return os.environ.get("USER") or f"uid {os.getuid()}"


def _file_system(path: str) -> str:
    """Kind of the file system that a path is on (proc(5), mountinfo)."""
    best = ("", "an unknown file system")
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            front, _, back = line.partition(" - ")
            at = front.split()[4].replace("\\040", " ")
            if f"{os.path.realpath(path)}/".startswith(at.rstrip("/") + "/"):
                best = max(best, (at, back.split()[0]), key=lambda found: len(found[0]))
    return best[1]


def _look_at_records(call: Call) -> Iterator[_Said]:
    if not os.path.isdir(call.root):
        yield "note", "There are none."
        return
    states: Counter[str] = Counter()
    keys: dict[str, str] = {}
    work = old = 0
    for task in call.records.all():
        states[task.state] += 1
        work += due(task) is not None
        if not task.created:  # of MusicDB 7, with its data elsewhere
            old += 1
        else:
            keys[task.key] = task.id if task.state is not State.REMOVE else ""
    found = ", ".join(f"{number:,} {state}" for state, number in states.items())
    yield "good", f"{count(states.total(), 'upload')}{f': {found}' if found else ''}."
    if old:
        yield "note", f"{count(old, 'upload')} of MusicDB 7 will be taken over by the next start."
    for name, sentence in call.records.unreadable.items():
        yield "bad", f"tasks/{name} is no upload. {sentence} The next start puts it into quarantine."
    owned = owner_of(call.root) is not None
    if work and not owned:
        yield "warn", f"{count(work, 'upload')} could go on, but no process owns the directory: stagedoor work."
    disk = Looking()
    torn = [e.name for e in disk.entries(os.path.join(call.root, "tasks")) if e.name.endswith(".tmp")]
    places = {e.name for e in disk.entries(os.path.join(call.root, "data"))}
    lost, strange = sorted(keys.keys() - places), sorted(places - keys.keys())
    for key in lost:
        if keys[key] and call.records.find(keys[key]) is not None:  # it was not removed meanwhile
            yield "bad", f"The data of upload {keys[key]} is gone: data/{key} is missing."
    for name in (*(f"tasks/{n}" for n in torn), *(f"data/{n}" for n in strange)):
        if owned:
            yield "note", f"{name} may belong to something that is being done."
        else:
            yield "warn", f"{name} is left over; the next start deletes it or puts it into quarantine."
    held = disk.entries(os.path.join(call.root, "quarantine"))
    if held:
        keep = duration(Settings().quarantine)
        yield "note", f"{count(len(held), 'thing')} in quarantine ({call.root}/quarantine), each kept for {keep}."
    elif not (torn or lost or strange):
        yield "good", "Nothing is left over, and nothing is in quarantine."


def _look_at_library(call: Call) -> Iterator[_Said]:
    for name, path in call.trees.items():
        yield from _directory(path, f"The {name} directory", 0)
        if os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
            yield from _abilities(name, path)
            found = Looking().entries(os.path.join(path, ".stagedoor"))
            hidden = [entry for entry in found if not entry.name.endswith(".kept")]  # those are looked at below
            if hidden and owner_of(call.root) is None:
                yield (
                    "warn",
                    f"{path}/.stagedoor has {count(len(hidden), 'upload')} half placed; the next start goes on.",
                )
    try:
        for at, was in _orphans(call):
            yield "bad", homeless(at, was)
    except StorageError as error:
        yield "warn", f"Whether lost uploads have replaced files is not known. {error.sentence}"
    catalogue = os.path.join(call.root, "catalogue.sqlite")
    if os.path.exists(catalogue):
        yield "good", f"The music database is {catalogue} ({size(os.path.getsize(catalogue))})."
    elif os.path.isdir(call.root):
        yield "note", f"There is no music database {catalogue} yet; it is made when it is needed."


def _orphans(call: Call) -> Sequence[tuple[str, str]]:
    """What was replaced for uploads that are lost: where it is, and the name that it had."""
    trees = [LocalTree(name, path, "none", Looking()) for name, path in call.trees.items() if os.path.isdir(path)]
    found: list[tuple[str, str]] = []
    for _ in range(2 if os.path.isdir(call.root) else 0):  # a server may have been at work between the two looks
        known = {task.uid for task in call.records.all()}
        before = found
        found = [
            (os.path.join(tree.root, file.at), os.path.join(tree.root, file.path) if file.path else "")
            for tree in trees
            for files in tree.kept(known).values()
            for file in files
        ]
        if not found:
            break
    return [orphan for orphan in found if orphan in before] if found else ()


def _abilities(name: str, root: str) -> Iterator[_Said]:
    """Try, in a hidden directory that goes again, what a file system must be able to do for a library."""
    disk = Disk()
    place = os.path.join(root, f".stagedoor-doctor-{os.getpid()}")
    try:
        os.mkdir(place)
        try:
            one, two, three = (os.path.join(place, n) for n in ("one", "two", "three"))
            for path in (one, three):
                disk.close(disk.open(path, create=True))
            links = disk.link(one, two)
            renames = _never_replaces(disk, one, three)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        yield "bad", f"{error.strerror} in {root}: nothing can be placed there."
        return
    if links:
        yield "good", f"The {name} directory has hard links: a file appears whole, and never replaces another."
    elif renames:
        yield "good", f"The {name} directory has no hard links, but a rename that never replaces; that is used."
    else:
        yield (
            "bad",
            f"The {name} directory has neither hard links nor a rename that never replaces. Choose another one.",
        )
    if links and not renames:
        yield "note", f"The {name} directory has no rename that never replaces; it is not needed where there are links."


def _never_replaces(disk: Disk, source: str, taken: str) -> bool:
    try:
        disk.rename_exclusive(source, taken)
    except OSError as error:
        return error.errno == errno.EEXIST
    return False


def _look_at_media(_: Call) -> Iterator[_Said]:
    missing = []
    for package in ("av", "pillow", "filetype"):
        try:
            yield "good", f"{package} {version(package)} is installed."
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        yield "bad", f"{', '.join(missing)} missing: no file can be looked at. pip install 'stagedoor[media]'"
        return
    from ..content.decoding import Decoder

    with Decoder() as decoder:
        try:
            box = decoder.sandbox()
        except UploadError as error:
            yield "bad", error.sentence
            return
    if box.landlock:
        yield "good", f"Decoders are locked in by Landlock (version {box.landlock}): they can open no file."
    else:
        yield "warn", "This kernel has no Landlock: decoders are held in by the other walls only."
    for walls, fine, wanting in (
        (box.seccomp, "Decoders may not make dangerous system calls (seccomp).", "Decoders run without seccomp."),
        (box.no_capabilities and box.no_new_privileges, "Decoders have no privileges.", "Decoders keep privileges."),
    ):
        yield ("good", fine) if walls else ("warn", wanting)
    yield "good", f"A decoder may use {size(box.memory)} of memory."
