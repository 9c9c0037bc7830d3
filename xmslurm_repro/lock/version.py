"""What version a project has that leaves it to its build backend (``project.dynamic``).

No backend runs: what it would read is read here, from the snapshot. Rules by the documentation of
setuptools, Hatch, PDM, Flit, Maturin and scikit-build-core.
"""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

from xmslurm_repro.lock.project import inside, join, read_text, table
from xmslurm_repro.model.tags import TagDistance, TagRule
from xmslurm_repro.ports.store import Tree

_HATCH = r"""(?i)^(?:__version__|VERSION)(?:: ?str)? *= *(['"])v?(?P<version>.+?)\1"""
_SCM_TAG = r"^(?:[\w-]+-)?(?P<version>[vV]?\d+(?:\.\d+){0,2}[^\+]*)(?:\+.*)?$"
_PDM_TAG = r"^(?:\D*)(?P<version>\d.*)$"
_DUNAMAI_TAG = r"^v?(?P<version>\d.*)$"
_ASSIGNED = re.compile(
    r"""(?m)^(?:__version__|version|VERSION)(?:\s*:[^=\n]+)?\s*=\s*(?:[\w]+\s*=\s*)*['"]v?([^'"\n]+)['"]"""
)
_DEPTH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    What can be said of a version.

    Attributes:
        version: In its normal form; ``None`` if it is not known.
        rule: How it follows from a tag, if it does.
        generated: A file that the backend would write, and that the snapshot has not.
    """

    version: str | None = None
    rule: TagRule | None = None
    generated: str | None = None


def dynamic_version(tree: Tree, place: str, document: Mapping[str, Any]) -> Found:
    """
    The version of the project in the folder *place*, whose pyproject.toml is *document*.

    A file that says it outranks the tags: it is what was written for this very tree.
    """
    for text in _texts(tree, place, document):
        version = normal(text)
        if version is not None:
            return Found(version=version)
    rule = _rule(document)
    if rule is None:
        return Found()
    generated = _generated(document)
    if generated is None:
        return Found(rule=rule)
    path = inside(place, generated)
    written = _assigned(tree, path) if path else None
    if written is not None and normal(written):
        return Found(version=normal(written))
    return Found(rule=rule, generated=path)


def normal(text: str | None) -> str | None:
    """*text* as a version in its normal form; ``None`` if it is none."""
    try:
        return str(Version(text)) if text else None
    except InvalidVersion:
        return None


def version_of_tag(rule: TagRule, distance: TagDistance) -> str | None:
    """
    The version that *rule* makes of *distance*, without its local part.

    That part would tell the commit and the day, and the same tree would have another version
    tomorrow.
    """
    versions = [found for tag in distance.tags if (found := _tag_version(rule, tag))]
    if not versions:
        # As setuptools-scm, Hatch and PDM count from nothing.
        return None if distance.tags else f"0.1.dev{distance.commits}"
    base = versions[0]
    if not distance.commits and not distance.has_changes:
        return str(base)
    if not rule.guesses_next:
        return f"{base.public}.post{distance.commits}.dev0" if distance.commits else str(base)
    return f"{_next(base)}.dev{distance.commits}"


def _tag_version(rule: TagRule, tag: str) -> Version | None:
    try:
        found = re.search(rule.pattern, tag)
    except re.error:
        return None
    if found is None:
        return None
    text = found["version"] if "version" in found.re.groupindex else found[found.re.groups and 1]
    try:
        return Version(text)
    except (InvalidVersion, TypeError):
        return None


def _next(version: Version) -> str:
    """The next version as setuptools-scm guesses it (``guess-next-dev``)."""
    text = version.public
    if version.dev is not None:
        return text.rpartition(".dev")[0]
    found = re.fullmatch(r"(.*?)(\d+)", text)
    return f"{found[1]}{int(found[2]) + 1}" if found else text


def _texts(tree: Tree, place: str, document: Mapping[str, Any]) -> Iterator[str | None]:
    """What stands in the places that the project's backend was told of."""
    tools = table(document, "tool")
    yield from _of_setuptools(tree, place, tools)
    yield from _of_hatch(tree, place, tools)
    pdm = table(tools, "pdm", "version")
    if pdm.get("source") == "file":
        yield _assigned(tree, _inside(place, pdm.get("path")))
    yield from _of_flit(tree, place, document)
    yield from _of_cargo(tree, place, document, tools)
    scikit = table(tools, "scikit-build", "metadata", "version")
    if str(scikit.get("provider", "")).endswith("regex"):
        pattern = scikit.get("regex") or _HATCH
        yield _matched(tree, _inside(place, scikit.get("input")), pattern, re.MULTILINE)
    yield _of_metadata(tree, join(place, "PKG-INFO"))


def _of_setuptools(tree: Tree, place: str, tools: Mapping[str, Any]) -> Iterator[str | None]:
    said = table(tools, "setuptools", "dynamic", "version")
    folder = table(tools, "setuptools", "package-dir").get("")
    where = [each for each in (folder, "", "src") if isinstance(each, str)]
    config = _setup_cfg(tree, place)
    declared = config.get("metadata", "version", fallback="").strip() if config else ""
    attributes = [said.get("attr"), declared.removeprefix("attr:").strip()]
    files = said.get("file", [])
    named = files if isinstance(files, list) else [files]
    if declared.startswith("file:"):
        named = [*named, declared.removeprefix("file:").strip()]
    elif declared and not declared.startswith("attr:"):
        yield declared
        attributes = attributes[:1]
    for attribute in attributes:
        if isinstance(attribute, str) and "." in attribute:
            for root in where:
                yield _attribute(tree, inside(place, root or "."), attribute)
    for path in named:
        yield (_text(tree, _inside(place, path)) or "").strip()


def _setup_cfg(tree: Tree, place: str) -> configparser.ConfigParser | None:
    text = _text(tree, join(place, "setup.cfg"))
    if text is None:
        return None
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    return parser


def _of_hatch(tree: Tree, place: str, tools: Mapping[str, Any]) -> Iterator[str | None]:
    hatch = table(tools, "hatch", "version")
    path = _inside(place, hatch.get("path"))
    source = hatch.get("source", "regex")
    if source == "code":
        expression = hatch.get("expression", "__version__")
        yield _constant(_text(tree, path), str(expression))
    elif source == "regex":
        pattern = hatch.get("pattern")
        is_own = isinstance(pattern, str)
        yield _matched(tree, path, pattern if is_own else _HATCH, re.MULTILINE)


def _of_flit(tree: Tree, place: str, document: Mapping[str, Any]) -> Iterator[str | None]:
    backend = str(table(document, "build-system").get("build-backend", ""))
    if not backend.startswith("flit"):
        return
    module = table(document, "tool", "flit", "module").get("name")
    name = module or str(table(document, "project").get("name", "")).replace("-", "_")
    for root in ("src/", ""):
        for path in (f"{root}{name}/__init__.py", f"{root}{name}.py"):
            yield _constant(_text(tree, _inside(place, path)), "__version__")


def _of_cargo(
    tree: Tree, place: str, document: Mapping[str, Any], tools: Mapping[str, Any]
) -> Iterator[str | None]:
    backend = str(table(document, "build-system").get("build-backend", ""))
    if backend != "maturin":
        return
    path = _inside(place, table(tools, "maturin").get("manifest-path", "Cargo.toml"))
    try:
        cargo = tomllib.loads(_text(tree, path) or "")
    except tomllib.TOMLDecodeError:
        return
    version = table(cargo, "package").get("version")
    # Cargo writes 1.0.0-alpha.1 for 1.0.0a1, as Version reads it.
    yield version if isinstance(version, str) else None


def _of_metadata(tree: Tree, path: str) -> str | None:
    found = re.search(r"(?m)^Version: *(\S+)", _text(tree, path) or "")
    return found[1] if found else None


def _rule(document: Mapping[str, Any]) -> TagRule | None:
    tools = table(document, "tool")
    backend = str(table(document, "build-system").get("build-backend", ""))
    requires = table(document, "build-system").get("requires", [])
    needs = " ".join(map(str, requires)) if isinstance(requires, list) else ""
    hatch, pdm = table(tools, "hatch", "version"), table(tools, "pdm", "version")
    if hatch.get("source") == "vcs":
        raw = table(hatch, "raw-options")
        told = hatch.get("tag-pattern") or raw.get("tag_regex")
        return _tag_rule(told or _SCM_TAG, hatch.get("fallback-version"))
    if pdm.get("source") == "scm":
        return _tag_rule(pdm.get("tag_regex") or _PDM_TAG, pdm.get("fallback_version"))
    if "poetry-dynamic-versioning" in tools or "dunamai" in needs:
        return TagRule(pattern=_DUNAMAI_TAG, guesses_next=False)
    scm = table(tools, "setuptools_scm") or table(tools, "setuptools-scm")
    named = "setuptools_scm" in tools or "setuptools-scm" in tools
    scikit = table(tools, "scikit-build", "metadata", "version").get("provider", "")
    is_scm = re.search(r"setuptools[-_.]scm|vcs[-_.]versioning", needs)
    if named or str(scikit).endswith("setuptools_scm") or (is_scm and "setuptools" in backend):
        told = scm.get("tag_regex") or _SCM_TAG
        return _tag_rule(told, scm.get("fallback_version"))
    return None


def _tag_rule(pattern: Any, fallback: Any) -> TagRule:
    return TagRule(
        pattern=pattern if isinstance(pattern, str) else _SCM_TAG,
        fallback=normal(fallback) if isinstance(fallback, str) else None,
    )


def _generated(document: Mapping[str, Any]) -> str | None:
    """The file that a backend writes the version into."""
    tools = table(document, "tool")
    scm = table(tools, "setuptools_scm") or table(tools, "setuptools-scm")
    told = (
        table(tools, "hatch", "build", "hooks", "vcs").get("version-file"),
        scm.get("version_file"),
        scm.get("write_to"),
        table(tools, "pdm", "version").get("write_to"),
    )
    return next((path for path in told if isinstance(path, str)), None)


def _inside(place: str, path: Any) -> str | None:
    return inside(place, path) if isinstance(path, str) else None


def _text(tree: Tree, path: str | None) -> str | None:
    if not path or tree.read(path) is None:
        return None
    return read_text(tree, path)


def _matched(tree: Tree, path: str | None, pattern: Any, flags: re.RegexFlag) -> str | None:
    try:
        found = re.search(str(pattern), _text(tree, path) or "", flags)
    except re.error:
        return None
    return found["version"] if found and "version" in found.re.groupindex else None


def _assigned(tree: Tree, path: str | None) -> str | None:
    found = _ASSIGNED.search(_text(tree, path) or "")
    return found[1] if found else None


def _attribute(tree: Tree, root: str | None, dotted: str, depth: int = _DEPTH) -> str | None:
    """The constant that ``package.module.name`` is, looking through plain imports."""
    if root is None or depth == 0:
        return None
    module, _, name = dotted.rpartition(".")
    stem = join(root, module.replace(".", "/"))
    for path in (f"{stem}.py", f"{stem}/__init__.py"):
        text = _text(tree, path)
        if text is None:
            continue
        found = _constant(text, name)
        if found is not None:
            return found
        package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
        origin = _imported(text, name, package)
        return _attribute(tree, root, origin, depth - 1) if origin else None
    return None


def _parsed(text: str | None) -> ast.Module | None:
    try:
        return ast.parse(text or "")
    except (SyntaxError, ValueError, RecursionError):
        return None


def _constant(text: str | None, name: str) -> str | None:
    """The text that *name* is set to at the top of a module, as far as it is a literal."""
    module = _parsed(text)
    found: str | None = None
    for statement in module.body if module else ():
        if isinstance(statement, ast.Assign):
            targets: list[ast.expr] = list(statement.targets)
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        value = statement.value
        is_it = any(isinstance(one, ast.Name) and one.id == name for one in targets)
        if is_it and isinstance(value, ast.Constant) and isinstance(value.value, str):
            found = value.value
    return found


def _imported(text: str, name: str, package: str) -> str | None:
    """Where a module has *name* from, as a dotted name."""
    module = _parsed(text)
    for statement in module.body if module else ():
        if not isinstance(statement, ast.ImportFrom):
            continue
        for alias in statement.names:
            if (alias.asname or alias.name) == name:
                parts = package.split(".")[: -(statement.level - 1) or None]
                base = ".".join(parts) if statement.level else ""
                return ".".join(filter(None, [base, statement.module, alias.name]))
    return None
