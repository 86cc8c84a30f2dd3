"""The public door."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import stagedoor

MODULES = [
    name for _, name, _ in pkgutil.walk_packages(stagedoor.__path__, "stagedoor.") if not name.endswith("__main__")
]


def test_the_public_door_names_what_is_imported_there() -> None:
    imported = {
        name
        for name, value in vars(stagedoor).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("stagedoor.")
    }
    assert imported == set(stagedoor.__all__)
    for name in stagedoor.__all__:
        assert getattr(stagedoor, name).__doc__, f"{name} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_exports(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, "a module needs a sentence"
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported), exported


def test_the_core_needs_no_media_and_no_test_libraries() -> None:
    """Importing the library, and opening the built-in content types, loads neither."""
    code = (
        "import sys, stagedoor, stagedoor.musicdb\n"
        "from stagedoor.content import builtin\n"
        "builtin()[1]()\n"
        "print([m for m in ('av', 'PIL', 'hypothesis', 'pytest') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
