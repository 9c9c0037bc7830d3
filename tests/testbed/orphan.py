"""Waits for the end of its standard input, then ends the test bed whose folder it was given."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.testbed.bed import stop_testbed

if __name__ == "__main__":
    sys.stdin.buffer.read()
    stop_testbed(Path(sys.argv[1]))
