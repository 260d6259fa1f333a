"""What processes cost: CPU time, memory and system calls, read from /proc and counted by strace."""

import os
import pathlib
import re
import signal
import subprocess


def tree(pid):
    """`pid` and all its descendants."""
    pids = [pid]
    for current in pids:
        for task in pathlib.Path(f"/proc/{current}/task").glob("*/children"):
            try:
                pids += [int(p) for p in task.read_text().split()]
            except OSError:
                pass  # a thread that ended just now
    return pids


def cpu_seconds(pid):
    """CPU time of every thread of every process under `pid`.

    From schedstat (nanoseconds); a kernel without it gives stat's ticks of 10 ms.
    """
    nanoseconds, ticks = 0, 0
    for process in tree(pid):
        for task in pathlib.Path(f"/proc/{process}/task").iterdir():
            try:
                nanoseconds += int((task / "schedstat").read_text().split()[0])
                fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
            except OSError:
                pass
    from_ticks = ticks / os.sysconf("SC_CLK_TCK")
    # A kernel that does not keep schedstat reports zero: believe the ticks then.
    return nanoseconds / 1e9 if nanoseconds / 1e9 >= from_ticks / 2 else from_ticks


def memory_kb(pid):
    """Proportional set size of the processes under `pid`, in KB."""
    total = 0
    for process in tree(pid):
        text = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1))
    return total


class SyscallCount:
    """Counts the system calls of every process under `pid` while the block runs."""

    def __init__(self, pid, folder):
        self.pid, self.report = pid, pathlib.Path(folder) / "strace.txt"
        self.total = None

    def __enter__(self):
        attach = [argument for p in tree(self.pid) for argument in ("-p", str(p))]
        self.strace = subprocess.Popen(["strace", "-f", "-c", "-o", str(self.report)] + attach,
                                       stderr=subprocess.PIPE, text=True)
        for line in self.strace.stderr:
            if "attached" in line:
                break
        return self

    def __exit__(self, *_):
        self.strace.send_signal(signal.SIGINT)
        self.strace.communicate(timeout=30)
        last = [line for line in self.report.read_text().splitlines() if line.endswith("total")]
        numbers = last[-1].split() if last else []
        # "% time  seconds  usecs/call  calls  errors  total": usecs and errors may be absent.
        self.total = int(numbers[3]) if len(numbers) > 3 and numbers[3].isdigit() else 0
