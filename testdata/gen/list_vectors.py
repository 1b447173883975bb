#!/usr/bin/env python3
"""Writes testdata/vectors/list: two whole lists, of version 1 (four-rows.list) and of version 2 (venue.list), and one
of version 3 as a hub publishes it (published/): manifest, snapshot and delta. The manifest is signed by a key that two
of three roots delegate to; published/delegation is what stands in front of it.

CBOR, sealing, set digest and signatures are spelled out from docs/list-format.md, RFC 8949, RFC 5869, RFC 8439,
draft-irtf-cfrg-xchacha-03, FIPS 202 and RFC 8032. What the lists say is in whitelist/list_test.go, venue_test.go and
vector_test.go, and the delegation in crypto/roles/vector_test.go.
Needs nothing but Python 3. Run it from the top of the repository.
"""
import calendar, hashlib, hmac, os, struct

from cardlib import G, point_mul, sha256, sha384

OUT = "testdata/vectors/list"
SIGNING_SEED, SCOPE_SECRET, SCOPE = b"\x11" * 32, b"\x22" * 32, "arena"
ISSUED = calendar.timegm((2027, 1, 2, 3, 4, 5))
MINUTE, HOUR = 60, 3600


# --- CBOR, deterministic (RFC 8949, 4.2.1) --------------------------------

def head(major, n):
    for size, info in ((0, None), (1, 24), (2, 25), (4, 26), (8, 27)):
        if size == 0 and n < 24:
            return bytes([major << 5 | n])
        if size and n < 1 << 8 * size:
            return bytes([major << 5 | info]) + n.to_bytes(size, "big")

def cbor(v):
    if v is True:
        return b"\xF5"
    if isinstance(v, int):
        return head(0, v) if v >= 0 else head(1, -1 - v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    if isinstance(v, list):
        return head(4, len(v)) + b"".join(cbor(x) for x in v)
    items = sorted((cbor(k), cbor(x)) for k, x in v.items())
    return head(5, len(items)) + b"".join(k + x for k, x in items)


# --- Ed25519 (RFC 8032, 5.1) ----------------------------------------------

Q = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, Q) % Q
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, -1, Q) % Q)

def add(a, b):
    m = D * a[0] * b[0] * a[1] * b[1] % Q
    return ((a[0] * b[1] + b[0] * a[1]) * pow(1 + m, -1, Q) % Q, (a[1] * b[1] + a[0] * b[0]) * pow(1 - m, -1, Q) % Q)

def mul(k, a):
    r = (0, 1)
    while k:
        if k & 1:
            r = add(r, a)
        a, k = add(a, a), k >> 1
    return r

def point(a):
    return (a[1] | (a[0] & 1) << 255).to_bytes(32, "little")

def number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER

def ed25519_secret(seed):
    h = hashlib.sha512(seed).digest()
    return int.from_bytes(h[:32], "little") & (1 << 254) - 8 | 1 << 254, h[32:]

def ed25519_public(seed):
    return point(mul(ed25519_secret(seed)[0], BASE))

def ed25519_sign(seed, message):
    s, prefix = ed25519_secret(seed)
    r = number(prefix, message)
    big_r = point(mul(r, BASE))
    return big_r + ((r + number(big_r, ed25519_public(seed), message) * s) % ORDER).to_bytes(32, "little")


# --- XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, RFC 8439) ------------

def rounds(key, block):
    """The state before and after 20 rounds; block is counter and nonce."""
    first = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8I", key), *struct.unpack("<4I", block)]
    s = list(first)
    def step(a, b, c, n):
        s[a] = (s[a] + s[b]) & 0xFFFFFFFF
        x = s[c] ^ s[a]
        s[c] = (x << n | x >> 32 - n) & 0xFFFFFFFF
    for _ in range(10):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                           (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            step(a, b, d, 16), step(c, d, b, 12), step(a, b, d, 8), step(c, d, b, 7)
    return first, s

def chacha20(key, counter, nonce):
    first, s = rounds(key, struct.pack("<I", counter) + nonce)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(first, s)))

def poly1305(key, message):
    r, s = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF, int.from_bytes(key[16:], "little")
    a = 0
    for i in range(0, len(message), 16):
        a = (a + int.from_bytes(message[i:i + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ((a + s) % 2**128).to_bytes(16, "little")

def xchacha20_poly1305(key, nonce, plain, aad):
    _, s = rounds(key, nonce[:16])                      # HChaCha20
    key, nonce = struct.pack("<8I", *s[:4], *s[12:]), bytes(4) + nonce[16:]
    stream = b"".join(chacha20(key, 1 + i, nonce) for i in range((len(plain) + 63) // 64))
    text = bytes(a ^ b for a, b in zip(plain, stream))
    pad = lambda b: b + bytes(-len(b) % 16)
    return text + poly1305(chacha20(key, 0, nonce), pad(aad) + pad(text) + struct.pack("<QQ", len(aad), len(text)))


# --- CardID and sealing ---------------------------------------------------

mac = lambda key, message: hmac.new(key, message, hashlib.sha256).digest()
expand = lambda prk, info: mac(prk, info + b"\1")       # 32 bytes are one block
lp = lambda b: len(b).to_bytes(4, "big") + b

scope_prk = mac(bytes(32), SCOPE_SECRET)
ID_KEY, ROW_KEY, CHECK = (expand(scope_prk, b"gate-agent/cardid/v1/" + what) for what in (b"id", b"row", b"check"))

def card_id(row_head):
    return mac(ID_KEY, row_head)

def seal(epoch, row_head, content):
    padded = content + b"\x80"
    padded += bytes(next(n for n in (128, 384, 768, 1536, 4096) if len(padded) <= n) - len(padded))
    prk, scope = mac(ROW_KEY, row_head), SCOPE.encode()
    nonce_key = expand(prk, b"gate-agent/cardid/v1/row/nonce" + lp(scope))
    nonce = mac(nonce_key, lp(epoch.to_bytes(8, "big")) + lp(padded))[:24]
    aad = lp(b"gate-agent/row/v1") + lp(scope) + lp(card_id(row_head))
    return nonce + xchacha20_poly1305(expand(prk, b"gate-agent/cardid/v1/row/seal" + lp(scope)), nonce, padded, aad)


# --- the list file --------------------------------------------------------

def spki(seed):
    return bytes.fromhex("302a300506032b6570032100") + ed25519_public(seed)

def signed(payload, seed=SIGNING_SEED, role=b"list"):
    protected = cbor({1: -8, 4: sha256(spki(seed))})
    signature = ed25519_sign(seed, cbor(["Signature1", protected, b"gate-agent/" + role + b"/v1", payload]))
    return b"\xD2" + cbor([protected, {}, payload, signature])

def list_file(manifest, rows):
    items = b"".join(cbor(list(r)) for r in sorted((card_id(h), seal(manifest[3], h, cbor(r))) for h, r in rows))
    return signed(cbor({**manifest, 9: CHECK[:16], 10: len(rows), 11: sha256(items)})) + items


# --- a published list -----------------------------------------------------

def rows_file(rows):
    """Rows ascending by card_id, each (card_id, sealed); sealed is empty where one is gone."""
    return b"".join(cbor(list(r)) for r in sorted(rows))

def set_digest(rows):
    """SHA-256 of the LtHash: 1024 lanes of 16 bits, little-endian, into which each row is expanded and added."""
    lanes = [0] * 1024
    for r in rows:
        element = hashlib.shake_128(cbor(list(r))).digest(2048)
        lanes = [(a + b) % 2**16 for a, b in zip(lanes, struct.unpack("<1024H", element))]
    return sha256(struct.pack("<1024H", *lanes))

def delegation(payload, seeds):
    return head(4, len(seeds)) + b"".join(signed(payload, s, b"root") for s in seeds)


# --- what they say --------------------------------------------------------

def rsa_spki(n):
    """A modulus without known factors."""
    b = bytearray(b"".join(sha256(b"modulus %d.%d" % (n, i)) for i in range(8)))
    b[0] |= 0x80
    b[-1] |= 1
    return bytes.fromhex("30820122300d06092a864886f70d01010105000382010f003082010a0282010100") + bytes(b) + bytes.fromhex("0203010001")

def p384_spki(n):
    x, y = point_mul(int.from_bytes(sha384(b"scalar %d" % n), "big"), G)
    return bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004") + x.to_bytes(48, "big") + y.to_bytes(48, "big")

certificate = lambda n: b"head %06d " % n * 20
order = lambda number: b"gate-agent/order/v1\0" + number

ACTIVE, BLOCKED, REVOKED = 1, 2, 3

def manifest(version, seq):
    return {0: version, 1: SCOPE, 2: "test", 3: 1, 4: seq, 5: ISSUED, 6: ISSUED + 24 * HOUR, 7: ISSUED - HOUR,
            8: {1: 1, 2: 2, 3: 0, 4: 48 * HOUR}}

ROWS = [
    (certificate(1), {1: ACTIVE, 2: [{1: "season-1"}], 3: rsa_spki(1), 4: rsa_spki(2)}),
    (certificate(2), {1: REVOKED, 2: [{1: "season-2"}]}),
    (certificate(3), {1: BLOCKED, 2: [{1: "day"}, {1: "党員券 5", 2: ISSUED, 3: ISSUED + HOUR, 4: ["north", "east"], 5: 3}],
                      4: rsa_spki(3)}),
    (certificate(4), {1: ACTIVE, 2: [{1: "first", 3: ISSUED}], 3: p384_spki(4), 5: "19840229"}),
]

VENUE = {
    1: "Asia/Tokyo", 2: 5 * 60, 3: 15 * MINUTE,
    4: ISSUED + 6 * HOUR, 5: ISSUED + 9 * HOUR, 6: ISSUED + 5 * HOUR, 7: True,
    8: [{1: "arena", 2: 2, 3: 12 * 60, 4: 1}, {1: "控室"}],
    9: [{1: 1, 2: "north", 3: "arena"}, {1: 7, 2: "east", 3: "arena"}, {1: 8, 2: "stage door", 3: "控室"}, {1: 9, 2: "fence"}],
    10: [{1: 23, 2: "Day ticket"}, {1: 24, 2: "前売券", 3: True}],
    11: '{"and": [\n{"<": [{"var": "entries_today"}, 3]}]}',
}
PARTY = {1: "ABC12-1", 4: ["north"], 5: 4, 7: ["arena"], 8: 2, 9: 1, 10: 4, 12: 23, 13: 5, 14: True, 15: "年齢を確認: 18+"}
VENUE_ROWS = ROWS + [
    (certificate(5), {1: ACTIVE, 2: [PARTY], 3: rsa_spki(5)}),
    (certificate(6), {1: ACTIVE, 2: [{1: "ABC12-1", 7: ["arena"], 10: 4, 11: True}], 3: rsa_spki(6)}),
    (order(b"ABC12"), {1: ACTIVE, 2: [PARTY, {1: "ABC12-2", 6: BLOCKED, 9: 2}, {1: "ABC12-3", 6: REVOKED, 12: 24, 14: True}]}),
]

ROOTS = [b"\x31" * 32, b"\x32" * 32, b"\x33" * 32]
LEASE_SEED, COMMAND_SEED = b"\x14" * 32, b"\x13" * 32
DELEGATION = {
    0: 1, 1: SCOPE, 2: "test", 3: 5, 4: ISSUED - 24 * HOUR, 5: ISSUED + 30 * 24 * HOUR,
    6: [{1: spki(seed), 2: role, 3: ISSUED - HOUR, 4: ISSUED + days * 24 * HOUR}
        for seed, role, days in ((SIGNING_SEED, "list", 7), (LEASE_SEED, "lease", 14), (COMMAND_SEED, "command", 14))],
}

# Publication 7 has four rows. Until publication 9 one of them changed, one is gone, and one is new.
def published():
    sealed = lambda rows: {card_id(h): seal(1, h, cbor(r)) for h, r in rows}
    before, gone = sealed(ROWS), card_id(certificate(2))
    touched = sealed([(certificate(1), {1: REVOKED, 2: [{1: "season-1"}]}),
                      (certificate(5), {1: ACTIVE, 2: [{1: "season-5"}], 3: rsa_spki(5)})])
    after = {**before, **touched}
    del after[gone]
    snapshot, delta = rows_file(before.items()), rows_file({**touched, gone: b""}.items())
    front = delegation(cbor(DELEGATION), ROOTS[:2])
    m = {**manifest(3, 10), 9: CHECK[:16], 10: len(after), 13: {1: 9, 2: set_digest(after.items())},
         14: {1: 7, 2: sha256(snapshot), 3: len(snapshot)}, 15: [{1: 7, 2: 9, 3: sha256(delta), 4: len(delta)}]}
    return {"delegation": front, "manifest": front + signed(cbor(m)), "snapshot": snapshot, "delta": delta}

if __name__ == "__main__":
    os.makedirs(os.path.join(OUT, "published"), exist_ok=True)
    for name, m, rows in (("four-rows", manifest(1, 7), ROWS), ("venue", {**manifest(2, 8), 12: VENUE}, VENUE_ROWS)):
        with open(os.path.join(OUT, name + ".list"), "wb") as f:
            f.write(list_file(m, rows))
    for name, content in published().items():
        with open(os.path.join(OUT, "published", name), "wb") as f:
            f.write(content)
