"""A base for another architecture, made without an emulator, and clusters that have it."""

from __future__ import annotations

import json

import pytest

from tests.support.cli import QUICKSTART, Cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def arm(tmp_path_factory, base_home) -> Cli:
    """A data folder with a base called ``arm``, and the quickstart's project."""
    folder = tmp_path_factory.mktemp("arm")
    for name in ("pyproject.toml", "uv.lock"):
        (folder / name).write_bytes((QUICKSTART / name).read_bytes())
    cli = Cli(folder=folder, home=folder / "home", env={"XDG_CONFIG_HOME": str(folder / "config")})
    cli.run("base", "create", "arm", "--arch", "arm64")
    return cli


def plan(cli: Cli, *words: str) -> dict:
    return cli.json("launch", "--no-git", "--dry-run", *words, "--", "python", "x")["recipe"]


def test_wheels_are_chosen_for_the_bases_architecture(arm):
    recipe = plan(arm, "--base", "arm")

    assert "arm64" == recipe["target"]["architecture"]
    assert "aarch64" in recipe["artifacts"][0]["filename"]


def test_a_clusters_architecture_has_to_be_the_bases(arm, base_home):
    config = arm.folder / "config" / "xmslurm-repro"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('[clusters.local]\narchitecture = "arm64"\n')
    arm.run("base", "add", f"oci:{base_home}/oci:base/default", "--name", "amd")
    done = arm.run("launch", "--no-git", "--dry-run", "--base", "amd", "--", "true", status=16)

    assert "the base image amd is for amd64, not arm64" in done.stderr
    assert "arm64" == plan(arm, "--base", "arm")["target"]["architecture"]


def test_of_an_image_for_several_architectures_a_cluster_gets_its_own(arm, base_home):
    layout = arm.folder / "both"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    entries = []
    for home, name, machine in ((base_home, "default", "amd64"), (arm.home, "arm", "arm64")):
        index = json.loads((home / "oci" / "index.json").read_text())
        (entry,) = [
            one
            for one in index["manifests"]
            if one["annotations"]["org.opencontainers.image.ref.name"] == f"base/{name}"
        ]
        del entry["annotations"]
        entries.append({**entry, "platform": {"os": "linux", "architecture": machine}})
        manifest = json.loads((home / "oci/blobs" / entry["digest"].replace(":", "/")).read_text())
        for one in (entry, manifest["config"], *manifest["layers"]):
            path = one["digest"].replace(":", "/")
            (layout / "blobs" / path).hardlink_to(home / "oci" / "blobs" / path)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {"schemaVersion": 2, "manifests": entries}
    (layout / "index.json").write_text(json.dumps(index))

    for machine in ("amd64", "arm64"):
        text = f'[clusters.local]\narchitecture = "{machine}"\n'
        (arm.folder / "config/xmslurm-repro/config.toml").write_text(text)
        assert machine == plan(arm, "--base", f"oci:{layout}")["target"]["architecture"]
