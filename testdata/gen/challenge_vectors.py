#!/usr/bin/env python3
"""Writes testdata/vectors/challenge: fields of a challenge and the digest that a card signs.

The encoding is spelled out from docs/protocol.md. Needs nothing but Python 3.
Run it from the top of the repository.
"""
import hashlib, json, os

OUT = "testdata/vectors/challenge/vectors.json"
LABEL = "gate-agent/challenge/v1"

def digest(scope, terminal, purpose, ticket, nonce):
    message = b""
    for field in (LABEL.encode(), scope.encode(), terminal.encode(), purpose.encode(), ticket.encode(), nonce):
        message += len(field).to_bytes(4, "big") + field
    return hashlib.sha256(message).digest()

def vector(comment, scope, terminal, purpose, ticket, nonce):
    return {"comment": comment, "scope": scope, "terminal": terminal, "purpose": purpose, "ticket": ticket,
            "nonce": nonce.hex(), "digest": digest(scope, terminal, purpose, ticket, nonce).hex()}

COUNT, ZERO = bytes(range(32)), bytes(32)
LONG = "x" * 300
VECTORS = [
    vector("the example of docs/protocol.md", "demo-hall", "gate-1-left", "gate", "", COUNT),
    vector("a kiosk, with a ticket reference", "demo-hall", "kiosk-2", "kiosk", "T-000123", COUNT),
    vector("another nonce", "demo-hall", "gate-1-left", "gate", "", ZERO),
    vector("nothing at all", "", "", "", "", ZERO),
    vector("fields do not run into each other", "ab", "c", "gate", "", COUNT),
    vector("as the one before, divided elsewhere", "a", "bc", "gate", "", COUNT),
    vector("a field that is longer than one byte can say", LONG, "gate-1-left", "gate", "", COUNT),
    vector("lengths are of UTF-8 bytes", "市民会館", "東口-1", "gate", "", COUNT),
]

if __name__ == "__main__":
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    with open(OUT, "w") as f:
        json.dump(VECTORS, f, indent=2, ensure_ascii=False)
        f.write("\n")
