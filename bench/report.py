"""The bench's results as a table for people and a chart, from the figures of every round."""

import os
import pathlib
import platform
import re
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Results:
    """figures[scenario][program] is one figure a round; syscalls[scenario][program] one number."""

    def __init__(self, scenarios, rounds, seconds):
        self.scenarios, self.rounds, self.seconds = scenarios, rounds, seconds
        self.figures = {s.name: {} for s in scenarios}
        self.syscalls = {s.name: {} for s in scenarios}

    def add(self, scenario, program, figure):
        self.figures[scenario.name].setdefault(program, []).append(figure)

    def ratios(self, scenario, subject, peer):
        """subject ÷ peer of each round in which both ran."""
        figures = self.figures[scenario.name]
        return [a / b for a, b in zip(figures.get(subject, []), figures.get(peer, []))]


def figure(values):
    middle = statistics.median(values)
    return f"{middle:.0f}" if middle >= 100 else f"{middle:.1f}"


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def rows(results):
    """Header and cells: the figure of each program, then the ratio of the first to each other."""
    for scenario in results.scenarios:
        programs = list(results.figures[scenario.name])
        if not programs:
            continue
        subject = programs[0]
        cells = []
        for program in programs:
            text = f"{program} {figure(results.figures[scenario.name][program])}"
            if program in results.syscalls[scenario.name]:
                text += f" ({results.syscalls[scenario.name][program]:.1f} syscalls)"
            cells.append(text)
        ratios = [f"{peer} {spread(results.ratios(scenario, subject, peer))}"
                  for peer in programs[1:]]
        yield scenario, subject, cells, ratios


def plain_table(results):
    lines = []
    for scenario, subject, cells, ratios in rows(results):
        better = "lower" if scenario.lower_is_better else "higher"
        lines.append(f"{scenario.name}: {scenario.title}, {scenario.unit} ({better} is better)")
        lines.append(f"    {' · '.join(cells)}")
        if ratios:
            lines.append(f"    {subject} to {' · '.join(ratios)}")
    return "\n".join(lines)


def markdown(results):
    lines = [
        "# Bench results", "",
        f"{machine()}.", f"Gatehouse {commit()}, {time.strftime('%Y-%m-%d', time.gmtime())}; "
        f"{versions(results)}.", "",
        f"Command: `bench/run --rounds {results.rounds} --seconds {results.seconds} --markdown`. "
        "One worker each, pinned to CPU 0; load and origin on CPU 1; rounds interleaved. TLS 1.3, "
        "AES-128-GCM, X25519, ECDSA P-256. The origin speaks HTTP/1.1, for gRPC HTTP/2 without "
        "TLS. HTTP/2 clients offer windows of 1 GiB. The figure is the CPU time of all the proxy's "
        "processes and threads a request, from the kernel's own accounting; memory is the "
        "proportional set size. A ratio is taken within each round: median (lowest–highest). For "
        "µs and KB lower is better, for MB higher. Syscalls are counted in a separate short "
        "run.", "",
        "![Gatehouse in relation to its peers](results.svg)", "",
        "| scenario | unit | medians | ratio to peer |", "| --- | --- | --- | --- |"]
    for scenario, _, cells, ratios in rows(results):
        lines.append(f"| {scenario.title} | {scenario.unit} | {' · '.join(cells)} | "
                     f"{' · '.join(ratios) or '–'} |")
    return "\n".join(lines) + "\n"


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    name = cpu.group(1) if cpu else platform.machine()
    system = re.search(r'PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())
    return f"{name}, {os.cpu_count()} CPUs, Linux {platform.release()}, " \
           f"{system.group(1) if system else 'Linux'}"


def commit():
    def git(*arguments):
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True,
                              text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"at {git('rev-parse', '--short', 'HEAD')}{' with changes' if changed else ''}"


def versions(results):
    used = {p.split("+")[0] for figures in results.figures.values() for p in figures}
    texts = []
    for name, command in (("nginx", ["nginx", "-v"]), ("haproxy", ["haproxy", "-v"]),
                          ("h2o", ["h2o", "--version"]), ("nghttpx", ["nghttpx", "--version"]),
                          ("openssl", ["openssl", "version"])):
        if name in used or name == "openssl":
            out = subprocess.run(command, capture_output=True, text=True)
            version = re.search(r"\d+\.\d+[.\d]*", out.stdout + out.stderr)
            texts.append(f"{name} {version.group(0) if version else '?'}")
    return ", ".join(texts)


def svg(results):
    """One group a scenario, one bar a program; lengths relative to the group's longest."""
    colours = {"gatehouse": "#1f6f5c", "gatehouse+log": "#5aa897", "before": "#9cc9bd",
               "nginx": "#6f7d8c", "haproxy": "#8a97a6", "h2o": "#a3aeb9", "nghttpx": "#bcc5cd"}
    left, width, bar, gap = 300, 380, 15, 24
    y, body = 44, []
    for scenario in results.scenarios:
        medians = {p: statistics.median(v) for p, v in results.figures[scenario.name].items()}
        if not medians:
            continue
        better = "lower" if scenario.lower_is_better else "higher"
        body.append(f'<text x="{left - 12}" y="{y + 12}" text-anchor="end">{scenario.title}</text>'
                    f'<text x="{left - 12}" y="{y + 28}" text-anchor="end" class="s">'
                    f'{scenario.unit}, {better} is better</text>')
        for program, value in medians.items():
            length = width * value / max(medians.values())
            body.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar}" '
                        f'fill="{colours.get(program, "#666")}"/>'
                        f'<text x="{left + length + 6:.1f}" y="{y + 12}" class="s">'
                        f'{program} {figure([value])}</text>')
            y += bar + 3
        y += gap
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="820" height="{y}" '
            f'viewBox="0 0 820 {y}">\n<style>text{{font:13px sans-serif;fill:#222}}'
            f'.s{{font-size:11px;fill:#555}}.t{{font-size:15px;font-weight:bold}}</style>\n'
            f'<rect width="820" height="{y}" fill="#fff"/>\n'
            f'<text x="16" y="24" class="t">What a request costs</text>\n'
            + "\n".join(body) + "\n</svg>\n")
