"""An image registry on loopback: plain HTTP, empty at first, deleting allowed."""

from __future__ import annotations

import os

from tests.testbed.ports import accepts
from tests.testbed.processes import Servers, program, search_path, wait_until


def start_registry(servers: Servers, port: int, *, name: str = "registry") -> str:
    """Start it; returns ``127.0.0.1:PORT``."""
    folder = servers.root / name
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text(f"""\
version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: {folder}/data
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
""")
    words = [program("docker-registry"), "serve", os.fspath(config)]
    servers.start(name, words, {"PATH": search_path()})
    wait_until(lambda: accepts(port), "the registry listens", log=servers.log(name))
    return f"127.0.0.1:{port}"
