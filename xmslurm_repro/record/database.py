"""A SQLite file that several processes write at once; it survives any of them being killed."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmslurm_repro.errors import FormatError, StoreError
from xmslurm_repro.record.schema import APPLICATION_ID, MIGRATIONS

_BUSY_SECONDS = 60.0

# WAL shares memory between the processes that use the file, which hosts cannot do over a network
# (sqlite.org/wal.html); SQLite itself does not notice, and the file is damaged silently.
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "fhgfs", "fuse.ceph", "fuse.glusterfs",
        "fuse.juicefs", "fuse.sshfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
        "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "virtiofs", "wekafs",
    }
)  # fmt: skip


def file_system_type(path: Path, mount_table: str) -> str | None:
    """
    The type of the file system that *path* (absolute, resolved) is on.

    *mount_table* is the text of ``/proc/self/mountinfo`` (proc(5)); ``None`` where it says
    nothing. The last line that fits wins, as later mounts hide earlier ones.
    """
    found: tuple[int, str] | None = None
    for line in mount_table.splitlines():
        words, _, tail = line.partition(" - ")
        fields = words.split(" ")
        if len(fields) < 5 or not tail:
            continue
        mount_point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        if path.is_relative_to(mount_point):
            depth = len(Path(mount_point).parts)
            if found is None or depth >= found[0]:
                found = (depth, tail.split(" ")[0])
    return found[1] if found else None


class Database:
    """One connection, usable from several threads. SQLite's errors come out as ours."""

    def __init__(self, path: Path) -> None:
        """
        Open *path*, making it (mode 0600) or bringing it up to date as needed.

        Raises:
            StoreError: If it cannot be opened, or is damaged.
            FormatError: If it is no record of ours, or a newer tool's.
        """
        self._path = path
        self._lock = threading.RLock()
        self._make_file()
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._check_owner()
                self._choose_journal()
                self._migrate()
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """
        Write several things: all are on disk when the block ends, or none if it raises.

        Waits for other writers, and holds them off from the first statement on.
        """
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def select(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query, as they were at one moment."""
        with self._lock, self._translated():
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        with self._lock:
            self._connection.close()

    def _make_file(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its side files the mode of the main file.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(
                f"the record {self._path} cannot be written: {error.strerror or error}",
                hint="Check that the disk is not full and that the folder is yours.",
            ) from error

    def _check_owner(self) -> None:
        (owner,) = self._connection.execute("PRAGMA application_id").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and owner != APPLICATION_ID:
            raise FormatError(
                f"{self._path} is a database of another program, not a record",
                hint="Move it away, or set XMSLURM_REPRO_HOME to another folder.",
            )

    def _choose_journal(self) -> None:
        self._connection.execute("PRAGMA foreign_keys = ON")
        # With WAL, less than FULL may lose the last transactions when the power fails.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA fullfsync = ON")
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
        except OSError:
            mounts = ""
        is_remote = file_system_type(self._path.resolve(), mounts) in _NETWORK_FILE_SYSTEMS
        try:
            self._connection.execute(f"PRAGMA journal_mode = {'DELETE' if is_remote else 'WAL'}")
        except sqlite3.OperationalError:
            # Another process holds the file at this moment. Whatever mode it is in serves.
            if is_remote:
                raise

    def _migrate(self) -> None:
        if self._version() == len(MIGRATIONS):
            return
        with self.transaction() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (version INTEGER PRIMARY KEY, title TEXT NOT NULL) STRICT"
            )
            done = self._version()
            if done > len(MIGRATIONS):
                raise FormatError(
                    f"the record {self._path} has schema {done}, written by a newer version of"
                    f" xmslurm-repro; this one knows {len(MIGRATIONS)}",
                    hint="Upgrade xmslurm-repro here. Nothing was changed.",
                )
            for version, (title, statements) in enumerate(MIGRATIONS[done:], start=done + 1):
                for statement in statements:
                    connection.execute(statement)
                connection.execute("INSERT INTO migrations VALUES (?, ?)", (version, title))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def _version(self) -> int:
        known = "SELECT count(*) FROM sqlite_schema WHERE name = 'migrations'"
        if not self._connection.execute(known).fetchone()[0]:
            return 0
        (version,) = self._connection.execute("SELECT max(version) FROM migrations").fetchone()
        return int(version or 0)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._ours(error) from error

    def _ours(self, error: sqlite3.Error) -> StoreError:
        name = getattr(error, "sqlite_errorname", None) or type(error).__name__
        details = (f"SQLite says: {error} ({name})",)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreError(
                f"the record {self._path} was in use by another process for over"
                f" {_BUSY_SECONDS:.0f} seconds",
                hint="Wait for it to end and try again; `fuser` on the file names it.",
                details=details,
            )
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return StoreError(
                f"the record {self._path} is damaged",
                hint="Run `xmslurm-repro verify --rebuild-record` to make it again from the store.",
                details=details,
            )
        # A reader needs a little room, too, for what it shares with writers.
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_SHM", "SQLITE_IOERR_WRITE")):
            return StoreError(
                f"there is no room left for the record {self._path}",
                hint="Free some space and try again. What was recorded before is safe.",
                details=details,
            )
        return StoreError(f"the record {self._path} cannot be used: {error}", details=details)
