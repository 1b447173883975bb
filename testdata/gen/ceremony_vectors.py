#!/usr/bin/env python3
"""Writes testdata/vectors/ceremony: the transcript that a ceremony of testdata/cards/terminal.pem must give, not yet
signed by the terminal, and the seeds of crypto/ceremony/testdata/fuzz: that transcript, and what is nearly one.

CBOR, the proof of possession and the check value are spelled out from docs/key-ceremony.md and RFC 8949, with RSA of
its own. Needs nothing but Python 3. Run it from the top of the repository.
"""
import calendar, os

from cardlib import digest_info, pkcs1, sha256, terminal_key

OUT, SEEDS = "testdata/vectors/ceremony", "crypto/ceremony/testdata/fuzz"
BEGAN = calendar.timegm((2026, 7, 1, 12, 0, 0)) * 1000  # milliseconds


# --- CBOR, deterministic (RFC 8949, 4.2.1) --------------------------------

def head(major, n):
    for size, info in ((0, None), (1, 24), (2, 25), (4, 26), (8, 27)):
        if size == 0 and n < 24:
            return bytes([major << 5 | n])
        if size and n < 1 << 8 * size:
            return bytes([major << 5 | info]) + n.to_bytes(size, "big")

def cbor(v):
    if v is None or isinstance(v, bool):
        return {False: b"\xF4", True: b"\xF5", None: b"\xF6"}[v]
    if isinstance(v, int):
        return head(0, v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    if isinstance(v, list):
        return head(4, len(v)) + b"".join(map(cbor, v))
    items = sorted((cbor(k), cbor(x)) for k, x in v.items())
    return head(5, len(items)) + b"".join(k + x for k, x in items)


# --- DER (X.690) ----------------------------------------------------------

def der(tag, content):
    n = len(content)
    size = bytes([n]) if n < 128 else (bytes([0x81, n]) if n < 256 else b"\x82" + n.to_bytes(2, "big"))
    return bytes([tag]) + size + content

def integer(n):
    return der(2, n.to_bytes(n.bit_length() // 8 + 1, "big"))

def spki(key):
    """SubjectPublicKeyInfo of an RSA key (RFC 5280, 4.1.2.7, RFC 3279, 2.3.1)."""
    algorithm = der(0x30, bytes.fromhex("06092A864886F70D010101" "0500"))
    return der(0x30, algorithm + der(3, b"\0" + der(0x30, integer(key["n"]) + integer(key["e"]))))


# --- the transcript -------------------------------------------------------

def transcript(change=lambda t: None):
    public = spki(terminal_key)
    kcv = sha256(public)[:8].hex().upper()
    t = {
        0: 1, 1: "gate-1-left", 2: "demo-hall", 3: "test", 4: "v1.0.0", 5: BEGAN, 6: BEGAN + 61_000,
        7: [{1: "山田 花子", 2: "operator"}, {1: "Jane Doe", 2: "witness"}],
        8: "external-auth", 9: "sealed", 10: "sealed: key source on disk; a copied disk opens it",
        11: "rsa-2048", 12: public, 13: "-".join(kcv[i:i + 4] for i in range(0, 16, 4)),
        14: True, 15: bytes(range(32)),
        16: [
            {1: "named", 2: BEGAN + 20_000},
            {1: "generated", 2: BEGAN + 21_250},
            {1: "confirmed", 2: BEGAN + 40_000, 3: 1, 4: 1},
            {1: "confirmed", 2: BEGAN + 60_000, 3: 2, 4: 2},
            {1: "test-signed", 2: BEGAN + 60_500},
            {1: "export-tried", 2: BEGAN + 60_600},
        ],
    }
    change(t)
    t[17] = pkcs1(terminal_key, digest_info(sha256(b"gate-agent/ceremony-proof/v1\0" + cbor(t))))
    return t

def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(content)

def seed(target, name, content):
    text = "".join(f"\\x{b:02x}" for b in content)
    write(os.path.join(SEEDS, target, name), f'go test fuzz v1\n[]byte("{text}")\n'.encode())

def changed(key, value):
    return cbor(transcript(lambda t: t.update({key: value})))

write(os.path.join(OUT, "external-auth.cbor"), cbor(transcript()))
whole = transcript()
for name, content in {
    "newer": changed(0, 2),
    "one-name": changed(7, [{1: "Jane Doe", 2: "operator"}, {1: "JANE DOE", 2: "witness"}]),
    "one-person": changed(7, [{1: "Jane Doe", 2: "operator"}]),
    "other-kcv": changed(13, "0000-0000-0000-0000"),
    "other-type": changed(11, "ed25519"),
    "no-steps": changed(16, []),
    "null-steps": changed(16, None),
    "purpose-wrap": changed(8, "wrap"),
    "no-proof": cbor({k: v for k, v in whole.items() if k != 17}),
    "other-nonce": cbor(whole | {15: bytes(32)}),
    "cut": cbor(whole)[:-1],
    "longer": cbor(whole) + b"\0",
    "indefinite": b"\xBF" + cbor(whole)[1:] + b"\xFF",
}.items():
    seed("FuzzTranscript", name, content)
    seed("FuzzVerify", name, content)
