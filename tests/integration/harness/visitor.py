"""A visitor's handshake and request: with a root to trust, or taking whatever is presented."""

import ssl
import time
from dataclasses import dataclass

from cryptography import x509

from harness.client import Client, Cut, Response, trusting, trusting_anything

PATIENCE_SECONDS = 40


@dataclass
class Visit:
    seconds: float  # from the connection's start to the end of the response
    response: Response
    certificate: x509.Certificate

    @property
    def self_signed(self):
        return self.certificate.issuer == self.certificate.subject


def visit(port, name, root=None, source=None):
    """A visit that trusts `root` alone, or without one anything at all."""
    context = trusting(root) if root else trusting_anything()
    begun = time.monotonic()
    with Client(port, tls=context, name=name, timeout=PATIENCE_SECONDS, source=source) as client:
        response = client.get(host=name)
        return Visit(time.monotonic() - begun, response, client.certificate())


def trusted(port, name, root):
    """The visit, if it was answered by the site behind a certificate of `root`; else None."""
    try:
        seen = visit(port, name, root)
    except (ssl.SSLError, OSError, Cut):
        return None
    return seen if seen.response.status == 200 else None
