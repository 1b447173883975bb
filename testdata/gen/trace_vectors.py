#!/usr/bin/env python3
"""Writes testdata/traces: whole sessions, command by command, by docs and not by our code.

The reader side must send exactly these commands, and the virtual card give exactly
these responses, so that the two cannot be wrong together. Needs nothing but
Python 3. Run it from the top of the repository.
"""
import os, textwrap
from cardlib import *
from challenge_vectors import digest

OUT = "testdata/traces"
SCOPE, TERMINAL_NAME, NONCE = "demo-hall", "gate-1-left", bytes(range(32))
DIGEST = digest(SCOPE, TERMINAL_NAME, "gate", "", NONCE)
RANDOM = bytes(range(0x40, 0x60))  # what the card's generator yields

READ_HEAD = [("00B08A00" "00", cert[:256].hex() + "9000")]
TERMINAL_AUTHENTICATES = [
    ("00A4020C" "02" "0016", "9000"),
    (put_body(intermediate), "9000"), (put_signature(intermediate_sig), "9000"),
    (put_body(terminal), "9000"), (put_signature(terminal_sig), "9000"),
    ("00840000" "20", RANDOM.hex() + "9000"),
    ("00820080" "000100" + pkcs1(terminal_key, digest_info(sha256(RANDOM))).hex(), "9000"),
]
CARD_SIGNS = [("802A0297" "20" + DIGEST.hex() + "00", pkcs1(auth_key, digest_info(DIGEST)).hex() + "9000")]
REST = f"{len(cert) - 256:04X}"
SHORT_READS = [(f"00B0{at:04X}{min(256, len(cert) - at) & 0xFF:02X}", cert[at:at + 256].hex() + "9000")
               for at in range(256, len(cert), 256)]

def write(name, title, method, pairs, header=""):
    lines = ["# " + l for l in textwrap.wrap(title, 90)]
    lines += ["#", "# image: good.json", f"# method: {method}", f"# scope: {SCOPE}", f"# terminal: {TERMINAL_NAME}",
              f"# nonce: {NONCE.hex()}", f"# digest: {DIGEST.hex()}"]
    lines += ["# " + l for l in header.splitlines()] + [""]
    for command, response in pairs:
        lines += ["> " + command.upper(), "< " + response.upper()]
    with open(os.path.join(OUT, name), "w") as f:
        f.write("\n".join(lines) + "\n")

# What is read of 000A is the certificate alone: the file's filler is asked for only by Le = 00.
assert int.from_bytes(cert[2:4], "big") + 4 == len(cert)

os.makedirs(OUT, exist_ok=True)
select = [(SELECT_JPKI, "9000")]
write("tap-use.txt", "Method B with a registered card key: four commands.", "tap-use",
      select + READ_HEAD + [
          (SELECT_SURFACE, "9000"),
          ("802A0000" "33" + digest_info(DIGEST).hex() + "00", pkcs1(card_key, digest_info(DIGEST)).hex() + "9000")])
write("external-auth.txt", "Method A with a registered authentication key: ten commands.", "external-auth",
      select + READ_HEAD + TERMINAL_AUTHENTICATES + CARD_SIGNS,
      f"random: {RANDOM.hex()}")
write("external-auth-chain.txt", "Method A without a registered key: the rest of the certificate comes in one read of extended length.",
      "external-auth",
      select + READ_HEAD + [("00B00100" "00" + REST, cert[256:].hex() + "9000")] + TERMINAL_AUTHENTICATES + CARD_SIGNS,
      f"random: {RANDOM.hex()}\ncheck: certificate")
write("external-auth-short-reads.txt",
      "Method A without a registered key, where READ BINARY is refused in extended length: the rest comes by 256 bytes.",
      "external-auth",
      select + READ_HEAD + [("00B00100" "00" + REST, "6700")] + SHORT_READS + TERMINAL_AUTHENTICATES + CARD_SIGNS,
      f"random: {RANDOM.hex()}\ncheck: certificate\nrefuses: READ BINARY in extended length")
