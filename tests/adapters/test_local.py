"""The local adapters: the promises of their ports, and what is theirs alone. Crashes are in ``test_crashes.py``."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stagedoor.adapters.disk import Disk
from stagedoor.adapters.local import LocalBytes, LocalTasks, LocalTree
from stagedoor.ports import ByteStore, TaskStore, Tree
from stagedoor.testing.disk import SimulatedDisk
from stagedoor.testing.stores import ByteStoreContract, TaskStoreContract, TreeContract

UID = f"{1:032x}"
KEY = f"{UID}.0"
NAME = "video-pending.mp4"
FINAL = f"video-{'a' * 40}.mp4"


class TestBytes(ByteStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ByteStore]:
        self.root = tmp_path
        self.stores = [LocalBytes(str(tmp_path), durability="process", open_places=3)]
        yield self.stores[0]
        for store in self.stores:
            store.release()

    def reopen(self, store: ByteStore) -> ByteStore:
        self.stores.append(LocalBytes(str(self.root), durability="process", open_places=3))
        return self.stores[-1]

    def damage(self, store: ByteStore, key: str, size: int | None) -> None:
        path = self.root / "data" / key / NAME
        path.unlink() if size is None else os.truncate(path, size)


class TestDurableBytes(TestBytes):
    @pytest.fixture
    def store(self) -> ByteStore:
        self.disk = SimulatedDisk()
        self.disk.mkdir("/uploads")
        self.disk.sync_directory("/")
        return LocalBytes("/uploads", disk=self.disk)

    def reopen(self, store: ByteStore) -> ByteStore:
        self.disk = self.disk.crash("none")
        return LocalBytes("/uploads", disk=self.disk)

    def damage(self, store: ByteStore, key: str, size: int | None) -> None:
        path = f"/uploads/data/{key}/{NAME}"
        if size is None:
            self.disk.unlink(path)
        else:
            fd = self.disk.open(path, write=True)
            self.disk.truncate(fd, size)
            self.disk.close(fd)


class TestTasks(TaskStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> TaskStore:
        self.root = tmp_path
        return LocalTasks(str(tmp_path), durability="process", cached=2)

    def reopen(self, store: TaskStore) -> TaskStore:
        return LocalTasks(str(self.root), durability="process", cached=2)


class TestDurableTasks(TestTasks):
    @pytest.fixture
    def store(self) -> TaskStore:
        self.disk = SimulatedDisk()
        self.disk.mkdir("/uploads")
        self.disk.sync_directory("/")
        return LocalTasks("/uploads", disk=self.disk, cached=2)

    def reopen(self, store: TaskStore) -> TaskStore:
        self.disk = self.disk.crash("none")
        return LocalTasks("/uploads", disk=self.disk, cached=2)


class LocalTreeContract(TreeContract):
    root: Path

    def reopen(self, tree: Tree) -> Tree:
        return LocalTree("music", str(self.root), "none")

    def read(self, tree: Tree, path: str) -> bytes | None:
        file = self.root / path
        return file.read_bytes() if file.exists() else None

    def write(self, tree: Tree, path: str, data: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


class TestTree(LocalTreeContract):
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        self.root = tmp_path / "deep" / "Music"
        return LocalTree("music", str(self.root), "none")


class NoLinks(Disk):
    def link(self, source: str, dest: str) -> bool:
        return False


class TestTreeWithoutLinks(LocalTreeContract):
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        self.root = tmp_path
        return LocalTree("music", str(tmp_path), "none", NoLinks())

    def reopen(self, tree: Tree) -> Tree:
        return LocalTree("music", str(self.root), "none", NoLinks())


class TestDurableTree(TreeContract):
    links = True

    @pytest.fixture
    def tree(self) -> Tree:
        self.disk = SimulatedDisk(links=self.links)
        return LocalTree("music", "/music", disk=self.disk)

    def reopen(self, tree: Tree) -> Tree:
        self.disk = self.disk.crash("none")
        return LocalTree("music", "/music", disk=self.disk)

    def read(self, tree: Tree, path: str) -> bytes | None:
        return self.disk.files("/music").get(path)

    def write(self, tree: Tree, path: str, data: bytes) -> None:
        self.disk.plant(f"/music/{path}", data)


class TestDurableTreeWithoutLinks(TestDurableTree):
    links = False
