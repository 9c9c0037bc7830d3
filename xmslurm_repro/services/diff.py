"""Diff: two experiments over every axis, causes before effects."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.difference import Difference, compare_maps, group
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.manifest import Manifest
from xmslurm_repro.model.run import Outcome
from xmslurm_repro.model.snapshot import EntryKind, PathEntry
from xmslurm_repro.model.verdict import compare_facts
from xmslurm_repro.model.work import Job
from xmslurm_repro.ports.record import RunRow
from xmslurm_repro.ports.store import Tree
from xmslurm_repro.services.lookup import Selection, read_manifest, read_unit, runs_of
from xmslurm_repro.services.observe import last_outcome, refresh
from xmslurm_repro.services.tools import Tools

_LARGEST_SHOWN_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One of the two experiments: its manifest, and by unit the newest run and what came of it."""

    manifest: Manifest
    runs: dict[int, RunRow]
    outcomes: dict[int, Outcome]


async def diff(tools: Tools, left: Selection, right: Selection) -> tuple[Difference, ...]:
    """
    What differs between two experiments, or two of their units.

    Returns:
        The axes that differ, causes (code, packages, base, command, inputs, hardware) before
        effects (end, outputs); empty when nothing differs.
    """
    sides = [await _side(tools, selection) for selection in (left, right)]
    pairs = _unit_pairs(sides[0], sides[1], left.unit_number, right.unit_number)
    found = [
        *_code(tools, sides[0].manifest, sides[1].manifest),
        *_packages(sides[0].manifest, sides[1].manifest),
        *_bases(sides[0].manifest, sides[1].manifest),
    ]
    for one, other in pairs:
        below = _unit(tools, sides[0], sides[1], one, other)
        if len(pairs) == 1:
            found.extend(below)
        else:
            found.extend(group(f"work unit {one or other}", below))
    return tuple(found)


async def _side(tools: Tools, selection: Selection) -> _Side:
    runs = await refresh(tools, runs_of(tools.record, selection))
    newest = {run.receipt.unit_number: run for run in runs}
    outcomes = {
        number: outcome
        for number, run in newest.items()
        if (outcome := last_outcome(tools, run.receipt.run_id)) is not None
    }
    return _Side(manifest=read_manifest(tools.store, selection.row), runs=newest, outcomes=outcomes)


def _unit_pairs(
    left: _Side, right: _Side, one: int | None, other: int | None
) -> list[tuple[int | None, int | None]]:
    if one is not None or other is not None:
        return [(one if one is not None else 1, other if other is not None else one or 1)]
    numbers = sorted(left.runs.keys() | right.runs.keys())
    return [
        (number if number in left.runs else None, number if number in right.runs else None)
        for number in numbers
    ]


def _code(tools: Tools, left: Manifest, right: Manifest) -> list[Difference]:
    if left.snapshots == right.snapshots:
        return []
    children: list[Difference] = []
    before = [root for root in left.snapshots if root not in right.snapshots]
    after = [root for root in right.snapshots if root not in left.snapshots]
    for number in range(max(len(before), len(after))):
        trees = [
            tools.snapshots.tree(roots[number]) if number < len(roots) else None
            for roots in (before, after)
        ]
        children.extend(_compare_trees(trees[0], trees[1]))
    return group("code", children)


def _compare_trees(left: Tree | None, right: Tree | None) -> list[Difference]:
    before = {entry.path: entry for entry in left.entries()} if left else {}
    after = {entry.path: entry for entry in right.entries()} if right else {}
    return [
        Difference(
            path=path.decode("utf-8", "backslashreplace"),
            left=_say_entry(before.get(path)),
            right=_say_entry(after.get(path)),
            note=_unified(left, right, before.get(path), after.get(path)),
        )
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def _say_entry(entry: PathEntry | None) -> str | None:
    if entry is None:
        return None
    kinds = {EntryKind.FILE: "", EntryKind.EXECUTABLE: "executable, ", EntryKind.SYMLINK: "link, "}
    return f"{kinds.get(entry.kind, '')}{entry.size_bytes} bytes, {entry.digest.short}"


def _unified(
    left: Tree | None, right: Tree | None, before: PathEntry | None, after: PathEntry | None
) -> str | None:
    """A unified diff of two texts, or nothing where they are none or are large."""
    if before is not None and after is not None and before.digest == after.digest:
        return None
    texts = [_text(left, before), _text(right, after)]
    if texts[0] is None or texts[1] is None:
        return None
    lines = difflib.unified_diff(
        texts[0].splitlines(), texts[1].splitlines(), lineterm="", n=2, fromfile="a", tofile="b"
    )
    return "\n".join(list(lines)[2:]) or None


def _text(tree: Tree | None, entry: PathEntry | None) -> str | None:
    if tree is None or entry is None:
        return ""
    if entry.size_bytes > _LARGEST_SHOWN_BYTES:
        return None
    with tree.open(entry.digest) as stream:
        data = stream.read()
    try:
        return None if b"\0" in data else data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _packages(left: Manifest, right: Manifest) -> list[Difference]:
    def pinned(manifest: Manifest) -> dict[str, str]:
        return {
            artifact.name: f"{artifact.version} ({artifact.sha256.short})"
            for image in manifest.images
            for artifact in image.recipe.artifacts
        }

    return group("packages", compare_maps(pinned(left), pinned(right)))


def _bases(left: Manifest, right: Manifest) -> list[Difference]:
    def bases(manifest: Manifest) -> dict[str, str]:
        return {
            str(number): f"{image.recipe.base_reference} ({image.recipe.base})"
            for number, image in enumerate(manifest.images, start=1)
        }

    if {i.recipe.base for i in left.images} == {i.recipe.base for i in right.images}:
        return []
    return group("base image", compare_maps(bases(left), bases(right)))


def _unit(
    tools: Tools, left: _Side, right: _Side, one: int | None, other: int | None
) -> list[Difference]:
    if one not in left.runs or other not in right.runs:
        return [
            Difference(
                path="runs",
                left="present" if one in left.runs else None,
                right="present" if other in right.runs else None,
            )
        ]
    before, after = left.runs[one], right.runs[other]
    found = _jobs(tools, before.receipt.unit, after.receipt.unit)
    placed = [
        {"cluster": run.receipt.cluster, **dict(run.receipt.options)} for run in (before, after)
    ]
    found += group("placement", compare_maps(placed[0], placed[1]))
    if one in left.outcomes and other in right.outcomes:
        found += _outcomes(left.outcomes[one], right.outcomes[other])
    elif before.state != after.state:
        found.append(Difference(path="state", left=before.state.value, right=after.state.value))
    return found


def _jobs(tools: Tools, left: Digest, right: Digest) -> list[Difference]:
    if left == right:
        return []
    jobs = [read_unit(tools.store, digest).jobs for digest in (left, right)]
    found: list[Difference] = []
    for before, after in zip(jobs[0], jobs[1], strict=False):
        found += _job(before, after)
    if len(jobs[0]) != len(jobs[1]):
        found.append(Difference(path="jobs", left=str(len(jobs[0])), right=str(len(jobs[1]))))
    return found


def _job(left: Job, right: Job) -> list[Difference]:
    found = []
    if left.argv != right.argv:
        words = [canonical_json(list(job.argv)).decode() for job in (left, right)]
        found.append(Difference(path="command", left=words[0], right=words[1]))
    inputs = [{each.name: str(each.digest) for each in job.inputs} for job in (left, right)]
    found += group("inputs", compare_maps(inputs[0], inputs[1]))
    found += group("environment", compare_maps(dict(left.env), dict(right.env)))
    asked = [
        {name: canonical_json(value).decode() for name, value in job.resources.to_json().items()}
        for job in (left, right)
    ]
    found += group("resources", compare_maps(asked[0], asked[1]))
    other = [
        {
            "work folder": job.workdir,
            "network": job.network.value,
            **({"secrets": " ".join(job.secrets)} if job.secrets else {}),
        }
        for job in (left, right)
    ]
    return found + compare_maps(other[0], other[1])


def _outcomes(left: Outcome, right: Outcome) -> list[Difference]:
    facts = [
        Difference(path=fact.name, left=fact.original, right=fact.replay)
        for fact in compare_facts(left, right)
    ]
    ends = [
        {"state": outcome.state.value, "exit code": str(outcome.exit_code)}
        for outcome in (left, right)
    ]
    files = [
        {file.path: f"{file.size_bytes} bytes, {file.sha256.short}" for file in outcome.outputs}
        for outcome in (left, right)
    ]
    return [
        *group("node", facts),
        *group("end", compare_maps(ends[0], ends[1])),
        *group("outputs", compare_maps(files[0], files[1])),
    ]
