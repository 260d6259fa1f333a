"""Crashes, full disks and damaged files: nothing acknowledged is lost, nothing ordered twice."""

import os
import pathlib
import random
import subprocess
import time

import pytest
from harness.client import Client, PausedHandshake, trusting, trusting_anything
from harness.limits import LONG, SLOW, within
from harness.wait import until

ANY = '[[site]]\nhosts = ["*"]\ncertificates = "on_demand"\nupstream = "{upstream}"\n'
KILLS = int(os.environ.get("GATEHOUSE_KILLS", "200" if LONG else "15"))


@pytest.fixture
def text(config, ca, ask, origin):
    return config.acme(ca.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
                       + ANY.format(upstream=origin.address))


def trusted_get(config, name, root):
    with Client(config.https, tls=trusting(root), name=name, timeout=30) as client:
        response = client.get(host=name)
        assert response.status == 200, response.text()
        return client.certificate()


def storage_of(program):
    return program.folder / "storage"


def certificate_files(program, name="fullchain.pem"):
    return [p for p in (storage_of(program) / "certs").rglob(name)]


def accounts(program):
    return list((storage_of(program) / "issuers").rglob("account.json"))


def test_kill_9_at_random_moments_orders_no_name_twice(gatehouse, config, ca, faults, text):
    program = gatehouse(text.replace(ca.directory, faults.directory))
    root, seed = ca.root(), random.randrange(1 << 30)
    print(f"seed {seed}, {KILLS} kills")
    chance = random.Random(seed)
    trusted_get(config, "www.kill-0.test", root)
    known, kills = ["www.kill-0.test"], []
    for i in range(KILLS):
        # Each name of a domain of its own: kills, not rate limits, are what this tests.
        known.append(f"www.kill-{i + 1}.test")
        handshake = PausedHandshake(config.https, known[-1], trusting_anything())
        time.sleep(chance.random() * 0.12 * SLOW)
        program.kill()
        kills.append(time.monotonic())
        handshake.close()
        if i % 40 == 39 or i == KILLS - 1:
            forget_rates(program)
        program.start()
        assert time.monotonic() - kills[-1] < within(1.5), "a restart waits for nothing"
    for name in known:
        until(lambda: is_active(program, config, name, root), f"{name} after the kills", 30)
    assert len(accounts(program)) == 1
    # An answer that a kill overtook, on its way or before it was on the disk, left no trace: what
    # the program has gone on with it must finish, unless the CA gave it up while nobody answered.
    asked = {signed.path for signed in faults.signed}
    begun = [o for o in faults.placed if asked & {*o.authorizations, o.finalize}]
    wanted = [o for o in begun if not faults.invalid & {o.path, *o.authorizations}]
    print(f"{len(faults.placed)} orders for {len(known)} names: "
          f"{len(faults.placed) - len(begun)} never begun, {len(begun) - len(wanted)} given up")
    assert sorted(o.names for o in wanted) == sorted([name] for name in known)
    # And only after a kill is a name ordered once more.
    for name in known:
        orders = sorted(o for o in faults.placed if o.names == [name])
        for one, more in zip(orders, orders[1:]):
            assert any(one.at < kill < more.at for kill in kills), f"{name}: two without a kill"


def is_active(program, config, name, root):
    try:
        return bool(trusted_get(config, name, root))
    except (OSError, AssertionError):
        return False


def forget_rates(program):
    """The budget, 10 a minute with a burst of 50, is persisted: 200 names would take 20 minutes."""
    for path in storage_of(program).rglob("*.json"):
        if path.name.startswith(("rate", "budget", "on_demand")):
            path.unlink()


def test_a_restart_serves_what_was_stored_without_an_order(gatehouse, config, ca, ask, text):
    program = gatehouse(text)
    first = trusted_get(config, "kept.durable.test", ca.root())
    program.kill()
    asked = len(ask.asked)
    program.start()
    assert trusted_get(config, "kept.durable.test", ca.root()).serial_number == first.serial_number
    assert ca.orders() == 1
    assert ask.count("kept.durable.test") == 1 and len(ask.asked) - asked <= 1


def test_sigterm_during_issuance_resumes_the_order(gatehouse, config, faults, ca, ask, origin,
                                                   figure):
    program = gatehouse(config.acme(
        faults.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
        + ANY.format(upstream=origin.address), server='grace = "1s"'))
    trusted_get(config, "warm.durable.test", ca.root())
    before = len(faults.requests)
    faults.fault("hang", only="finalize")
    handshake = PausedHandshake(config.https, "held.durable.test", trusting_anything())
    faults.wait_request("finalize", before)
    program.stop()
    handshake.close()
    faults.fault("pass")
    orders = ca.orders()
    begun = time.monotonic()
    program.start()
    until(lambda: is_active(program, config, "held.durable.test", ca.root()), "the certificate")
    figure("SIGTERM during issuance, the CA too late: certificate",
           f"{time.monotonic() - begun:.2f} s after the next start, "
           f"{ca.orders() - orders} further orders")
    assert ca.orders() == orders, "the journalled order was finished, none placed anew"


def test_private_files_are_private(gatehouse, config, ca, text):
    program = gatehouse(text)
    trusted_get(config, "private.durable.test", ca.root())
    until(lambda: certificate_files(program), "the certificate on disk")
    # With the order's end its journal goes, under whoever looks through the folder.
    until(lambda: not list((storage_of(program) / "orders").iterdir()), "the end of the order")
    assert storage_of(program).stat().st_mode & 0o777 == 0o700
    keys = [p for p in storage_of(program).rglob("*.pem") if "key" in p.name]
    assert keys
    for path in keys:
        assert path.stat().st_mode & 0o777 == 0o600, path
        assert "PRIVATE KEY" in path.read_text()


def test_what_was_noted_of_visits_is_kept_by_a_stop(gatehouse, config, ca, text):
    program = gatehouse(text)
    trusted_get(config, "www.visited.test", ca.root())
    program.stop()
    visits = (storage_of(program) / "on_demand" / "visits.json").read_text()
    assert "www.visited.test" in visits


def test_two_programs_never_share_a_storage(gatehouse, config, ca, text):
    from ports import free_port
    first = gatehouse(text)
    other = text.replace(f":{config.http}", f":{free_port()}").replace(
        f":{config.https}", f":{free_port()}").replace("@FOLDER@", str(first.folder))
    second = gatehouse(other, wait=False)
    second.expected_exit = second.process.wait(within(10))
    assert second.expected_exit == 1
    assert "storage" in second.log()


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "garbage"])
@pytest.mark.parametrize("file", ["fullchain.pem", "privkey.pem", "meta.json"])
def test_a_damaged_file_is_named_quarantined_and_replaced(gatehouse, config, ca, text, file,
                                                          damage):
    program = gatehouse(text)
    trusted_get(config, "damaged.durable.test", ca.root())
    paths = until(lambda: certificate_files(program, file), f"{file} on disk")
    program.stop()
    data = paths[0].read_bytes()
    middle = len(data) // 2
    paths[0].write_bytes({
        "truncated": data[:middle], "empty": b"", "garbage": b"\xff" * 100,
        "flipped": data[:middle] + bytes([data[middle] ^ 0x20]) + data[middle + 1:]}[damage])
    program.start()
    trusted_get(config, "damaged.durable.test", ca.root())
    assert "damaged.durable.test" in program.log() or "certs/" in program.log()
    assert list((storage_of(program) / "quarantine").iterdir())
    # One where the finished order was still in the journal: its certificate is fetched again.
    assert ca.orders() in (1, 2)


def test_a_damaged_account_key_does_not_stop_the_start(gatehouse, config, ca, text):
    program = gatehouse(text)
    trusted_get(config, "one.account.test", ca.root())
    program.stop()
    for path in (storage_of(program) / "issuers").rglob("key.pem"):
        path.write_text("garbage")
    program.start()
    assert trusted_get(config, "one.account.test", ca.root())
    until(lambda: is_active(program, config, "two.account.test", ca.root()), "a new account", 30)


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 512 KiB."""
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "tmpfs",
                           str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Writes until the file system is full; returns the filler."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as out:
        try:
            while True:
                out.write(b"\0" * 4096)
        except OSError:
            pass
    return filler


def test_a_full_disk_at_save_serves_from_memory_with_one_order(gatehouse, config, ca, faults, ask,
                                                             origin, small_disk, figure):
    program = gatehouse(config.acme(
        faults.directory, ca.trust, f'[on_demand]\nask = "{ask.url}"\n'
        + ANY.format(upstream=origin.address)).replace("@FOLDER@/storage", f"{small_disk}/storage"))
    trusted_get(config, "warm.full.test", ca.root())
    # The order is journalled, then the disk fills before the certificate can be saved.
    before = len(faults.requests)
    faults.fault("hang", only="certZ")
    handshake = PausedHandshake(config.https, "held.full.test", trusting(ca.root()))
    faults.wait_request("certZ", before)
    filler = fill(small_disk)
    orders = ca.orders()
    faults.fault("pass")
    handshake.finish()
    assert handshake.get("held.full.test")[0] == 200
    handshake.close()
    for _ in range(3):
        trusted_get(config, "held.full.test", ca.root())
    figure("disk full at save", f"served, {ca.orders() - orders} further orders")
    assert ca.orders() == orders
    assert "space" in program.log()
    filler.unlink()
    saved = pathlib.Path(small_disk) / "storage" / "certs"
    until(lambda: len(list(saved.rglob("fullchain.pem"))) >= 2, "the save to be made up for", 60)
    assert ca.orders() == orders
