"""Here-documents in Dockerfiles, said in words that every builder knows.

``RUN <<EOF`` and ``COPY <<EOF /file`` came with BuildKit; the builders that the engine's API
drives without it (Docker's own, Podman's before 5) know neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xmslurm_repro.errors import ImageError
from xmslurm_repro.model.canonical import canonical_json

HEREDOC_FOLDER = ".xmslurm-heredoc"
"""Where the contents of copied here-documents lie in the context."""

_INSTRUCTION = re.compile(r"\s*(?P<word>[A-Za-z]+)\s+(?P<rest>.*)", re.DOTALL)
_MARK = re.compile(r"""<<(?P<dash>-?)(?P<quote>["']?)(?P<word>[A-Za-z_][A-Za-z0-9_.]*)(?P=quote)""")
_FLAGS = re.compile(r"(?:\s*--\S+)*\s*")
_FLAG = re.compile(r"--[a-z-]+(?:=\S+)?")
_DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """
    A Dockerfile without here-documents.

    Attributes:
        text: It.
        files: What it copies in their place, by path in the context.
    """

    text: str
    files: dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    word: str
    is_quoted: bool
    lines: tuple[str, ...]

    @property
    def content(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def translate_heredocs(text: str) -> Translated | None:
    """
    Say *text* without here-documents; ``None`` where it has none.

    Raises:
        ImageError: If one has no end, or cannot be said in other words.
    """
    lines = text.splitlines()
    out: list[str] = []
    files: dict[str, bytes] = {}
    shell: Sequence[str] = _DEFAULT_SHELL
    found = False
    position = 0
    while position < len(lines):
        logical, position = _logical_line(lines, position)
        match = _INSTRUCTION.fullmatch(logical)
        word = match["word"].upper() if match else ""
        if word == "FROM":
            shell = _DEFAULT_SHELL
        if match and word == "SHELL":
            shell = tuple(re.findall(r'"((?:[^"\\]|\\.)*)"', match["rest"])) or shell
        marks = list(_marks(match["rest"])) if match and word in {"RUN", "COPY", "ADD"} else []
        if match is None or not marks:
            out.append(logical)
            continue
        documents, position = _documents(lines, position, marks)
        found = True
        rest = match["rest"].replace("\\\n", "")  # continued lines are one, as builders have it
        if word == "RUN":
            out.append(_run(rest, documents, shell))
        else:
            out.append(_copy(word, rest, documents, files))
    return Translated(text="\n".join(out) + "\n", files=files) if found else None


def _logical_line(lines: Sequence[str], position: int) -> tuple[str, int]:
    line = lines[position]
    position += 1
    if line.lstrip().startswith("#"):
        return line, position
    while line.endswith("\\") and position < len(lines):
        line += "\n" + lines[position]
        position += 1
    return line, position


def _marks(rest: str) -> Iterator[re.Match[str]]:
    """Here-documents of an instruction; in quotes it would be text."""
    for match in _MARK.finditer(rest):
        before = rest[: match.start()]
        if before.count("'") % 2 == 0 and before.count('"') % 2 == 0 and before[-1:] != "<":
            yield match


def _documents(
    lines: Sequence[str], position: int, marks: Sequence[re.Match[str]]
) -> tuple[list[_Document], int]:
    documents = []
    for mark in marks:
        held: list[str] = []
        while True:
            if position >= len(lines):
                raise ImageError(f"the here-document {mark['word']} of the Dockerfile has no end")
            line = lines[position].lstrip("\t") if mark["dash"] else lines[position]
            position += 1
            if line == mark["word"]:
                break
            held.append(line)
        documents.append(
            _Document(word=mark["word"], is_quoted=bool(mark["quote"]), lines=tuple(held))
        )
    return documents, position


def _run(rest: str, documents: Sequence[_Document], shell: Sequence[str]) -> str:
    """A step in the exec form, whose one argument is the whole script."""
    flags = _leading_flags(rest)
    command = rest[len(flags) :].strip()
    only = _MARK.fullmatch(command)
    if only is None:
        # The shell itself knows here-documents: "python3 <<EOF", "cat > /f <<EOF".
        bodies = "".join(f"{document.content}{document.word}\n" for document in documents)
        script = f"{command}\n{bodies}"
    else:
        script = documents[0].content
        if script.startswith("#!"):
            interpreter = script.splitlines()[0][2:].split()
            name = "/tmp/.heredoc"  # noqa: S108 (in the image that is built)
            mark = f"{documents[0].word}_"
            body = f"cat > {name} <<'{mark}'\n{script}{mark}\n"
            words = " ".join([*interpreter, name])
            script = f"{body}{words}; status=$?; rm -f {name}; exit $status\n"
    return f"RUN {flags}{_json([*shell, script])}"


def _copy(word: str, rest: str, documents: Sequence[_Document], files: dict[str, bytes]) -> str:
    flags = _leading_flags(rest)
    *sources, target = rest[len(flags) :].split()
    bodies = iter(documents)
    named = []
    for source in sources:
        if _MARK.fullmatch(source) is None:
            named.append(source)
            continue
        document = next(bodies)
        if not document.is_quoted and "$" in document.content:
            raise ImageError(
                f"the here-document {document.word} of the Dockerfile holds variables, which no "
                "builder here can fill in",
                hint=f'Write {word} <<"{document.word}" where they are meant as they stand, or '
                "write the file by RUN.",
            )
        path = f"{HEREDOC_FOLDER}/{len(files)}/{document.word}"
        files[path] = document.content.encode()
        named.append(path)
    return f"{word} {flags}{_json([*named, target])}"


def _leading_flags(rest: str) -> str:
    match = _FLAGS.match(rest)
    flags = _FLAG.findall(match[0]) if match else []
    return "".join(f"{flag} " for flag in flags) if flags else ""


def _json(words: Sequence[str]) -> str:
    return canonical_json([*words]).decode()
