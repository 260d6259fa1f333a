#!/usr/bin/python3
"""What 100,000 certificates in storage cost: start, cold names, memory, idling, a closed gate.

    bench/certificates.py [--count 100000] [--mode on_demand|standing] [--binary build/…/gatehouse]

Makes the storage (about a minute for 100,000), starts the program on it, measures through its HTTPS
port and prints a table. Run it on a machine with nothing else to do: times are those of a Python
client, and include it.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tools")]

CONFIG = """[server]
http = ["127.0.0.1:{http}"]
https = ["127.0.0.1:{https}"]
storage = "file:@FOLDER@/storage"
admin = "unix:@ADMIN@"
[log]
access = "off"
[acme]
email = "ops@example.test"
ca = ["local"]
[ca.local]
directory = "https://127.0.0.1:9/directory"
{sites}"""


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=100_000)
    options.add_argument("--visited", type=int, default=5_000)
    options.add_argument("--flood", type=int, default=100_000)
    options.add_argument("--mode", choices=["on_demand", "standing"], default="on_demand")
    options.add_argument("--binary")
    options = options.parse_args()
    if options.binary:
        os.environ["GATEHOUSE_BINARY"] = options.binary
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gatehouse-bench-"))
    try:
        measure_all(folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure_all(folder, options):
    from harness.program import Gatehouse
    from harness.scale import Measure, fill, names_of, on_demand_sites, percentile, standing_sites
    from ports import free_port
    names = names_of(options.count)
    stock = fill(folder / "storage", names, options.mode == "on_demand")
    sites = (on_demand_sites("127.0.0.1:9") if options.mode == "on_demand"
             else standing_sites("127.0.0.1:9", names))
    https = free_port()
    program = Gatehouse(folder, CONFIG.format(http=free_port(), https=https, sites=sites))
    show(f"{options.count} certificates, {options.mode}", "")

    def start():
        begun = time.monotonic()
        program.start(wait=False)
        return Measure(program, https, stock.root).first_handshake(names[-1], begun)
    show("first handshake, no index yet", f"{start():.3f} s")
    measure = Measure(program, https, stock.root)
    begun = time.monotonic()
    while measure.indexed() < options.count:
        time.sleep(1)
        assert time.monotonic() - begun < 600, program.log()
    show("index on disk after", f"{time.monotonic() - begun:.0f} s")
    program.stop()
    show("first handshake, with the index", f"{start():.3f} s")
    program.wait_ready()
    time.sleep(3)
    show("RSS after the start", f"{measure.rss_mb():.1f} MB")
    visited = names[-1 - options.visited:-1]
    show("a cold name adds, at the median", f"{measure.cold_cost(visited[:500]) * 1000:.2f} ms")
    measure.handshakes(visited)
    show(f"RSS with {options.visited} visited", f"{measure.rss_mb():.1f} MB")
    show("idle", f"{measure.idle_share(20) * 100:.2f} % of a processor")
    if options.mode == "on_demand":
        legitimate = visited[-100:]
        measure.answers(legitimate)
        idle = percentile(measure.answers(legitimate * 10), 0.99)
        before = measure.rss_mb()
        refused, times = measure.flooded(options.flood, legitimate)
        show(f"{options.flood} names before a closed gate",
             f"{refused} refused, {measure.orders():.0f} orders, "
             f"RSS +{measure.rss_mb() - before:.1f} MB")
        show("handshakes' p99, idle and meanwhile",
             f"{idle * 1000:.1f} ms, {percentile(times, 0.99) * 1000:.1f} ms")
    program.stop()


def show(what, figure):
    print(f"{what:<42} {figure}", flush=True)


if __name__ == "__main__":
    main()
