"""``python -m stagedoor.diagrams``."""

from __future__ import annotations

import sys

from .files import main

if __name__ == "__main__":
    sys.exit(main())
