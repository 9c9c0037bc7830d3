"""Another Debian beside this one, for programs that are in no package here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xmslurm_repro.ports.transport import Completed, Transport

USER_ID = 64001

KEEPER = """
set -e
cd "$1"
mount --bind . .
cd "$1"
for folder in proc sys dev tmp; do mount --rbind "/$folder" "$folder"; done
mkdir -p .old
pivot_root . .old
echo ready
exec sleep infinity
"""


@contextmanager
def debian_root(folder: Path, suite: str, *packages: str) -> Iterator[int]:
    """
    Make a root folder of *suite* with *packages*.

    Yields the id of a process whose mount namespace has it as its root, with this machine's
    ``/proc``, ``/sys``, ``/dev`` and ``/tmp``. In it there is a user with the id `USER_ID`.
    """
    root = folder / "root"
    words = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(packages)}"]
    words += ['--aptopt=Acquire::Check-Valid-Until "false"', suite, str(root)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, timeout=300)
    home = root / "home" / "somebody"
    home.mkdir()
    os.chown(home, USER_ID, USER_ID)
    with (root / "etc" / "passwd").open("a") as file:
        file.write(f"somebody:x:{USER_ID}:{USER_ID}::/home/somebody:/bin/sh\n")
    keeper = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "bash", "-c", KEEPER, "keeper", str(root)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        yield keeper.pid
    finally:
        keeper.kill()
        keeper.communicate()


@dataclass(frozen=True)
class Inside:
    """Runs commands where *keeper* is, as the user there."""

    inner: Transport
    keeper: int

    @property
    def description(self) -> str:
        return "another Debian"

    def _words(self, argv: Sequence[str]) -> list[str]:
        user = [f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups"]
        enter = ["nsenter", f"--mount=/proc/{self.keeper}/ns/mnt", "setpriv", *user]
        return [*enter, *argv]

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | AsyncIterable[bytes] = b"",
        timeout_seconds: float | None = None,
    ) -> Completed:
        words = self._words(argv)
        return await self.inner.run(words, stdin=stdin, timeout_seconds=timeout_seconds)

    def stream(self, argv: Sequence[str], *, stdin: bytes = b"") -> AsyncIterator[bytes]:
        return self.inner.stream(self._words(argv), stdin=stdin)

    async def close(self) -> None:
        await self.inner.close()
