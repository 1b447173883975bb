#!/usr/bin/env python3
"""Writes testdata/traces: whole sessions, command by command, by docs and not by our code.

The reader side must send exactly these commands, and the virtual card give exactly
these responses, so that the two cannot be wrong together. Needs nothing but
Python 3. Run it from the top of the repository.
"""
import base64, os, textwrap
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

# First use: the age record, made here from its parts, and the certificate of who signed it.
BORN, ERA = "19900401", "020401"  # Heisei 2
def object_(tag, value):
    return bytes.fromhex(tag) + (bytes([len(value)]) if len(value) < 128 else b"\x82" + len(value).to_bytes(2, "big")) + value
surface_ca_key, record_key = (rsa_key(base64.b64decode(authority[k])) for k in ("surface_ca_key", "record_key"))
signed = object_("DF11", BORN.encode()) + object_("DF12", public_key(card_key))
record = object_("FF10", signed + object_("DF13", pkcs1(record_key, digest_info(sha256(signed)))))
body = cv_body(key_id("6000023", "001"), key_id("6000101", "001"), record_key)
signer = object_("7F21", object_("5F4E", body) + object_("5F37", pkcs1(surface_ca_key, digest_info(sha256(body)))))
assert (len(record), len(signer)) == (547, 568)

def read(file_id, value, short):
    """READ BINARY of an EF by its short identifier: in one command, or by 256 bytes."""
    first = f"00B0{0x80 | file_id:02X}00"
    if not short:
        return [(first + f"00{len(value):04X}", value.hex() + "9000")]
    return [((first if at == 0 else f"00B0{at:04X}") + f"{min(256, len(value) - at) & 0xFF:02X}", value[at:at + 256].hex() + "9000")
            for at in range(0, len(value), 256)]

def first_use(rest, short):
    return (select + READ_HEAD + rest + [(SELECT_SURFACE, "9000")] + read(0x04, signer, short)
            + [("00200091", "63CA"), ("00200091" "06" + ERA.encode().hex(), "9000")] + read(0x01, record, short)
            + [("802A0000" "33" + digest_info(DIGEST).hex() + "00", pkcs1(card_key, digest_info(DIGEST)).hex() + "9000")])

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
write("first-use.txt", "First use of method B: certificate, signer's certificate and age record, each rest in one read of extended length.", "tap-use",
      first_use([("00B00100" "00" + REST, cert[256:].hex() + "9000")], short=False),
      f"birth date: {BORN}\ncheck: certificate")
write("first-use-short-reads.txt", "First use of method B, where READ BINARY is refused in extended length: everything comes by 256 bytes.", "tap-use",
      first_use([("00B00100" "00" + REST, "6700")] + SHORT_READS, short=True),
      f"birth date: {BORN}\ncheck: certificate\nrefuses: READ BINARY in extended length")
