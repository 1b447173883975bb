#!/usr/bin/env python3
"""Writes testdata/vectors/upload/vectors.json: batches, with what they say or why they are refused, acknowledgements and
a refusal, from the words of docs/upload.md.

Its CBOR and Ed25519 (RFC 8032) are those of list_vectors.py; it shares no code with the program. Needs nothing but
Python 3. Run it from the top of the repository.
"""
import base64, hashlib, json, os

from list_vectors import cbor, signed, spki

OUT = "testdata/vectors/upload"
SCOPE, TERMINAL, AGENT = "競技場", "gate-1-left", "v0.2.0"
INCARNATION = bytes(range(16))
HUB = b"\x07" * 32                                      # seed of the key that acknowledges
SENT = "2026-07-01T12:00:00.000Z"
SENT_MS = 1782907200000
MAX = 256 << 10


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

FIRST = sha256(b"gate-agent journal start v1\0", INCARNATION)

def chain(prev, events):
    hashes = []
    for e in events:
        prev = sha256(b"gate-agent journal event v1\0", prev, e)
        hashes.append(prev)
    return hashes

EVENTS = [
    ('{"seq":1,"kind":"start","at":"%s","terminal":"%s","scope":"%s","version":"%s"}' % (SENT, TERMINAL, SCOPE, AGENT)).encode(),
    ('{"seq":2,"kind":"decision","at":"%s","verdict":"deny","reason":"not_listed"}' % SENT).encode(),
    b"neither JSON\nnor one line \xff\x00",
    ('{"seq":4,"kind":"incident","at":"%s","reason":"tailgate","gate":"north"}' % SENT).encode(),
]
HASHES = [FIRST] + chain(FIRST, EVENTS)


def batch(from_, to, events=None, **change):
    events = EVENTS[from_ - 1:to] if events is None else events
    header = {
        "version": 1, "scope": SCOPE, "terminal": TERMINAL, "incarnation": INCARNATION.hex(), "agent": AGENT, "sent": SENT,
        "last": len(EVENTS), "pruned": 0, "first": from_, "prev": HASHES[from_ - 1].hex(), "sizes": [len(e) for e in events],
    }
    header.update(change)
    line = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return line + b"\n" + b"".join(e + b"\n" for e in events)

def good(name, data, first, hashes):
    return {"name": name, "data": base64.b64encode(data).decode(), "first": first, "hashes": [h.hex() for h in hashes]}

def bad(name, error, data):
    return {"name": name, "data": base64.b64encode(data).decode(), "error": error}

whole = batch(1, 4)
batches = [
    good("all events", whole, 1, HASHES[1:]),
    good("two in the middle, one of which is no line", batch(2, 3), 2, HASHES[2:4]),
    good("a question", batch(5, 4), 5, []),
    good("behind what retention deleted", batch(3, 4, pruned=2), 3, HASHES[3:]),
    good("one whose bytes stay behind", batch(4, 3, omitted=HASHES[4].hex()), 4, HASHES[4:]),
    good("members of a later program", batch(1, 1, later=True), 1, HASHES[1:2]),
    bad("a later version", "version", batch(1, 4, version=2)),
    bad("no version", "version", whole.replace(b'"version":1,', b"")),
    bad("no header", "malformed", b"\n"),
    bad("a header that does not end", "malformed", whole.split(b"\n")[0]),
    bad("a byte less", "malformed", whole[:-1]),
    bad("a byte more", "malformed", whole + b"\n"),
    bad("a size that is another", "malformed", batch(1, 2, sizes=[len(EVENTS[0]) - 1, len(EVENTS[1]) + 1])),
    bad("more events than the journal has", "malformed", batch(4, 4, last=3)),
    bad("a question about more than comes next", "malformed", batch(5, 4, last=3)),
    bad("event zero", "malformed", batch(1, 1, first=0)),
    bad("events that were deleted", "malformed", batch(2, 3, pruned=2)),
    bad("a beginning that is another journal's", "malformed", batch(1, 1, prev=HASHES[1].hex())),
    bad("a hash in capitals", "malformed", batch(2, 2, prev=HASHES[1].hex().upper())),
    bad("an incarnation that is too short", "malformed", batch(2, 2, incarnation="00")),
    bad("an instant of another form", "malformed", batch(1, 1, sent="2026-07-01T12:00:00Z")),
    bad("257 events", "malformed", batch(2, 2, [b""] * 257, last=1000)),
    bad("an omitted event beside another", "malformed", batch(4, 4, omitted=HASHES[4].hex())),
    bad("a scope of 65 bytes", "malformed", batch(1, 1, scope="a" * 65)),
]

def ack(through, **change):
    v = {0: 1, 1: TERMINAL, 2: SCOPE, 3: INCARNATION, 4: through, 5: HASHES[through], 6: SENT_MS + 1}
    v.update({int(k[1:]): x for k, x in change.items()})
    return v

def acked(name, payload, role=b"ack", error=None):
    v = {"name": name, "message": signed(cbor(payload), HUB, role).hex()}
    return {**v, "error": error} if error else {**v, "through": payload[4], "hash": payload[5].hex()}

acks = [
    acked("of everything", ack(4)),
    acked("of nothing", ack(0)),
    acked("for another role", ack(4), b"checkpoint", "signature"),
    acked("of a later version", ack(4, _0=2), error="form"),
    acked("of another scope", ack(4, _2="park"), error="scope"),
    acked("with a short hash", ack(4, _5=b"\0"), error="form"),
    acked("with a member too many", {**ack(4), 7: 0}, error="form"),
]

os.makedirs(OUT, exist_ok=True)
with open(OUT + "/vectors.json", "w", encoding="utf-8") as f:
    json.dump({
        "scope": SCOPE, "terminal": TERMINAL, "incarnation": INCARNATION.hex(), "agent": AGENT, "sent": SENT,
        "ack_key": spki(HUB).hex(), "batches": batches, "acks": acks,
        "refusal": '{"version":1,"code":"clone","message":"the hub holds 4 events of this journal, and event 3 is another one","seq":3,"retry":false}',
    }, f, ensure_ascii=False, indent=1)
    f.write("\n")
