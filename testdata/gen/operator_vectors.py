#!/usr/bin/env python3
"""Writes testdata/vectors/operator/vectors.json: a lease and a file of commands under a delegation, as bytes, with the
keys that open and verify them.

CBOR, X25519 (RFC 7748), HPKE in base mode (RFC 9180), ChaCha20-Poly1305 (RFC 8439) and Ed25519 (RFC 8032) are spelled
out here and in list_vectors.py, from docs/terminal-commands.md and those texts. The ephemeral key is fixed, which only
a vector may do. Needs nothing but Python 3. Run it from the top of the repository.
"""
import calendar, json, os, struct

from cardlib import sha256
from list_vectors import cbor, chacha20, ed25519_public, ed25519_sign, expand, mac, poly1305

OUT = "testdata/vectors/operator"
SECRET, DELIVERY, EPHEMERAL = b"\x22" * 32, b"\x33" * 32, b"\x44" * 32
ROOT, LEASE, ANNA, BEN = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, b"\x04" * 32
SCOPE, TERMINAL, HIERARCHY = "競技場", "gate-1-left", "test"
ISSUED = calendar.timegm((2027, 1, 2, 3, 4, 5))
DAY = 24 * 3600
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


# --- X25519 (RFC 7748, 5) ---------------------------------------------------

def x25519(k, u):
    p = 2**255 - 19
    k = int.from_bytes(bytes([k[0] & 248]) + k[1:31] + bytes([k[31] & 127 | 64]), "little")
    u = int.from_bytes(u, "little") & (1 << 255) - 1
    x1, x2, z2, x3, z3 = u, 1, 0, u, 1
    for t in reversed(range(255)):
        bit = k >> t & 1
        if bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % p, b * b % p, d * a % p, c * b % p
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, e * (aa + 121665 * e) % p
        if bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
    return (x2 * pow(z2, -1, p) % p).to_bytes(32, "little")

BASE = (9).to_bytes(32, "little")


# --- HPKE, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305 (RFC 9180) ---

def labeled_extract(suite, salt, label, ikm):
    return mac(salt, b"HPKE-v1" + suite + label + ikm)

def labeled_expand(suite, prk, label, info, n):         # one block of SHA-256 is enough
    return expand(prk, n.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info)[:n]

def chacha20_poly1305(key, nonce, plain, aad):
    stream = b"".join(chacha20(key, 1 + i, nonce) for i in range((len(plain) + 63) // 64))
    text = bytes(a ^ b for a, b in zip(plain, stream))
    pad = lambda b: b + bytes(-len(b) % 16)
    return text + poly1305(chacha20(key, 0, nonce), pad(aad) + pad(text) + struct.pack("<QQ", len(aad), len(text)))

def hpke_seal(public, info, plain):
    enc = x25519(EPHEMERAL, BASE)
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"
    prk = labeled_extract(kem, b"", b"eae_prk", x25519(EPHEMERAL, public))
    shared = labeled_expand(kem, prk, b"shared_secret", enc + public, 32)
    context = b"\x00" + labeled_extract(suite, b"", b"psk_id_hash", b"") + labeled_extract(suite, b"", b"info_hash", info)
    secret = labeled_extract(suite, shared, b"secret", b"")
    key, nonce = labeled_expand(suite, secret, b"key", context, 32), labeled_expand(suite, secret, b"base_nonce", context, 12)
    return enc + chacha20_poly1305(key, nonce, plain, b"")


# --- signatures -------------------------------------------------------------

def spki(seed):
    return bytes.fromhex("302a300506032b6570032100") + ed25519_public(seed)

def sign1(seed, role, payload):
    protected = cbor({1: -8, 4: sha256(spki(seed))})
    signature = ed25519_sign(seed, cbor(["Signature1", protected, b"gate-agent/" + role + b"/v1", payload]))
    return b"\xD2" + cbor([protected, {}, payload, signature])

def array(*messages):
    return bytes([0x80 | len(messages)]) + b"".join(messages)

grants = [{1: spki(key), 2: role, 3: ISSUED, 4: ISSUED + 30 * DAY} for key, role in ((LEASE, "lease"), (ANNA, "command"), (BEN, "command"))]
DELEGATION = array(sign1(ROOT, b"root", cbor({0: 1, 1: SCOPE, 2: HIERARCHY, 3: 2, 4: ISSUED, 5: ISSUED + 90 * DAY, 6: grants})))


# --- a lease ----------------------------------------------------------------

check = expand(mac(bytes(32), SECRET), b"gate-agent/cardid/v1/check")[:16]
info = cbor(["gate-agent/lease/v1", 1, SCOPE, HIERARCHY, TERMINAL, ISSUED, ISSUED + 7 * DAY])
lease = DELEGATION + sign1(LEASE, b"lease", cbor({
    0: 1, 1: SCOPE, 2: HIERARCHY, 3: TERMINAL, 4: ISSUED, 5: ISSUED + 7 * DAY, 6: check, 7: hpke_seal(x25519(DELIVERY, BASE), info, SECRET)}))


# --- commands ---------------------------------------------------------------

def command(number, signers, **more):
    names = {"action": 7, "message": 8, "new_scope": 9, "rescue_key": 10}
    payload = cbor({0: 1, 1: SCOPE, 2: HIERARCHY, 3: TERMINAL, 4: number, 5: ISSUED, 6: ISSUED + DAY, **{names[k]: v for k, v in more.items()}})
    return cbor(array(*(sign1(s, b"command", payload) for s in signers)))

commands = DELEGATION + b"".join((
    command(1, [ANNA], action="out_of_order", message="改札を閉じます"),
    command(2, [BEN], action="in_order"),
    command(3, [ANNA], action="change_scope", new_scope="hall"),
    command(4, [ANNA, BEN], action="wipe", rescue_key=RECIPIENT),
))

if __name__ == "__main__":
    # RFC 7748, 5.2: the first iteration.
    assert x25519(BASE, BASE).hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "vectors.json"), "w") as f:
        json.dump({
            "scope": SCOPE, "terminal": TERMINAL, "hierarchy": HIERARCHY, "issued_at": ISSUED,
            "root_public": spki(ROOT).hex(), "delivery_private": DELIVERY.hex(), "scope_secret": SECRET.hex(),
            "lease": lease.hex(), "commands": commands.hex(), "rescue_key": RECIPIENT,
        }, f, ensure_ascii=False, indent=2)
        f.write("\n")
