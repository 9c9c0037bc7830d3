"""What a person lets into a snapshot beyond git's own rules, and what they keep out."""

from __future__ import annotations

from dataclasses import dataclass

from xmslurm_repro.model.canonical import Json

DEFAULT_MAX_FILE_BYTES = 100_000_000
"""Untracked files beyond this are more often a checkpoint or a data set than code."""

DEFAULT_SECRETS = (
    "*.env",
    ".env",
    ".env.*",
    "!*.env.dist",
    "!*.env.example",
    "!*.env.sample",
    "!*.env.template",
    "!.env.default",
    "!.env.defaults",
    "!.env.dist",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    "!example.env",
    "!sample.env",
    "!template.env",
    "*.agekey",
    "*.jks",
    "*.kdbx",
    "*.key",
    "*.keystore",
    "*.kubeconfig",
    "*.p12",
    "*.pem",
    "*.pfx",
    "*.ppk",
    "*.tfstate",
    "*.tfstate.backup",
    ".Renviron",
    ".boto",
    ".databrickscfg",
    ".dockercfg",
    ".dockerconfigjson",
    ".git-credentials",
    ".htpasswd",
    ".my.cnf",
    ".netrc",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".secrets",
    ".token",
    ".vault-token",
    "_netrc",
    "application_default_credentials.json",
    "client_secret*.json",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "id_dsa",
    "id_ecdsa",
    "id_ecdsa_sk",
    "id_ed25519",
    "id_ed25519_sk",
    "id_rsa",
    "kaggle.json",
    "kubeconfig",
    "kubeconfig.y*ml",
    "rclone.conf",
    "secrets.json",
    "secrets.toml",
    "secrets.y*ml",
    "service-account*.json",
    "service_account*.json",
    "*-service-account*.json",
)
"""Names under which programs keep secrets, as gitignore patterns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """
    Why a path is in a snapshot, or out.

    Attributes:
        path: From the root of the work tree.
        is_captured: Whether a launch would capture it.
        why: For people.
        rule: The pattern that decided, if one did.
        file: Where the rule stands: a file, or ``[snapshot] exclude`` of the configuration.
        line: At which line of *file*, from 1.
    """

    path: str
    is_captured: bool
    why: str
    rule: str | None = None
    file: str | None = None
    line: int | None = None

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON."""
        return {
            "path": self.path,
            "is_captured": self.is_captured,
            "why": self.why,
            "rule": self.rule,
            "file": self.file,
            "line": self.line,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    Rules for a capture; all patterns are written as in a ``.gitignore`` at the root of the work
    tree, and of two that match the last one counts.

    Attributes:
        include: Captured whatever else is said: though git ignores it, however large it is, and
            though it looks like a secret.
        exclude: Left out, also when git tracks it.
        max_file_bytes: An untracked file beyond it is refused; ``None`` for no limit.
        secrets: Names that look like secrets.
        looks_inside: Whether to look for keys and tokens in small untracked files.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_file_bytes: int | None = DEFAULT_MAX_FILE_BYTES
    secrets: tuple[str, ...] = DEFAULT_SECRETS
    looks_inside: bool = True

    def to_json(self) -> Json:
        """Write it as JSON, to compare."""
        limit = self.max_file_bytes
        return [
            [*self.include],
            [*self.exclude],
            None if limit is None else str(limit),
            [*self.secrets],
            self.looks_inside,
        ]
