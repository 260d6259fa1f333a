#!/usr/bin/python3
"""Runs clang-tidy on every source file, newest rules first, within a budget of time.

A file whose text, included files of ours, flags and rules were found clean before is not checked
again: the proof is a file named by their hash in the user's cache folder, so that another checkout
knows it too. What the budget left out is named; the order changes with every commit, so that no
file is left out for long.

    tools/clang_tidy.py [--seconds N] [--jobs N] [FILE…]
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "clang-tidy"
CLEAN = (pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") /
         "gatehouse" / "clang-tidy")
FOLDERS = ("base", "config", "tls", "http", "proxy", "acme", "admin", "app")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def database():
    """Flags as clang understands them: clang as compiler, with a precompiled header of its own."""
    subprocess.run(
        ["cmake", "-S", str(ROOT), "-B", str(BUILD), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
         "-DCMAKE_CXX_COMPILER=clang++", "-DGATEHOUSE_WERROR=OFF", "-DGATEHOUSE_TESTS=OFF"],
        check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", str(BUILD), "CMakeFiles/gatehouse_base.dir/cmake_pch.hxx.pch"],
                   check=True, stdout=subprocess.DEVNULL)
    entries = json.loads((BUILD / "compile_commands.json").read_text())
    return {os.path.relpath(e["file"], ROOT): e["command"] for e in entries}


def closure(path, seen):
    """`path` and every file of ours that it includes, directly or not."""
    if path in seen or not path.is_file():
        return seen
    seen.add(path)
    for target in INCLUDE.findall(path.read_text(errors="replace")):
        closure(ROOT / target, seen)
    return seen


def fingerprint(name, command, version):
    digest = hashlib.sha256((version + command.replace(str(ROOT), "")).encode())
    digest.update((ROOT / ".clang-tidy").read_bytes())
    for path in sorted(closure(ROOT / name, set())):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def run(name, deadline):
    """None when the budget is over, else (exit status, output)."""
    left = deadline - time.monotonic()
    if left <= 1:
        return None
    try:
        done = subprocess.run(["clang-tidy", "--quiet", "-p", str(BUILD), str(ROOT / name)],
                              capture_output=True, text=True, timeout=left, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return None
    return done.returncode, done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds

    commands = database()
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True).stdout
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True,
                            text=True).stdout
    names = arguments.files or [n for n in commands if n.split("/")[0] in FOLDERS]
    names.sort(key=lambda n: hashlib.sha256((commit + n).encode()).digest())
    CLEAN.mkdir(parents=True, exist_ok=True)
    prints = {n: fingerprint(n, commands.get(n, ""), version) for n in names}
    due = [n for n in names if not (CLEAN / prints[n]).exists()]

    failed, left_out = [], []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for name, outcome in zip(due, pool.map(lambda n: run(n, deadline), due)):
            if outcome is None:
                left_out.append(name)
            elif outcome[0] != 0:
                failed.append(name)
                print(outcome[1].strip() or f"{name}: clang-tidy could not read it", flush=True)
            else:
                (CLEAN / prints[name]).touch()
    if left_out:
        print(f"clang-tidy: no time left for {', '.join(sorted(left_out))}")
    print(f"clang-tidy: {len(names)} files, {len(names) - len(due)} known clean, "
          f"{len(due) - len(failed) - len(left_out)} clean now, {len(failed)} with mistakes, "
          f"{len(left_out)} left out")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
