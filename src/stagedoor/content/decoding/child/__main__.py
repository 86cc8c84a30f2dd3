"""Runs the child by path: the package is found beside this file, and nothing else of the library is."""

import importlib
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
main = importlib.import_module("child.main").main
del sys.path[0]

if __name__ == "__main__":
    main()
