"""What looks like a secret, and what only looks like one to a careless reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.git_box import GitBox
from xmslurm_repro.errors import DoubtfulFilesError
from xmslurm_repro.model.choice import Choice

# In parts, so that nobody's scanner takes this file for a leak.
PRIVATE = "-----BEGIN " + "PRIVATE KEY-----\nMII\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
HF = "hf" + "_" + "abcdefghijABCDEFGHIJabcdefghijABCD"
AWS = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYzzzzzzzzzz"
LONG = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"

SECRETS = {
    ".env": "A=1",
    ".env.local": "A=1",
    "prod.env": "A=1",
    "id_ed25519": "x",
    ".netrc": "x",
    ".pypirc": "x",
    ".aws/credentials": "x",
    ".streamlit/secrets.toml": "x",
    "kaggle.json": "x",
    "terraform.tfstate": "{}",
    "vertex-service-account-3.json": "{}",
    "server.pem": CERTIFICATE + PRIVATE,
    "raw.key": "0123456789",
    "my-project-12ab.json": '{"private_key": "' + PRIVATE.replace("\n", "\\n") + '"}',
    "aws.py": f'AWS_SECRET_ACCESS_KEY = "{AWS}"',
    "aws.json": f'{{"SecretAccessKey": "{AWS}"}}',
    "aws_id.py": "AK" + "IA" + "ABCDEFGH12345678",
    "hub.py": f'login(token="{HF}")',
    "big.ipynb": '{"cells": [' + " " * 500_000 + f'"{HF}"]}}',
    ".npmrc": "//npm.example.org/:_auth" + f"Token={LONG[:36]}",
    ".docker/config.json": '{"auths": {"ghcr.io": {"auth": "' + 'dXNlcjpwYXNzd29yZA=="}}}',
    ".kube/config": "users:\n- user:\n    client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJ\n",
    "pip.conf": "index-url = https://build:" + "s3cr3tpw@packages.example.net/simple",
    "openai.py": "sk" + "-proj-" + LONG,
    "anthropic.txt": "sk" + "-ant-api03-" + LONG,
    "stripe.py": "sk" + "_live_" + LONG,
    "wandb.sh": "export WANDB_API_KEY=" + "0123456789abcdef" * 2 + "01234567",
    "hook.txt": "https://hooks.slack" + ".com/services/T000/B000/" + LONG,
    "x.ppk": "PuTTY",
    "old.asc": "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----",
}
HARMLESS = {
    ".env.example": "A=",
    ".env.sample": "A=",
    "example.env": "A=",
    "id_ed25519.pub": "ssh-ed25519 AAAA",
    "ca.pem": CERTIFICATE,
    "public.pem": "-----BEGIN PUBLIC KEY-----\n",
    "server.crt": CERTIFICATE,
    "tokenizer.json": '{"vocab": {"sk-": 1, "hf_": 2}}',
    "secrets.py": "import secrets",
    "credentials.py": "class Credentials: ...",
    "keys.py": "KEYS = []",
    "README.md": "export WANDB_API_KEY=... and hf_xxx, AKIA" + "IOSFODNN7EXAMPLE",
    "settings.py": 'aws_secret_access_key = os.environ["AWS_SECRET_ACCESS_KEY"]',
    "urls.py": "postgres://postgres:postgres@db/x https://user:password@host/x http://h:80/@a",
    "style.css": ".task-sk-abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz {}",
    ".npmrc": "save-exact=true\n//r/:_auth" + "Token=${NPM_TOKEN}",
    "docker.json": '{"auths": {}}',
    "hash.txt": "0123456789abcdef" * 4,
    "kube.yaml": "kind: ConfigMap",
}


@pytest.fixture
def box(tmp_path: Path) -> GitBox:
    return GitBox(tmp_path / "box")


def test_every_secret_is_named_with_its_size_before_anything_is_captured(box: GitBox):
    for path, text in SECRETS.items():
        box.write(path, text)

    with pytest.raises(DoubtfulFilesError) as caught:
        box.capture(choice=Choice())

    named = {line.partition(": ")[0] for line in caught.value.details}
    assert SECRETS.keys() == named
    assert all(" bytes; " in line or " kB; " in line for line in caught.value.details)
    assert not list(box.store.digests())


def test_what_only_looks_like_a_secret_is_captured_unasked(box: GitBox):
    for path, text in HARMLESS.items():
        box.write(path, text)

    snapshot = box.capture(choice=Choice())

    assert len(HARMLESS) == snapshot.file_count
    assert () == snapshot.origin.notable
