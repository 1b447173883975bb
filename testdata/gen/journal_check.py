#!/usr/bin/env python3
"""Recomputes chain.json and chain-v1.json from the words of docs/journal.md.

It shares no code with the program and needs only Python's own library. The
signature of the checkpoint is Ed25519 and is left to the tests of crypto/sign1;
what it signs is checked here.
"""
import base64
import datetime
import hashlib
import json
import pathlib


def head(major, n):
    """The head of an item in its shortest form (RFC 8949 section 4.2.1)."""
    if n < 24:
        return bytes([major << 5 | n])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << 8 * size:
            return bytes([major << 5 | info]) + n.to_bytes(size, "big")
    raise ValueError(n)


def cbor(v):
    if isinstance(v, int):
        return head(0, v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    if isinstance(v, list):
        return head(4, len(v)) + b"".join(map(cbor, v))
    return head(5, len(v)) + b"".join(cbor(k) + cbor(v[k]) for k in sorted(v))


def millis(at):
    t = datetime.datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
    return round(t.timestamp() * 1000)


def carried(events, through, cutoff):
    """What outlives the events up to one, folded from the table of kinds."""
    rows, refused = {}, set()
    for e in events[:through]:
        if e.get("birth_date_refused") and "card_id" in e:
            refused.add(e["card_id"])
        if e["kind"] == "reserve":
            until = millis(e["until"]) if "until" in e else 0
            people = e.get("people", 1)
            rows[e["seq"]] = [e["seq"], e.get("entitlement", ""), e.get("zone", ""), int(e.get("direction") == "exit"),
                              millis(e["at"]), until, 1, people, min(e.get("reentry", 0), people), 0, e["seq"]]
        if "reservation" not in e:
            continue
        row = rows[e["reservation"]]
        row[10] = e["seq"]
        if e["kind"] == "passed":
            row[9] = e["people"]
        elif e["kind"] == "commit":
            row[6], row[7] = 2, e.get("people", row[7])
            row[8], row[9] = min(row[8], row[7]), row[7]
        elif e["kind"] == "annul":
            row[6] = 3
        elif e["kind"] == "doubt":
            row[6] = 4
    ends = {}
    for row in rows.values():
        ends[row[1]] = max(ends.get(row[1], 0), row[5])
    over = {name for name, until in ends.items() if name == "" or 0 < until < cutoff}
    return [cbor(r) for s, r in sorted(rows.items()) if r[1] not in over] + [cbor(c) for c in sorted(refused)]


def check(path):
    vector = json.loads(path.read_text())
    incarnation = bytes.fromhex(vector["incarnation"])
    hashes = [hashlib.sha256(b"gate-agent journal start v1\0" + incarnation).digest()]
    assert hashes[0].hex() == vector["first_previous"]
    events = []
    for i, e in enumerate(vector["events"], 1):
        hashes.append(hashlib.sha256(b"gate-agent journal event v1\0" + hashes[-1] + e["bytes"].encode()).digest())
        assert hashes[i].hex() == e["hash"], f"hash of event {i}"
        events.append(json.loads(e["bytes"]))
        assert events[-1]["seq"] == i

        if events[-1]["kind"] == "checkpoint":
            c = events[-1]
            payload = cbor({0: 1, 1: c["terminal"], 2: c["scope"], 3: incarnation, 4: i - 1, 5: hashes[i - 1], 6: millis(c["at"])})
            message = base64.b64decode(c["checkpoint"])
            assert message[0] == 0xD2 and b"\xa0" + cbor(payload) + b"\x58\x40" in message, f"checkpoint of event {i}"
        if events[-1]["kind"] == "prune":
            p = events[-1]
            assert p["through_hash"] == hashes[p["through"]].hex() and p["deleted"] == p["through"]
            assert all(millis(e["at"]) < millis(p["cutoff"]) for e in events[:p["through"]])
            items = carried(events, p["through"], millis(p["cutoff"]))
            assert [item.hex() for item in items] == vector["carried"], items
            digest = hashlib.sha256(b"gate-agent journal carried v1\0" + incarnation + b"".join(items))
            assert p["carried_sha256"] == digest.hexdigest()
            assert p["carried"] == sum(item[0] >> 5 == 4 for item in items)
    print(path.name, len(events), "events")


for name in "chain.json", "chain-v1.json":
    check(pathlib.Path(__file__).parent.parent / "vectors" / "journal" / name)
