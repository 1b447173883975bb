#!/usr/bin/env python3
"""Writes testdata/vectors/claims/logs.json: logs of claims and what they come to.

Keys, records and the rules of a history are spelled out from docs/claims.md; it shares
no code with the program. Needs nothing but Python 3. Run it from the top of the
repository.
"""
import hashlib, json, os

OUT = "testdata/vectors/claims"
SCOPE = "demo-hall"
NORTH = {"terminal": "north", "incarnation": bytes(range(16)).hex()}
SOUTH = {"terminal": "南口", "incarnation": bytes(range(16, 32)).hex()}


def token(entitlement):
    return hashlib.sha256(b"\0".join([b"gate-agent claim v1", SCOPE.encode(), entitlement.encode()])).hexdigest()[:32]

def record(kind, entitlement, writer, id, **rest):
    r = {"version": 1, "kind": kind, "entitlement": entitlement, **writer, "id": id}
    for name in ("gate", "zone"):
        if kind != "settle":
            r[name] = {"gate": writer["terminal"], "zone": "hall"}[name]
    r["at"] = rest.pop("at", "2026-04-01T12:00:00.25Z")
    order = ("people", "reentry", "late", "doubt", "of", "reservation")
    assert set(rest) <= set(order)
    r.update((name, rest[name]) for name in order if rest.get(name))
    return json.dumps(r, separators=(",", ":"), ensure_ascii=False)

def readable(text, entitlement):
    try:
        r = json.loads(text)
    except ValueError:
        return None
    ok = isinstance(r, dict) and r.get("version") == 1 and r.get("kind") in ("entry", "exit", "settle") and r.get("entitlement") == entitlement
    return r if ok else None

def history(numbers, entitlement):
    """numbers: number -> text."""
    passages, unsure, last = {}, [], max(numbers, default=0)
    free = next(n for n in range(1, last + 2) if n not in numbers)
    for n in range(1, last + 1):
        r = readable(numbers[n], entitlement) if n in numbers else None
        if r is None:
            unsure.append(n)
        elif r["kind"] != "settle":
            passages[n] = {"n": n, "exit": r["kind"] == "exit", "terminal": r["terminal"], "people": r["people"], "reentry": r.get("reentry", 0), "of": r}
        else:
            p = passages.get(r["of"])
            if p is None or any(p["of"][m] != r[m] for m in ("terminal", "incarnation", "id")):
                continue
            all = p["of"]["people"]
            p["people"] = min(r.get("people", 0), all)
            if r.get("doubt"):
                p["people"] = 0 if p["exit"] else all
            p["reentry"] = min(p["of"].get("reentry", 0), p["people"])
    standing = [{k: v for k, v in p.items() if k != "of"} for p in passages.values() if p["people"] > 0]
    return {"passages": standing, "next": free, "unsure": unsure}

def logs():
    e = "ticket-1"
    yield "out by another gate and back", e, dict(enumerate([
        record("entry", e, NORTH, "K7Q", people=1),
        record("settle", e, NORTH, "K7Q", people=1, of=1, reservation=4),
        record("exit", e, SOUTH, "r9", people=1, late=True, reservation=9),
        record("settle", e, SOUTH, "r9", people=1, of=3, reservation=9),
        record("entry", e, NORTH, "M2X", people=1, reentry=1),
    ], 1))
    e = "家族券 4"
    yield "fewer came, then staff took it back", e, dict(enumerate([
        record("entry", e, NORTH, "A", people=4, reentry=2),
        record("settle", e, NORTH, "A", people=1, of=1, reservation=2),
        record("entry", e, SOUTH, "B", people=3),
        record("settle", e, NORTH, "A", of=1, reservation=2),
        record("settle", e, SOUTH, "B", doubt=True, people=1, of=3, reservation=7),
    ], 1))
    e = "ticket-2"
    yield "what cannot be relied on", e, {
        1: record("entry", e, NORTH, "A", people=1),
        2: record("settle", e, SOUTH, "A", of=1),
        4: record("entry", "ticket-3", NORTH, "B", people=1),
        5: record("entry", e, NORTH, "B", people=1).replace('"version":1', '"version":2'),
        6: record("entry", e, SOUTH, "C", people=1, late=True, reservation=3),
        7: "{",
    }
    yield "nothing", "ticket-4", {}


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "logs.json"), "w") as f:
        json.dump({"scope": SCOPE, "logs": [
            {"name": name, "entitlement": e, "records": [{"key": f"{token(e)}.{n}", "value": v} for n, v in numbers.items()], **history(numbers, e)}
            for name, e, numbers in logs()
        ]}, f, ensure_ascii=False, indent=1)
        f.write("\n")
