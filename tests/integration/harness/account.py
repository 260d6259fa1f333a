"""An account at a CA as another client would have made it: with an RSA key."""

import base64
import json
import ssl
import urllib.request

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding


def register(proxy, key, email):
    """Registers `key`, RSA, at the CA behind `proxy`; the account's URL."""
    context = ssl.create_default_context(cafile=str(proxy.ca.trust))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                         urllib.request.HTTPSHandler(context=context))
    with opener.open(proxy.directory, timeout=5) as answer:
        directory = json.load(answer)
    with opener.open(directory["newNonce"], timeout=5) as answer:
        nonce = answer.headers["Replay-Nonce"]
    public = key.public_key().public_numbers()
    protected = coded({"alg": "RS256", "nonce": nonce, "url": directory["newAccount"], "jwk": {
        "kty": "RSA", "n": number(public.n), "e": number(public.e)}})
    payload = coded({"termsOfServiceAgreed": True, "contact": [f"mailto:{email}"]})
    signature = key.sign(f"{protected}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256())
    body = json.dumps({"protected": protected, "payload": payload,
                       "signature": base64url(signature)})
    request = urllib.request.Request(directory["newAccount"], body.encode(),
                                     {"Content-Type": "application/jose+json"})
    with opener.open(request, timeout=5) as answer:
        assert answer.status == 201
        return answer.headers["Location"]


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def coded(value):
    return base64url(json.dumps(value).encode())


def number(value):
    """An unsigned integer of a JWK (RFC 7518 section 2)."""
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
