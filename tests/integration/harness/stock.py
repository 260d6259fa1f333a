"""A storage as a long life of the program would have left it: certificates of many names."""

import datetime
import hashlib
import json
import os
import pathlib
import random

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from local_ca import key_pem, pem

DAY = datetime.timedelta(days=1)


class Stock:
    """Writes certificates of a root of its own into `folder`, the program's storage.

    All have one key: making it is what would take longest. `root` is the PEM to trust.
    """

    def __init__(self, folder, seed=1):
        self.folder = pathlib.Path(folder)
        self.random = random.Random(seed)
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stock root")])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.key_text = key_pem(self.key)
        now = datetime.datetime.utcnow()
        self.root = pem(self.builder(self.root_name, self.root_key.public_key(), now - DAY,
                                     now + 3650 * DAY)
                        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
                        .add_extension(x509.SubjectKeyIdentifier.from_public_key(
                            self.root_key.public_key()), False)
                        .sign(self.root_key, hashes.SHA256()))
        self.authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self.root_key.public_key())
        self.usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        self.empty = x509.Name([])
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "VERSION").write_text("1\n")
        (self.folder / "certs").mkdir(mode=0o700, exist_ok=True)

    def builder(self, subject, public_key, begins, ends):
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self.root_name)
                .public_key(public_key).serial_number(self.random.getrandbits(120) | 1)
                .not_valid_before(begins).not_valid_after(ends))

    def sign(self, name, begins, ends):
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        return (self.builder(self.empty, self.key.public_key(), begins, ends)
                .add_extension(self.authority_key, False).add_extension(self.usage, False)
                .add_extension(names, True).sign(self.root_key, hashes.SHA256()))

    def add(self, name, generation=1, age=10 * DAY, lifetime=90 * DAY, on_demand=False,
            authority="local"):
        """Stores a certificate of `name`, `age` old, and returns its generation's folder."""
        begins = datetime.datetime.utcnow().replace(microsecond=0) - age
        certificate = self.sign(name, begins, begins + lifetime)
        text = pem(certificate)
        meta = {"name": name, "names": [name], "authority": authority, "on_demand": on_demand,
                "issuer": "Stock root", "serial": f"{certificate.serial_number:x}",
                "not_before": begins.isoformat() + "Z",
                "not_after": (begins + lifetime).isoformat() + "Z"}
        return write_set(self.folder / "certs" / name, generation, {
            "cert.pem": text, "chain.pem": "", "fullchain.pem": text, "privkey.pem": self.key_text,
            "meta.json": json.dumps(meta) + "\n"})


def write_set(folder, generation, files):
    """One generation as the program writes it, and `current` pointing to it."""
    place = folder / f"{generation:08}"
    os.makedirs(place, mode=0o700)
    sums = ""
    for file, text in sorted(files.items()):
        write_private(place / file, text)
        sums += f"{hashlib.sha256(text.encode()).hexdigest()}  {file}\n"
    write_private(place / "SHA256SUMS", sealed(sums))
    link = folder / "current"
    if link.is_symlink():
        link.unlink()
    link.symlink_to(place.name)
    return place


def write_private(path, text):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def sealed(text):
    """With the line that proves the rest."""
    return text + f"#sha256 {hashlib.sha256(text.encode()).hexdigest()}\n"
