"""The two documents of an image: its config and its image manifest, as canonical JSON.

Only what decides how the image runs is in them: no time, no user, no host, no tool version.
Format: image-spec v1.0, ``config.md`` and ``manifest.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.image import (
    CODE_DIR,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    VENV_DIR,
    Descriptor,
    Layer,
)
from xmslurm_repro.model.reader import Reader

CREATED = "1970-01-01T00:00:01Z"
"""The constant time of everything that we create, as in our tars."""

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PLATFORM_MEMBERS = ("architecture", "os", "os.version", "os.features", "variant")
_CONFIG_MEMBERS = ("Labels", "StopSignal")
"""What of the base's settings we keep beside ``Env``. An entry point would come before the
command, a user could not write outputs, volumes would hide what the image holds."""

_DOCKER_LAYERS = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": MEDIA_TYPE_LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
}


def merged_env(
    base: Sequence[tuple[str, str]], *, has_python: bool, is_conda: bool = False
) -> tuple[tuple[str, str], ...]:
    """The base's environment with our ``PATH`` and ``VIRTUAL_ENV`` where there is a Python; a
    conda environment has ``CONDA_PREFIX`` in place of that.
    """
    if not has_python and not is_conda:
        return tuple(base)
    env = dict(base)
    env["PATH"] = f"{VENV_DIR}/bin:{env.get('PATH') or _DEFAULT_PATH}"
    env["CONDA_PREFIX" if is_conda else "VIRTUAL_ENV"] = VENV_DIR
    return tuple(env.items())


def image_config(
    base: Reader,
    env: Sequence[tuple[str, str]],
    base_layers: Sequence[Layer],
    our_layers: Sequence[Layer],
    *,
    layout: int,
) -> bytes:
    """
    Write the config of an image that puts *our_layers* on a base with the config *base*.

    Raises:
        FormatError: If *base* is not what a config should be.
    """
    document: dict[str, Json] = {"os": "linux", "created": CREATED}
    for name in _PLATFORM_MEMBERS:
        if (member := base.maybe(name)) is not None:
            document[name] = member.value
    settings: dict[str, Json] = {
        "Env": [f"{name}={value}" for name, value in env],
        "WorkingDir": CODE_DIR,
    }
    old = base.maybe("config")
    for name in _CONFIG_MEMBERS:
        if old is not None and (member := old.maybe(name)) is not None:
            settings[name] = member.value
    document["config"] = settings
    document["rootfs"] = {
        "type": "layers",
        "diff_ids": [str(layer.diff_id) for layer in (*base_layers, *our_layers)],
    }
    document["history"] = [
        *_base_history(base, base_layers),
        *(_history_entry(layer, layout) for layer in our_layers),
    ]
    return canonical_json(document)


def image_manifest(config: Descriptor, layers: Sequence[Layer]) -> bytes:
    """Write the OCI image manifest; Docker's media types become OCI's, the blobs stay."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_MANIFEST,
            "config": config.to_json(),
            "layers": [_layer_descriptor(layer.blob) for layer in layers],
        }
    )


def oci_layer(blob: Descriptor) -> Descriptor:
    """The layer *blob* under OCI's media type for the same bytes."""
    return Descriptor(
        media_type=_DOCKER_LAYERS.get(blob.media_type, blob.media_type),
        digest=blob.digest,
        size_bytes=blob.size_bytes,
    )


def _layer_descriptor(blob: Descriptor) -> Json:
    return oci_layer(blob).to_json()


def _history_entry(layer: Layer, layout: int) -> Json:
    return {"created": CREATED, "created_by": f"xmslurm-repro layout {layout}: {layer.title}"}


def _base_history(base: Reader, layers: Sequence[Layer]) -> list[Json]:
    # charliecloud refuses a config without history, and others one that does not tell of as
    # many layers as there are.
    history = base.maybe("history")
    entries = [entry.value for entry in history.items()] if history else []
    telling = [
        entry for entry in entries if not (isinstance(entry, dict) and entry.get("empty_layer"))
    ]
    if len(telling) == len(layers):
        return entries
    return [{"created": CREATED, "created_by": layer.title} for layer in layers]
