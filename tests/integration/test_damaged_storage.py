"""Damage all over a storage: every name is served or obtained anew once, and nothing is lost."""

import hashlib
import os
import random
import shutil

import pytest
from harness.client import Client, trusting
from harness.limits import within
from harness.scale import standing_sites
from harness.stock import DAY, Stock
from harness.wait import until

COUNT = 1_000
DAMAGED = 300
FILES = ["fullchain.pem", "privkey.pem", "meta.json", "SHA256SUMS", "cert.pem"]


class Damage:
    """Spoils stored certificates; remembers for which nothing whole is left."""

    def __init__(self, certs, chance):
        self.certs, self.chance = certs, chance
        self.lost = set()
        self.others = []

    def spoil(self, name):
        place = self.certs / name
        generations = sorted(p for p in place.iterdir() if p.name != "current")
        kind = self.chance.choice([self.torn, self.empty, self.flipped, self.missing, self.swapped,
                                   self.foreign, self.no_link, self.wrong_link, self.in_the_way,
                                   self.no_generation])
        # Of two generations sometimes both.
        whole = kind(name, place, generations[-1])
        if not whole and len(generations) > 1:
            both = self.chance.random() < 0.3
            whole = self.torn(name, place, generations[0]) if both else True
        if not whole:
            self.lost.add(name)

    def file_in(self, generation):
        return generation / self.chance.choice(FILES)

    # Each returns whether the certificate can still be read from its newest generation.
    def torn(self, _name, _place, generation):
        path = self.file_in(generation)
        data = path.read_bytes()
        path.write_bytes(data[:self.chance.randrange(len(data))])
        return False

    def empty(self, _name, _place, generation):
        self.file_in(generation).write_bytes(b"")
        return False

    def flipped(self, _name, _place, generation):
        path = self.file_in(generation)
        data = bytearray(path.read_bytes())
        at = self.chance.randrange(len(data))
        data[at] ^= 1 << self.chance.randrange(8)
        path.write_bytes(bytes(data))
        return False

    def missing(self, _name, _place, generation):
        self.file_in(generation).unlink()
        return False

    def swapped(self, _name, _place, generation):
        """A file of another certificate: whole, and not this one's."""
        file = self.chance.choice(["fullchain.pem", "meta.json", "SHA256SUMS", "cert.pem"])
        shutil.copyfile(self.certs / self.chance.choice(self.others) / "current" / file,
                        generation / file)
        return False

    def foreign(self, _name, _place, generation):
        """All files of another: every sum is right."""
        shutil.rmtree(generation)
        shutil.copytree(self.certs / self.chance.choice(self.others) / "current", generation)
        return False

    def no_link(self, _name, place, _generation):
        (place / "current").unlink()
        return True

    def wrong_link(self, _name, place, _generation):
        (place / "current").unlink()
        (place / "current").symlink_to(self.chance.choice(["..", "/etc", "nothing", "99999999"]))
        return True

    def in_the_way(self, _name, place, generation):
        """A file where the folder of the generation was."""
        shutil.rmtree(generation)
        generation.write_bytes(self.chance.randbytes(100))
        return False

    def no_generation(self, _name, _place, generation):
        shutil.rmtree(generation)
        return False


def contents(folder):
    """Digests of all regular files below a folder, of those that hold something."""
    found = set()
    for root, _, files in os.walk(folder):
        for file in files:
            path = os.path.join(root, file)
            if not os.path.islink(path) and os.path.getsize(path) > 0:
                found.add(hashlib.sha256(open(path, "rb").read()).hexdigest())
    return found


@pytest.mark.parametrize("seed", [1])
def test_every_name_outlives_damage_to_its_files(gatehouse, config, tmp_path, ca, origin, seed):
    chance = random.Random(int(os.environ.get("GATEHOUSE_SEED", seed)))
    folder = tmp_path / "damaged"
    folder.mkdir()
    stock = Stock(folder / "storage", seed)
    names = [f"n{i:04d}.damage-{i % 97}.test" for i in range(COUNT)]
    for name in names:
        if chance.random() < 0.5:
            stock.add(name, generation=1, age=40 * DAY)
            stock.add(name, generation=2)
        else:
            stock.add(name)
    spoiled = chance.sample(names, DAMAGED)
    certs = folder / "storage" / "certs"
    damage = Damage(certs, chance)
    damage.others = [name for name in names if name not in set(spoiled)]
    for name in spoiled:
        damage.spoil(name)
    # The index tells of none of that, and is damaged itself.
    index = folder / "storage" / "index"
    index.mkdir()
    for part in range(0, 64, 3):
        (index / f"{part:02x}").write_bytes(chance.randbytes(chance.randrange(300)))
    before = contents(certs)

    program = gatehouse(config.acme(ca.directory, ca.trust,
                                    standing_sites(origin.address, names)), folder=folder)
    rows = until(lambda: all_active(program, COUNT), "every certificate", within(120))
    assert set(rows) == set(names)
    tls = trusting(stock.root + ca.root())
    anew = set()
    for name in names:
        # Its key signs the handshake: the certificate and the key belong together.
        with Client(config.https, tls=tls, name=name) as client:
            if client.certificate().issuer != stock.root_name:
                anew.add(name)
    print(f"{len(damage.lost)} of {DAMAGED} lost every generation, {len(anew)} obtained anew")
    assert anew == damage.lost
    assert ca.orders() == len(damage.lost), "each once"
    lost_bytes = before - contents(folder / "storage")
    assert not lost_bytes, "what could be read is still there"
    program.stop()
    program.start()
    until(lambda: all_active(program, COUNT), "every certificate after a restart", within(60))
    assert ca.orders() == len(damage.lost), "mended for good"


def all_active(program, count):
    rows = program.certificates()
    active = [row for row in rows.values() if row["state"] == "active"]
    return rows if len(active) == count else None
