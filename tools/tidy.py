#!/usr/bin/python3
"""Checks the house rules of docs/architecture.md: floors, fences and shape.

Runs as a test. Prints one line a mistake, `file:line: what, and the way out`, and exits 1 if there
is one; warnings alone exit 0.

    tools/tidy.py [ROOT]
"""

import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass

# The folders, each with the lower floors it may include. proxy and acme are siblings.
FLOORS = {
    "base": [],
    "config": ["base"],
    "tls": ["base", "config"],
    "http": ["base", "config", "tls"],
    "proxy": ["base", "config", "tls", "http"],
    "acme": ["base", "config", "tls", "http"],
    "admin": ["base", "config", "tls", "http", "proxy", "acme"],
    "app": ["base", "config", "tls", "http", "proxy", "acme", "admin"],
}

# A library, how its headers look in an #include, and the only files that may include them.
FENCES = [
    ("toml++", r"toml(\+\+|plusplus)?[/.]", r"config/[^/]+\.cpp"),
    ("nghttp2", r"nghttp2/", r"http/http2_[^/]+\.cpp"),
    ("Beast", r"boost/beast", r"admin/.+"),
    ("OpenSSL", r"openssl/|boost/asio/ssl", r"tls/.+|acme/jose\.cpp"),
    ("libcurl", r"curl/", r"base/fetch(_\w+)?\.[hc]pp"),
    ("ldns", r"ldns/", r"acme/dns/.+"),
    ("spdlog", r"spdlog/", r"base/log\.[hc]pp|proxy/access_log\.[hc]pp"),
]

COLUMNS_MAX = 100
LINES_WARN = 400
LINES_FAIL = 600
# Files that may be longer than LINES_FAIL, each with its reason.
LONG_FILES: dict[str, str] = {}

EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "impl", "misc"}
# Names that the language or a library demands.
DEMANDED_GETTERS = {"get_return_object", "get_executor", "get_allocator", "get_id", "get_if"}
# A declaration or definition of a function named get_…: a type before it, no call's punctuation.
GETTER = re.compile(r"^\s*(?:\[\[\w+\]\]\s*)?(?!return\b|co_return\b|co_await\b|else\b)"
                    r"[\w:<>,&*\s]*[\w>&*]\s+[&*]?(?:\w+::)*(get_\w+)\s*\(")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
OPEN_WORK = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")


@dataclass(order=True)
class Finding:
    path: str
    line: int
    text: str
    warning: bool = False

    def __str__(self):
        return f"{self.path}:{self.line}: {'warning: ' if self.warning else ''}{self.text}"


def check(root):
    """Every finding in the tree under `root`, sorted."""
    root = pathlib.Path(root)
    findings = []
    for path in files(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines()
        findings += check_name(name)
        findings += check_text(name, text, lines)
        if path.suffix in (".hpp", ".cpp"):
            findings += check_includes(root, name, lines)
            findings += check_cpp(name, lines)
    findings += check_libraries(root)
    return sorted(findings)


def files(root):
    """Tracked and new files that are ours, or every file where there is no git."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others",
             "--exclude-standard"], capture_output=True, check=True).stdout.decode().split("\0")
        paths = [root / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        paths = list(root.rglob("*"))
    wanted = (".hpp", ".cpp", ".py", ".cmake")
    return sorted(p for p in paths if p.is_file() and p.suffix in wanted)


def check_name(name):
    words = re.split(r"[_.\-]", pathlib.PurePosixPath(name).name.lower())
    for word in EMPTY_NAMES.intersection(words):
        yield Finding(name, 1, f"'{word}' in a file name says nothing: name the noun it holds")
    parts = name.split("/")
    for part in parts[:-1]:
        if part.lower() in EMPTY_NAMES:
            yield Finding(name, 1, f"a folder named '{part}' says nothing: name what it holds")


def check_text(name, text, lines):
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX:
            yield Finding(name, number, f"{len(line)} columns, at most {COLUMNS_MAX}")
        if line != line.rstrip():
            yield Finding(name, number, "white space at the end of the line")
        if "\t" in line:
            yield Finding(name, number, "a tab: indent with spaces")
        if OPEN_WORK.search(line):
            yield Finding(name, number, "unfinished work is not committed: do it or file an issue")
    if text and not text.endswith("\n"):
        yield Finding(name, len(lines), "no newline at the end of the file")
    yield from check_length(name, len(lines))


def check_length(name, count):
    if name in LONG_FILES or count <= LINES_WARN:
        return
    if count > LINES_FAIL and name.split("/")[0] in FLOORS:
        yield Finding(name, count, f"{count} lines, at most {LINES_FAIL}: split it by its nouns, "
                                   "or give the reason in LONG_FILES of tools/tidy.py")
    elif name.split("/")[0] in FLOORS:
        yield Finding(name, count, f"{count} lines: is this one noun?", warning=True)


def check_includes(root, name, lines):
    folder = name.split("/")[0]
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, target = match.groups()
        yield from check_fences(name, number, target)
        if quote == '"' and folder in FLOORS:
            yield from check_floor(name, number, folder, target)
        if quote == "<" and target.split("/")[0] in FLOORS and (root / target).exists():
            yield Finding(name, number, f'our own file: #include "{target}"')


def check_fences(name, number, target):
    if name.split("/")[0] not in FLOORS:
        return
    for library, pattern, allowed in FENCES:
        if re.match(pattern, target) and not re.fullmatch(allowed, name):
            yield Finding(name, number, f"{library} is fenced into {allowed}")


def check_floor(name, number, folder, target):
    first = target.split("/")[0]
    if "/" not in target or first not in FLOORS:
        yield Finding(name, number, f'"{target}": include by the path from the root, "{folder}/…"')
    elif first != folder and first not in FLOORS[folder]:
        allowed = ", ".join([folder] + FLOORS[folder])
        yield Finding(name, number, f"{folder}/ may not include {first}/, only {allowed}: return a "
                                    "value or take a function that app hands in")


def check_cpp(name, lines):
    header = name.endswith(".hpp")
    if header and not (lines and lines[0].startswith("// ")):
        yield Finding(name, 1, "a header opens with what it is, what it is not, and its thread")
    if header and not any(line.strip() == "#pragma once" for line in lines):
        yield Finding(name, 1, "no #pragma once")
    for number, line in enumerate(lines, 1):
        if header and re.match(r"\s*using\s+namespace\b", line):
            yield Finding(name, number, "using namespace in a header: qualify the names")
        getter = GETTER.match(line)
        if getter and getter.group(1) not in DEMANDED_GETTERS:
            yield Finding(name, number, f"{getter.group(1)}: name what it returns, without get_")


def check_libraries(root):
    """The link lists of CMakeLists.txt are the floors."""
    path = root / "CMakeLists.txt"
    if not path.exists():
        return
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r"gatehouse_library\((\w+) FLOORS ?(.*?)(?: ?LIBRARIES.*)?\)\s*$", line)
        if not match:
            continue
        folder, floors = match.group(1), match.group(2).split()
        for extra in sorted(set(floors) - set(FLOORS.get(folder, []))):
            yield Finding("CMakeLists.txt", number, f"{folder} may not link {extra}")


def main(arguments):
    root = arguments[0] if arguments else pathlib.Path(__file__).resolve().parent.parent
    findings = check(root)
    for finding in findings:
        print(finding)
    mistakes = sum(not finding.warning for finding in findings)
    print(f"tidy: {mistakes} mistakes, {len(findings) - mistakes} warnings")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
