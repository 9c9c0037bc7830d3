"""What a list of Debian packages needs beyond what a base has.

Nothing that is there is ever upgraded or removed: its files are in the layers of the base.
``Recommends`` are left out, as by ``apt-get install --no-install-recommends``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from xmslurm_repro.errors import SystemPackagesError
from xmslurm_repro.lock.debian_control import (
    Relation,
    paragraphs,
    parse_relations,
    version_key,
)

_GONE = ("config-files", "not-installed")
_OF_BASE = ", and the base has "
_OLD_BASE = (
    "Nothing in the base is upgraded: make it anew (`xmslurm-repro base create`), so that it is as "
    "new as the archive, or ask for other versions."
)
_NAMES = "Check the names and versions, or name more archives with `--source`."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Package:
    """A package that an archive offers, or that a base has."""

    name: str
    version: str
    fields: Mapping[str, str]

    def provides(self, relation: Relation) -> bool:
        """Whether it satisfies *relation*, by its name or by what it provides."""
        if self.name == relation.name:
            return relation.allows(self.version)
        for one, *_ in parse_relations(self.fields.get("Provides", "")):
            if one.name == relation.name and relation.allows(one.version or None):
                return True
        return False

    def relations(self, *names: str) -> Iterator[tuple[Relation, ...]]:
        """The groups of alternatives in these fields."""
        for name in names:
            yield from parse_relations(self.fields.get(name, ""))


def installed_packages(files: Mapping[str, bytes]) -> list[Package]:
    """What a base's package database lists."""
    found = []
    for path in sorted(files):
        if path == "var/lib/dpkg/status" or path.startswith("var/lib/dpkg/status.d/"):
            for fields in paragraphs(files[path].decode("utf-8", "replace")):
                gone = fields.get("Status", "").endswith(_GONE)
                if "Package" in fields and "Version" in fields and not gone:
                    found.append(_package(fields))
    return found


def _package(fields: Mapping[str, str]) -> Package:
    return Package(name=fields["Package"], version=fields["Version"], fields=fields)


@dataclass(slots=True, kw_only=True)
class _Resolver:
    installed: Mapping[str, Package]
    offered: Mapping[str, Sequence[Package]]
    """By name, newest first."""
    providers: Mapping[str, Sequence[Package]]
    chosen: dict[str, Package] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def want(self, words: Sequence[str]) -> None:
        todo: list[Package] = []
        for word in words:
            name, _, version = word.partition("=")
            relation = Relation(name=name, how="=" if version else "", version=version)
            todo += self._satisfy((relation,), "asked for")
        while todo:
            package = todo.pop(0)
            for group in package.relations("Pre-Depends", "Depends"):
                todo += self._satisfy(group, package.name)

    def _satisfy(self, group: Sequence[Relation], reason: str) -> list[Package]:
        """Choose a package for *group* unless there is one; those that are new."""
        here = (*self.installed.values(), *self.chosen.values())
        if any(package.provides(relation) for relation in group for package in here):
            return []
        for package in self._candidates(group):
            if package.name in self.chosen or package.name in self.installed:
                continue  # another version of it is needed than there is
            self.chosen[package.name] = package
            self.reasons[package.name] = reason
            return [package]
        self.problems.append(self._problem(group, reason))
        return []

    def _candidates(self, group: Sequence[Relation]) -> Iterator[Package]:
        for relation in group:
            for package in self.offered.get(relation.name, ()):
                if relation.allows(package.version):
                    yield package
            for package in self.providers.get(relation.name, ()):
                if package.provides(relation):
                    yield package

    def _problem(self, group: Sequence[Relation], reason: str) -> str:
        wanted = " | ".join(map(str, group))
        who = wanted if reason == "asked for" else f"{reason} needs {wanted}"
        for relation in group:
            if there := self.installed.get(relation.name):
                return f"{who}{_OF_BASE}{there.name} {there.version}"
            if taken := self.chosen.get(relation.name):
                why = self.reasons[taken.name]
                return f"{who}, and {taken.name} {taken.version} was chosen ({why})"
        versions = [p.version for relation in group for p in self.offered.get(relation.name, ())]
        offered = f"there is {', '.join(versions)}" if versions else "there is none"
        return f"{who}: {offered}"

    def conflicts(self) -> Iterator[str]:
        everything = (*self.installed.values(), *self.chosen.values())
        for package in everything:
            for group in package.relations("Conflicts", "Breaks"):
                for relation in group:
                    for other in everything:
                        is_new = package.name in self.chosen or other.name in self.chosen
                        if is_new and other is not package and other.provides(relation):
                            yield f"{package.name} cannot be beside {other.name} ({relation})"


def resolve_packages(
    requested: Sequence[str],
    installed: Iterable[Package],
    offered: Iterable[Mapping[str, str]],
    architecture: str,
) -> list[Package]:
    """
    The requested packages and what they need beyond *installed*, by name.

    Args:
        requested: ``NAME`` or ``NAME=VERSION``.
        installed: What the base has.
        offered: What the archives list.
        architecture: As Debian says it.

    Raises:
        SystemPackagesError: With all that cannot be had together.
    """
    by_name: dict[str, list[Package]] = {}
    providers: dict[str, list[Package]] = {}
    for fields in offered:
        if fields.get("Architecture") in {architecture, "all"}:
            package = _package(fields)
            by_name.setdefault(package.name, []).append(package)
    for packages in by_name.values():
        packages.sort(key=lambda package: version_key(package.version), reverse=True)
    for name in sorted(by_name):
        newest = by_name[name][0]
        for one, *_ in newest.relations("Provides"):
            providers.setdefault(one.name, []).append(newest)
    resolver = _Resolver(
        installed={package.name: package for package in installed},
        offered=by_name,
        providers=providers,
    )
    resolver.want(requested)
    problems = resolver.problems or sorted(set(resolver.conflicts()))
    if problems:
        raise SystemPackagesError(
            "the system packages cannot be installed on this base image",
            details=problems,
            hint=_OLD_BASE if any(_OF_BASE in line for line in problems) else _NAMES,
        )
    return [resolver.chosen[name] for name in sorted(resolver.chosen)]
