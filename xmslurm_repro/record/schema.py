"""The tables of the record, as steps that lead to them. A step, once released, never changes."""

from __future__ import annotations

APPLICATION_ID = 0x786D7372
"""``xmsr``, in the header of the file (SQLite's ``application_id``): this database is ours."""

MIGRATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "experiments, runs, outcomes, annotations",
        (
            # AUTOINCREMENT: an id that a person wrote down never comes to mean something else.
            """
            CREATE TABLE experiments (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                title TEXT NOT NULL,
                manifest TEXT,
                created_at TEXT NOT NULL,
                replay_of INTEGER REFERENCES experiments (id)
            ) STRICT
            """,
            """
            CREATE TABLE runs (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                token TEXT NOT NULL,
                task INTEGER NOT NULL,
                experiment_id INTEGER NOT NULL REFERENCES experiments (id),
                unit_number INTEGER NOT NULL,
                cluster TEXT NOT NULL,
                job_id TEXT,
                withdrawn INTEGER NOT NULL DEFAULT 0,
                state TEXT NOT NULL,
                reason TEXT,
                receipt TEXT NOT NULL,
                UNIQUE (token, task)
            ) STRICT
            """,
            "CREATE INDEX runs_of_experiment ON runs (experiment_id, unit_number)",
            """
            CREATE INDEX runs_unconfirmed ON runs (sequence)
                WHERE job_id IS NULL AND withdrawn = 0
            """,
            """
            CREATE TABLE outcomes (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                token TEXT NOT NULL,
                task INTEGER NOT NULL,
                attempt TEXT NOT NULL,
                state TEXT NOT NULL,
                outcome TEXT NOT NULL,
                UNIQUE (token, task, attempt),
                FOREIGN KEY (token, task) REFERENCES runs (token, task)
            ) STRICT
            """,
            """
            CREATE TABLE annotations (
                experiment_id INTEGER NOT NULL REFERENCES experiments (id),
                unit_number INTEGER NOT NULL,
                name TEXT NOT NULL,
                value TEXT NOT NULL,
                PRIMARY KEY (experiment_id, unit_number, name)
            ) STRICT
            """,
        ),
    ),
)
"""Each migration's title and statements; the schema's version is how many were applied."""
