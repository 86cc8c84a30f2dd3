from collections.abc import Sequence

import pytest

from stagedoor.adapters.memory import MemoryBytes, MemoryTasks, MemoryTree
from stagedoor.ports import ByteStore, TaskStore, Tree
from stagedoor.testing.stores import ByteStoreContract, TaskStoreContract, TreeContract


class TestBytes(ByteStoreContract):
    @pytest.fixture
    def store(self) -> ByteStore:
        return MemoryBytes()

    def reopen(self, store: ByteStore) -> ByteStore:
        return store  # the process lives on, and so does its memory

    def damage(self, store: ByteStore, key: str, size: int | None) -> None:
        assert isinstance(store, MemoryBytes)
        if size is None:
            del store._places[key]
        else:
            del store._places[key].data[size:]


class TestTasks(TaskStoreContract):
    @pytest.fixture
    def store(self) -> TaskStore:
        return MemoryTasks()

    def reopen(self, store: TaskStore) -> TaskStore:
        return store


class TestTree(TreeContract):
    @pytest.fixture
    def tree(self) -> Tree:
        return MemoryTree("music")

    def reopen(self, tree: Tree) -> Tree:
        return tree

    def read(self, tree: Tree, path: str) -> bytes | None:
        assert isinstance(tree, MemoryTree)
        return tree.files.get(path)

    def write(self, tree: Tree, path: str, data: bytes) -> None:
        assert isinstance(tree, MemoryTree)
        parts = path.split("/")
        tree.directories.update("/".join(parts[:i]) for i in range(1, len(parts)))
        tree.files[path] = data

    def delete(self, tree: Tree, path: str) -> None:
        assert isinstance(tree, MemoryTree)
        del tree.files[path]

    def kept(self, tree: Tree, uid: str) -> Sequence[bytes]:
        assert isinstance(tree, MemoryTree)
        return tree.replaced(uid)


def test_keys_are_those_of_all_places() -> None:
    store = MemoryBytes()
    store.create("b.0", "x")
    store.create("a.0", "x")
    assert store.keys == ["a.0", "b.0"]
