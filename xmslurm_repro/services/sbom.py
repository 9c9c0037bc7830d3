"""What is inside an image, as a bill of materials: CycloneDX 1.6, JSON.

A function of the image's recipe and of its base alone: no time, no serial number, no tool.
Package URLs: purl-spec, the types ``pypi``, ``conda``, ``deb``, ``apk`` and ``generic``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from xmslurm_repro.errors import UsageError
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.contents import Contents, SystemPackage
from xmslurm_repro.model.image import Image
from xmslurm_repro.model.lock import Artifact, Target
from xmslurm_repro.services.lookup import Selection, read_manifest, read_unit
from xmslurm_repro.services.tools import Tools

_Component = dict[str, Json]

_PYTHON_PACKAGE = re.compile(r"(?:lib)?python3\.\d+(?:-minimal)?|python3")


def selected_image(tools: Tools, selection: Selection) -> Image:
    """
    The image that the selected experiment, or unit of it, runs.

    Raises:
        UsageError: If these are several.
    """
    manifest = read_manifest(tools.store, selection.row)
    units = manifest.units
    if selection.unit_number is not None:
        units = units[selection.unit_number - 1 : selection.unit_number]
    jobs = [job for digest in units for job in read_unit(tools.store, digest).jobs]
    images = list(dict.fromkeys(job.image for job in jobs))
    if len(images) != 1:
        raise UsageError(
            f"experiment {selection.name} runs {len(images)} images",
            hint=f"Name a work unit: `xmslurm-repro sbom {selection.row.id}/1`.",
            details=[str(digest) for digest in images],
        )
    return manifest.image(images[0])


def bill_of_materials(tools: Tools, image: Image) -> dict[str, Json]:
    """
    List what *image* holds: wheels and conda packages, the base and its packages, local projects,
    the snapshot.

    Raises:
        NoBaseImageError: If the base is not in the store any more.
    """
    base = tools.bases.resolve(str(image.recipe.base), progress=tools.progress)
    contents = tools.bases.contents(base, progress=tools.progress)
    # The Python of a conda environment is among our packages.
    target = image.recipe.target if image.recipe.conda_layout is None else None
    system = list(_system(contents, target))
    ours = [*_added_system(image, contents), *_ours(image)]
    base_ref = f"base@{image.recipe.base}"
    subject = f"image@{image.manifest.digest}"
    components = [_base(image, base_ref), *system, *ours]
    depends: list[Json] = [
        {"ref": subject, "dependsOn": [base_ref, *_refs(ours)]},
        {"ref": base_ref, "dependsOn": _refs(system)},
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": subject,
                "name": "image",
                "version": str(image.manifest.digest),
                "hashes": [{"alg": "SHA-256", "content": image.manifest.digest.hex}],
                "properties": [
                    {"name": "oci:config", "value": str(image.config.digest)},
                    {"name": "oci:architecture", "value": image.architecture},
                ],
            }
        },
        "components": list[Json](components),
        "dependencies": depends,
    }


def _refs(components: list[_Component]) -> list[Json]:
    return [component["bom-ref"] for component in components]


def _base(image: Image, ref: str) -> _Component:
    return {
        "type": "container",
        "bom-ref": ref,
        "name": image.recipe.base_reference,
        "version": str(image.recipe.base),
        "hashes": [{"alg": "SHA-256", "content": image.recipe.base.hex}],
    }


def _system(contents: Contents, target: Target | None) -> Iterator[_Component]:
    if contents.distribution:
        name, release = contents.distribution, contents.release
        system: _Component = {
            "type": "operating-system",
            "bom-ref": f"system@{name}-{release}",
            "name": name,
        }
        yield {**system, "version": release} if release else system
    for package in contents.packages:
        yield _library(package.name, package.version, _system_purl(package, contents))
    packaged = any(_PYTHON_PACKAGE.fullmatch(package.name) for package in contents.packages)
    if target is not None and not packaged:
        purl = f"pkg:generic/python@{_quoted(target.python)}"
        yield {**_library("python", target.python, purl), "type": "application"}


def _system_purl(package: SystemPackage, contents: Contents) -> str:
    distribution = contents.distribution or {"deb": "debian", "apk": "alpine"}[package.kind]
    release = f"{distribution}-{contents.release}" if contents.release else ""
    qualifiers = (("arch", package.architecture), ("distro", release))
    said = "&".join(f"{name}={_quoted(value)}" for name, value in qualifiers if value)
    stem = f"pkg:{package.kind}/{_quoted(distribution)}/{_quoted(package.name)}"
    return f"{stem}@{_quoted(package.version)}" + (f"?{said}" if said else "")


def _added_system(image: Image, contents: Contents) -> Iterator[_Component]:
    for one in image.recipe.system:
        architecture = one.filename.removesuffix(".deb").rpartition("_")[2]
        package = SystemPackage(
            kind="deb", name=one.name, version=one.version, architecture=architecture
        )
        yield {
            **_library(one.name, one.version, _system_purl(package, contents)),
            "hashes": [{"alg": "SHA-256", "content": one.sha256.hex}],
        }


def _ours(image: Image) -> Iterator[_Component]:
    recipe = image.recipe
    for artifact in recipe.artifacts:
        component: _Component = {
            **_library(artifact.name, artifact.version, _artifact_purl(artifact)),
            "hashes": [{"alg": "SHA-256", "content": artifact.sha256.hex}],
        }
        if artifact.built is not None:
            made = artifact.built
            said = {"filename": made.filename, "sha256": made.sha256.hex, "tools": made.tools}
            component["properties"] = [
                {"name": f"built-of:{name}", "value": each}
                for name, values in said.items()
                for each in ([values] if isinstance(values, str) else values)
            ]
        yield component
    for project in recipe.projects:
        yield {
            "type": "application",
            "bom-ref": f"project@{project.name}",
            "name": project.name,
            "version": project.version,
        }
    if recipe.snapshot is not None:
        yield {
            "type": "file",
            "bom-ref": f"snapshot@{recipe.snapshot}",
            "name": "snapshot",
            "version": str(recipe.snapshot),
            "hashes": [{"alg": "BLAKE3", "content": recipe.snapshot.hex}],
        }


def _artifact_purl(artifact: Artifact) -> str:
    if artifact.channel is not None:
        return _conda_purl(artifact, artifact.channel)
    stem = f"pkg:pypi/{_quoted(artifact.name)}@{_quoted(artifact.version)}"
    return f"{stem}?file_name={_quoted(artifact.filename)}"


def _conda_purl(artifact: Artifact, channel: str) -> str:
    # purl-spec, the type conda: build, channel, subdir and type are its qualifiers.
    address, _, subdir = channel.rpartition("/")
    kind = "conda" if artifact.filename.endswith(".conda") else "tar.bz2"
    stem = artifact.filename.removesuffix(f".{kind}")
    said = (
        ("build", stem.rpartition("-")[2]),
        ("channel", address.rpartition("/")[2]),
        ("subdir", subdir),
        ("type", kind),
    )
    qualifiers = "&".join(f"{name}={_quoted(value)}" for name, value in said)
    return f"pkg:conda/{_quoted(artifact.name)}@{_quoted(artifact.version)}?{qualifiers}"


def _library(name: str, version: str, purl: str) -> _Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _quoted(text: str) -> str:
    # purl-spec: a colon stays, all else beside letters, digits and -._~ is percent-encoded.
    return quote(text, safe=":")
