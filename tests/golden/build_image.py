"""Build one fixed image and print its digests: ``build_image.py FOLDER forwards|backwards [UID]``.

``forwards+projects`` puts local projects on top, ``forwards+layout-1`` writes that layout.

A program of its own, so that a test can run it under another user, umask, locale and so on. Its
wheels are kept as files beside it, because zlib's bytes are its own business.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import sys
from pathlib import Path

from tests.unit.image_parts import DictTree
from xmslurm_repro.image.build import Builder
from xmslurm_repro.model.canonical import canonical_json, readable_json
from xmslurm_repro.model.image import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    BaseImage,
    Descriptor,
    Layer,
    LayerKind,
    Recipe,
)
from xmslurm_repro.model.lock import Artifact, Target
from xmslurm_repro.model.project import EntryPoint, Project
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.layout import DiskBlobStore

WHEELS = Path(__file__).parent / "image"
# Read before the user changes: this repository may lie in a folder of root's.
WHEEL_BYTES = {path: path.read_bytes() for path in sorted(WHEELS.glob("*.whl"))}
TEXT = b"".join(b"line %d\n" % number for number in range(3000))
FILES: dict[str | bytes, bytes] = {
    "train.py": b"import demo\nprint(demo.x)\n",
    "*scripts/run.sh": b"#!/bin/sh\nexec python train.py\n",
    "@latest": b"data/a.csv",
    "src/pkg/__init__.py": b"",
    "src/pkg/größe.py": b"x = 1\n",
    b"caf\xe9.txt": b"name that is no UTF-8\n",
    "deep/" * 30 + "file.txt": b"a long path\n",
    "data/a.csv": TEXT,
    "data/weights.bin": hashlib.shake_128(b"weights").digest(1_200_000),
    "image.png": hashlib.shake_128(b"image").digest(70_000),
}


# For layout 2: enough of each size for several layers of each kind.
MORE_FILES = {
    f"many/{size}/{number:02}.py": hashlib.shake_128(b"%d" % number).digest(size)
    for size, count in ((3_000, 60), (20_000, 14), (70_000, 5))
    for number in range(count)
}

PROJECTS = (
    Project(
        name="My.Lab",
        version="1.0b0",
        sources=("src",),
        entry_points=(
            EntryPoint(group="console_scripts", name="größe", value="pkg.größe:main"),
            EntryPoint(group="lab.plugins", name="one", value="pkg.größe"),
        ),
    ),
    Project(name="deep", version="0+unknown", sources=("deep/deep", "data")),
)


def build(
    folder: Path, *, backwards: bool, layout: int, projects: tuple[Project, ...] = ()
) -> dict[str, object]:
    """Build the image below *folder*; backwards, everything is given in reverse order."""
    blobs = DiskBlobStore(folder / "oci")

    def put(data: bytes, media_type: str) -> Descriptor:
        return Descriptor(media_type=media_type, digest=blobs.put(data), size_bytes=len(data))

    target = Target(
        architecture="amd64",
        libc=("glibc", 2, 36),
        python="3.11.2",
        python_executable="/usr/bin/python3.11",
        source="golden",
    )
    layer = put(bytes.fromhex("1f8b08000000000002ff03000000000000000000"), MEDIA_TYPE_LAYER_GZIP)
    empty = hashlib.sha256(b"").hexdigest()
    config = put(
        canonical_json(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/usr/bin:/bin", "LANG=C"], "Labels": {"b": "1", "a": "2"}},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{empty}"]},
            }
        ),
        MEDIA_TYPE_CONFIG,
    )
    base = BaseImage(
        reference="golden",
        manifest=put(b"{}", MEDIA_TYPE_MANIFEST),
        config=config,
        architecture="amd64",
        target=target,
        env=(("PATH", "/usr/bin:/bin"), ("LANG", "C")),
        layers=(
            Layer(
                kind=LayerKind.BASE,
                title="base 1 of 1",
                diff_id=layer.digest.sha256(empty),
                blob=layer,
            ),
        ),
    )
    artifacts = [
        Artifact(
            name=path.name.split("-")[0],
            version=path.name.split("-")[1],
            filename=path.name,
            sha256=blobs.put(data),
        )
        for path, data in WHEEL_BYTES.items()
    ]
    items = [*FILES.items(), *(MORE_FILES.items() if layout > 1 else ())]
    if backwards:
        artifacts, items, projects = artifacts[::-1], items[::-1], projects[::-1]
    tree = DictTree(dict(items))
    recipe = Recipe(
        layout=layout,
        base=base.manifest.digest,
        base_reference=base.reference,
        target=target,
        artifacts=tuple(artifacts),
        snapshot=tree.root,
        projects=projects,
    )
    image = Builder(blobs, folder / "cache").build(recipe, base, tree, SilentProgress())
    return {
        "manifest": str(image.manifest.digest),
        "config": str(image.config.digest),
        "layers": [layer.to_json() for layer in image.layers],
        "config document": blobs.get(image.config.digest).decode(),
        "manifest document": blobs.get(image.manifest.digest).decode(),
    }


if __name__ == "__main__":
    if len(sys.argv) > 3:
        # Not before this program has started: its interpreter may lie in a home of root's.
        codecs.lookup("cp437")  # of zip names
        os.setgroups([])
        os.setgid(int(sys.argv[3]))
        os.setuid(int(sys.argv[3]))
    order, *more = sys.argv[2].split("+")
    made = build(
        Path(sys.argv[1]),
        backwards=order == "backwards",
        layout=1 if "layout-1" in more else 2,
        projects=PROJECTS if "projects" in more else (),
    )
    print(readable_json(made))
