#!/usr/bin/env python3
"""Writes testdata/vectors/registration: the records that a registration of two test cards must give, not yet signed,
and the seeds of registration/testdata/fuzz: such records, and what is nearly one.

Challenges, the cards' signatures and CBOR are spelled out from docs/protocol.md, docs/registration.md and RFC 8949,
with RSA of its own. Needs nothing but Python 3. Run it from the top of the repository.
"""
import calendar, os

from cardlib import JPKI, SURFACE, app, content, digest_info, load, pkcs1, private, rsa_key, sha256
import base64

OUT = "testdata/vectors/registration"
SCOPE, TERMINAL, NONCE = "demo-hall", "desk-1", bytes(range(32))
AT = calendar.timegm((2026, 7, 1, 12, 0, 0))
SCHEME = "rsassa-pkcs1-v1_5-sha256"


# --- CBOR, deterministic (RFC 8949, 4.2.1) --------------------------------

def head(major, n):
    for size, info in ((0, None), (1, 24), (2, 25), (4, 26), (8, 27)):
        if size == 0 and n < 24:
            return bytes([major << 5 | n])
        if size and n < 1 << 8 * size:
            return bytes([major << 5 | info]) + n.to_bytes(size, "big")

def cbor(v):
    if isinstance(v, int):
        return head(0, v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    items = sorted((cbor(k), cbor(x)) for k, x in v.items())
    return head(5, len(items)) + b"".join(k + x for k, x in items)


# --- what the card signs --------------------------------------------------

def challenge(purpose, ticket):
    message = b""
    for field in (b"gate-agent/challenge/v1", SCOPE.encode(), TERMINAL.encode(), purpose.encode(), ticket.encode(), NONCE):
        message += len(field).to_bytes(4, "big") + field
    return sha256(message)

def signed(key, digest):
    return {1: SCHEME, 2: pkcs1(key, digest_info(digest))}

def record(image, ticket, change=lambda r: None):
    certificate = content(image, JPKI, "000A")
    token = content(image, JPKI, "0006")[:32].decode().rstrip(" ")
    auth = signed(private(image, "0017"), challenge("registration", ticket))
    r = {0: 1, 1: SCOPE, 2: "test", 3: TERMINAL, 5: AT, 6: NONCE, 7: token, 8: content(image, JPKI, "0008"),
         9: certificate, 10: auth}
    if ticket:
        r[4] = ticket
    if any(a["aid"] == SURFACE for a in image["applications"]):
        card_key = rsa_key(base64.b64decode(app(image, SURFACE)["internal_key"]))
        r[11] = {1: content(image, SURFACE, "0004"), 2: content(image, SURFACE, "0001"),
                 3: signed(card_key, challenge("registration-card", sha256(auth[2]).hex()))}
    change(r)
    return cbor(r)

# --- seeds ----------------------------------------------------------------

def seed(target, name, data):
    folder = os.path.join("registration/testdata/fuzz", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w") as f:
        f.write('go test fuzz v1\n[]byte("%s")\n' % "".join("\\x%02x" % b for b in data))

def seeds(image):
    good = record(image, "T-000123")
    without = lambda key: record(image, "T-000123", lambda r: r.pop(key))
    with_ = lambda key, v: record(image, "T-000123", lambda r: r.update({key: v}))
    for name, data in (
        ("least", record(image, "T-000123", lambda r: (r.pop(7), r.pop(8), r.pop(11)))),
        ("no-card-key", without(11)), ("newer", with_(0, 2)), ("empty-ticket", with_(4, "")),
        ("unknown-scheme", with_(10, {1: "none", 2: b"x"})), ("empty-surface", with_(11, {})),
        ("cut", good[:-1]), ("longer", good + b"\0"), ("indefinite", b"\xBF" + good[1:] + b"\xFF"),
        ("null", bytes([good[0] + 1]) + good[1:] + b"\x0C\xF6"),
    ):
        seed("FuzzRecord", name, data)
        seed("FuzzVerify", name, data)

if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    for name, image, ticket in (("card", "good.json", "T-000123"), ("phone", "android.json", "")):
        with open(os.path.join(OUT, name + ".cbor"), "wb") as f:
            f.write(record(load(image), ticket))
    seeds(load("good.json"))
