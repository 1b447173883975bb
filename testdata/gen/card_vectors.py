#!/usr/bin/env python3
"""Writes testdata/vectors/card: what a card must answer, by docs and not by our code.

The exchanges below are written by hand from what is known about the card. File
contents and keys come from testdata/cards; cardlib.py spells out the RSA arithmetic
and the encodings, so that they owe nothing to the Go code they check. Needs
nothing but Python 3. Run it from the top of the repository.
"""
import os, re, textwrap
from cardlib import *

OUT = "testdata/vectors/card"


# --- the vector files -----------------------------------------------------

class Vectors:
    def __init__(self, name, title, card="good.json"):
        self.path = os.path.join(OUT, name)
        self.lines = ["# " + l for l in textwrap.wrap(title, 90)] + ["card " + card]

    def note(self, text):
        self.lines += [""] + ["# " + l for l in textwrap.wrap(text, 90)]

    def line(self, text):
        self.lines.append(text)

    def hex(self, mark, b):
        b = b if isinstance(b, str) else b.hex()
        b = re.sub(r"\s", "", b).upper()
        bytes.fromhex(b)
        first, *more = textwrap.wrap(b, 96)
        self.lines.append(f"{mark} {first}")
        self.lines += ["  " + m for m in more]

    def __call__(self, command, answer, sw=""):
        """One exchange; answer is a status word, or data followed by sw."""
        self.hex(">", command)
        self.hex("<", (answer if isinstance(answer, str) else answer.hex()) + sw)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if not exc[0]:
            with open(self.path, "w") as f:
                f.write("\n".join(self.lines) + "\n")


os.makedirs(OUT, exist_ok=True)

with Vectors("select.txt", "SELECT. By DF name in full, and EF under the current DF with P1 = 02; nothing else works.") as v:
    v.note("The trap: P1 = 00 is refused on a cold card.")
    v("00A40000" "02" "000A", "6A86")
    v("00A4000C" "02" "3F00", "6A86")
    v.note("No EF before a DF; no unknown DF; no shortened DF name.")
    v("00A4020C" "02" "000A", "6A82")
    v("00A4040C" "07" "A0000000031010", "6A82")
    v("00A4040C" "09" + JPKI[:-2], "6A82")
    v.note("The JPKI application, its authentication certificate, an EF that is not there.")
    v(SELECT_JPKI, "9000")
    v("00A4020C" "02" "000A", "9000")
    v("00A4020C" "02" "0003", "6A82")
    v.note("A failed SELECT leaves 000A current. P1 = 00 now answers 9000 and has no effect either.")
    v("00B00000" "04", "3082062B", "9000")
    v("00A40000" "02" "0006", "9000")
    v("00B00000" "04", "3082062B", "9000")
    v.note("Other ways to select: by path, parent, child DF.")
    for p1 in ("01", "03", "08", "09"):
        v(f"00A4{p1}0C" "02" "0006", "6A86")
    v("00B00000" "04", "3082062B", "9000")
    v.note("The other application. SELECT DF leaves no EF current.")
    v(SELECT_SURFACE, "9000")
    v("00B00000" "04", "6986")
    v("00A4020C" "02" "000A", "6A82")
    v("00A4020C" "02" "0004", "9000")
    v("00B00000" "05", "7F21820233", "9000")
    v.note("Keys and PINs can be selected and never be read.")
    v(SELECT_JPKI, "9000")
    v("00A4020C" "02" "0017", "9000")
    v("00B00000" "00", "6981")
    v("00A4020C" "02" "0018", "9000")
    v("00B00000" "00", "6981")
    v("00B09A00" "00", "6981")

with Vectors("read.txt", "READ BINARY, with an offset and by short EF identifier.") as v:
    v.note("Nothing is selected.")
    v("00B00000" "00", "6986")
    v("00B08A00" "00", "6A82")
    v(SELECT_JPKI, "9000")
    v.note("Token information, 160 bytes: Le = 00 asks for as much as there is.")
    info = b"JPKIAPICCTOKEN2".ljust(32)
    v("00B08600" "20", info, "9000")
    v("00B00000" "07", info[:7], "9000")
    v("00B08600" "00", content(good, JPKI, "0006"), "9000")
    v("00B000A0" "00", "6B00")
    v.note("Which certificates the card carries.")
    v("00B08800" "03", "8F8F00", "9000")
    v("00B00003" "01", "6B00")
    v.note("The head of the certificate by short identifier, then the rest from the EF that this made current.")
    v("00B08A00" "04", "3082062B", "9000")
    v("00B08A00" "00", cert[:256], "9000")
    for offset in range(256, 1536, 256):
        v(f"00B0{offset:04X}" "00", cert[offset:offset + 256], "9000")
    v("00B00600" "2F", cert[1536:1583], "9000")
    v.note("By short identifier with an offset; in extended form; extended beyond 256 bytes.")
    v("00B08AF8" "08", cert[248:256], "9000")
    v("00B08A00" "000020", cert[:32], "9000")
    v("00B08A00" "00062F", cert[:1583], "9000")
    v.note("Offset past the end.")
    v("00B07FFF" "01", "6B00")
    v.note("Its CA certificate is free, the signature certificate is behind its password, that CA's is free.")
    v("00B08B00" "00", content(good, JPKI, "000B")[:256], "9000")
    v("00B08100" "00", "6982")
    v("00A4020C" "02" "0001", "9000")
    v("00B00000" "04", "6982")
    v("00B08200" "00", content(good, JPKI, "0002")[:256], "9000")
    v.note("A short identifier that no EF has; one with bits that mean nothing; no Le; data.")
    v("00B08F00" "00", "6A82")
    v("00B0AA00" "00", "6A86")
    v("00B00000", "6700")
    v("00B00000" "01" "00", "6700")
    v.note("The signature certificate after its password.")
    v("00200080", "6981")
    v("0020009B" "06" "414243313233", "9000")
    v("00B08100" "04", content(good, JPKI, "0001")[:4], "9000")

with Vectors("pin.txt", "VERIFY: values, tries, blocking; what ends a security status and what does not.") as v:
    sign = "802A0297" "20" + sha256(b"pin").hex() + "00"
    signed = pkcs1(auth_key, digest_info(sha256(b"pin")))
    v("00200098", "6A82")
    v(SELECT_JPKI, "9000")
    v("00200080", "6986")
    v(sign, "6982")
    v.note("Empty VERIFY tells the tries, by current EF and by short identifier, with and without Le.")
    v("00A4020C" "02" "0018", "9000")
    v("00200080", "63C3")
    v("00200098", "63C3")
    v("0020009800", "63C3")
    v("0020009B", "63C5")
    v.note("Wrong, wrong, right: the counter starts again, and 63C3 also when verified.")
    v("00200098" "04" "30303030", "63C2")
    v("00200098", "63C2")
    v("00A4020C" "02" "0018", "9000")
    v("00200080" "05" "3132333435", "63C1")
    v("00200080" "04" "31323334", "9000")
    v("00200080", "63C3")
    v(sign, signed, "9000")
    v.note("The session trap: the status survives SELECT DF and warm reset. Only power-down clears it.")
    v(SELECT_SURFACE, "9000")
    v(SELECT_JPKI, "9000")
    v(sign, signed, "9000")
    v.line("reset")
    v("00B08600" "04", "6A82")
    v(SELECT_JPKI, "9000")
    v(sign, signed, "9000")
    v.line("power")
    v(SELECT_JPKI, "9000")
    v(sign, "6982")
    v.note("Blocked: 6984 to any value, 63C0 to the question, and still after power-down.")
    for left in (2, 1, 0):
        v("00200098" "04" "39393939", f"63C{left}")
    v("00200098" "04" "31323334", "6984")
    v("00200098", "63C0")
    v.line("power")
    v(SELECT_JPKI, "9000")
    v("00200098" "04" "31323334", "6984")
    v("00200098", "63C0")
    v.note("The other PIN is not touched.")
    v("0020009B", "63C5")
    v.note("The card-surface application: ten tries each, and a wrong length counts as wrong.")
    v(SELECT_SURFACE, "9000")
    v("00200091", "63CA")
    v("00200092", "63CA")
    v("00200093", "63CA")
    v("00200091" "06" "303030303030", "63C9")
    v("00200091" "08" "3139393030343031", "63C8")
    v("00200091" "06" "303230343031", "9000")
    v("00200091", "63CA")
    v("00200093" "0C" "313233343536373839303132", "9000")
    v("00200092" "0E" "3032303430313230333130303031", "9000")
    v.note("P1 other than 00, and P2 that names no EF.")
    v("00200191", "6A86")
    v("00200000", "6A86")

with Vectors("tap-use.txt", "Method B. The registered-key path in four commands, then a first use.") as v:
    info = digest_info(sha256(b"gate-agent vector: tap use"))
    v.note("Select, head, select, sign with the card's own key: no PIN.")
    v(SELECT_JPKI, "9000")
    v("00B08A00" "00", cert[:256], "9000")
    v(SELECT_SURFACE, "9000")
    v("802A0000" "33" + info.hex() + "00", pkcs1(card_key, info), "9000")
    v.note("First use. The age record is behind the birth date, in the Japanese era: 1990-04-01 is Heisei 2.")
    v("00B08100" "00", "6982")
    v("00200091" "06" "303230343031", "9000")
    age = content(good, SURFACE, "0001")
    assert age[:16] == bytes.fromhex("FF1082021E" "DF1108") + b"19900401"
    v("00B08100" "00", age[:256], "9000")
    v("00B00100" "00", age[256:512], "9000")
    v("00B00200" "23", age[512:547], "9000")
    cvc = content(good, SURFACE, "0004")
    v("00B08400" "00", cvc[:256], "9000")
    v("00B00100" "00", cvc[256:512], "9000")
    v("00B00200" "38", cvc[512:568], "9000")
    v.note("The basic data is free.")
    v("00B08300" "04", content(good, SURFACE, "0003")[:4], "9000")
    v.note("In this application nothing else signs.")
    v("802A0297" "20" + sha256(b"x").hex() + "00", "6A86")
    v("802A0080" "33" + info.hex() + "00", "6A86")

challenge = bytes(range(0x20, 0x40))
response = pkcs1(terminal_key, digest_info(sha256(challenge)))
external = "00820080" "000100"
sign_digest = sha256(b"gate-agent vector: external authentication")
sign = "802A0297" "20" + sign_digest.hex() + "00"
signed = pkcs1(auth_key, digest_info(sign_digest))

def certify(v):
    v(put_body(intermediate), "9000")
    v(put_signature(intermediate_sig), "9000")
    v(put_body(terminal), "9000")
    v(put_signature(terminal_sig), "9000")

with Vectors("external-auth.txt", "Method A: the terminal authenticates itself, then the authentication key signs without a PIN.") as v:
    v.line("random " + challenge.hex().upper())
    v(SELECT_JPKI, "9000")
    v("00B08A00" "00", cert[:256], "9000")
    v.note("Not before the terminal is authenticated.")
    v(sign, "6982")
    v.note("The terminal CA, intermediate certificate, terminal certificate.")
    v("00A4020C" "02" "0016", "9000")
    certify(v)
    v.note("Challenge, answer, signature.")
    v("00840000" "20", challenge, "9000")
    v(external + response.hex(), "9000")
    v(sign, signed, "9000")
    v.note("The status survives SELECT DF and warm reset, not power-down. The challenge was used up.")
    v("00A4020C" "02" "0016", "9000")
    v(external + response.hex(), "6985")
    v(SELECT_JPKI, "9000")
    v(sign, signed, "9000")
    v.line("reset")
    v(SELECT_JPKI, "9000")
    v(sign, signed, "9000")
    v.line("power")
    v(SELECT_JPKI, "9000")
    v(sign, "6982")

flipped = bytes([intermediate_sig[0] ^ 1]) + intermediate_sig[1:]
third = cv_body(TERMINAL, key_id("6000093", "001"), intermediate_key)
with Vectors("external-auth-refused.txt", "Method A: what the card refuses.") as v:
    v.line("random " + (challenge * 8).hex().upper())
    v.note("EF 0016 must be current.")
    v(put_body(intermediate), "6985")
    v(SELECT_JPKI, "9000")
    v(put_body(intermediate), "6985")
    v("00A4020C" "02" "0017", "9000")
    v(put_body(intermediate), "6985")
    v("00A4020C" "02" "0016", "9000")
    v.note("A signature before a body; an unknown issuer; malformed bodies and signatures; other P1, P2.")
    v(put_signature(intermediate_sig), "6985")
    v(put_body(terminal), "6A88")
    v("80A206C1" "000133" "7F21820233" "5F4E820128" + intermediate.hex(), "6A80")
    v("80A206C1" "000132" "7F21820233" "5F4E820129" + intermediate[:-1].hex(), "6A80")
    v(put_body(intermediate), "9000")
    v("80A200C1" "000105" "5F37820101" + intermediate_sig.hex(), "6A80")
    v("80A206C0" "000133" "7F21820233" "5F4E820129" + intermediate.hex(), "6A86")
    v.note("A bad signature, and no second try for the same body.")
    v(put_body(intermediate), "9000")
    v(put_signature(flipped), "6988")
    v(put_signature(intermediate_sig), "6985")
    v.note("Without a certified terminal key: none, or the intermediate alone.")
    v("00840000" "20", challenge, "9000")
    v(external + response.hex(), "6985")
    v(put_body(intermediate), "9000")
    v(put_signature(intermediate_sig), "9000")
    v(external + response.hex(), "6985")
    v(put_body(terminal), "9000")
    v(put_signature(terminal_sig), "9000")
    v.note("Exactly two levels: a terminal certifies nobody.")
    v(put_body(third), "6A88")
    v.note("A bad answer, and no second try for the same challenge.")
    v(external + intermediate_sig.hex(), "6300")
    v(external + response.hex(), "6985")
    v(sign, "6982")
    v.note("Only a challenge of 32 bytes counts. Another EF ends nothing, but 0016 must be current again.")
    v("00840000" "10", challenge[:16], "9000")
    v(external + response.hex(), "6985")
    v("00840000" "10", challenge[16:], "9000")
    v("00840000" "20", challenge, "9000")
    v("00B08600" "04", b"JPKI", "9000")
    v(external + response.hex(), "6985")
    v("00A4020C" "02" "0016", "9000")
    v(external + response.hex(), "9000")
    v(sign, signed, "9000")
    v.line("power")
    v.note("SELECT DF ends challenge and certified keys; so does a reset.")
    v(SELECT_JPKI, "9000")
    v("00A4020C" "02" "0016", "9000")
    certify(v)
    v("00840000" "20", challenge, "9000")
    v(SELECT_JPKI, "9000")
    v("00A4020C" "02" "0016", "9000")
    v(external + response.hex(), "6985")
    v("00840000" "20", challenge, "9000")
    v(external + response.hex(), "6985")
    certify(v)
    v.line("reset")
    v(SELECT_JPKI, "9000")
    v("00A4020C" "02" "0016", "9000")
    v(put_body(terminal), "6A88")
    v("00840000" "20", challenge, "9000")
    v(external + response.hex(), "6985")
    v(sign, "6982")
    v.note("GET CHALLENGE refuses extended Le.")
    v("00840000" "000020", "6985")

with Vectors("sign.txt", "SIGN: every P1, by short identifier and by current EF.") as v:
    salt = bytes(range(32))
    v.line("random " + (salt + salt).hex().upper())
    d, m = sha256(b"message"), b"message"
    v("802A0297" "20" + d.hex() + "00", "6A82")
    v(SELECT_JPKI, "9000")
    v("802A0280" "20" + d.hex() + "00", "6986")
    v("802A0297" "20" + d.hex() + "00", "6982")
    v("00200098" "04" "31323334", "9000")
    v.note("The PIN is no key.")
    v("802A0280" "20" + d.hex() + "00", "6981")
    v.note("00: the data as given.")
    v("802A0097" "33" + digest_info(d).hex() + "00", pkcs1(auth_key, digest_info(d)), "9000")
    v("00A4020C" "02" "0017", "9000")
    v("802A0080" "33" + digest_info(d).hex() + "00", pkcs1(auth_key, digest_info(d)), "9000")
    v("802A0080" "03" "010203" "00", pkcs1(auth_key, b"\1\2\3"), "9000")
    v.note("01: a bare hash. 02: a digest. 03: the message.")
    v("802A0197" "20" + d.hex() + "00", pkcs1(auth_key, d), "9000")
    v("802A0297" "20" + d.hex() + "00", pkcs1(auth_key, digest_info(d)), "9000")
    v("802A0397" "07" + m.hex() + "00", pkcs1(auth_key, digest_info(d)), "9000")
    v.note("04: PSS of a digest. 05: PSS of a message. Salt of 32 bytes.")
    v("802A0497" "20" + d.hex() + "00", pss(auth_key, d, salt), "9000")
    v("802A0597" "07" + m.hex() + "00", pss(auth_key, d, salt), "9000")
    v.note("A longer message in extended form.")
    long = b"gate-agent " * 40
    v("802A0397" "0001B8" + long.hex() + "0100", pkcs1(auth_key, digest_info(sha256(long))), "9000")
    v.note("A digest of the wrong length; another P1.")
    v("802A0297" "1F" + d[:31].hex() + "00", "6700")
    v("802A0697" "20" + d.hex() + "00", "6A86")
    v.note("The signature key wants its own password.")
    v("802A029A" "20" + d.hex() + "00", "6982")
    v("0020009B" "06" "414243313233", "9000")
    v("802A029A" "20" + d.hex() + "00", pkcs1(signature_key, digest_info(d)), "9000")

with Vectors("foreign.txt", "Commands that are not this card's, and malformed ones: each a clean no, and no harm.") as v:
    v(SELECT_JPKI, "9000")
    v("00A4020C" "02" "000A", "9000")
    for c in ("80CA9F7F00", "00CA006E00", "90600000", "905A00000301000000", "A0A40000023F00", "B0B0000004", "00F2000000",
              "00D6000001FF", "80200098", "00C1000000", "002A9E9A00", "802000000401020304", "FFCA000000"):
        v(c, "6D00")
    v.note("GET RESPONSE with nothing to get.")
    v("00C0000000", "6985")
    v.note("Lengths that are no case of ISO/IEC 7816-3.")
    for c in ("00", "00B0", "00B000", "00A4040C0AD392", "00A4040C02000A0000", "00B000000000", "00A4020C000000000A",
              "00A4020C000002", "00A4020C00000200", "00A4020C000002000A00", "00A4020C000002000A000000"):
        v(c, "6700")
    v("00B00000" "04", "3082062B", "9000")

with Vectors("first-command.txt", "A card that answers 6F00 to the first command after power-up, without executing it.") as v:
    v.line("option first-command-fails")
    v(SELECT_JPKI, "6F00")
    v("00B08600" "04", "6A82")
    v(SELECT_JPKI, "9000")
    v.line("reset")
    v(SELECT_JPKI, "9000")
    v.line("power")
    v(SELECT_JPKI, "6F00")
    v(SELECT_JPKI, "9000")

info = info_internal = digest_info(sha256(b"gate-agent vector: 61xx"))
signature = pkcs1(card_key, info)
internal = "802A0000" "33" + info.hex() + "00"
with Vectors("get-response.txt", "A card that keeps the answer of a case 4 command for GET RESPONSE.") as v:
    v.line("option get-response")
    v(SELECT_SURFACE, "9000")
    v(internal, "6100")
    v("00C0000000", signature, "9000")
    v("00C0000000", "6985")
    v.note("In two bites; and lost with the next command.")
    v(internal, "6100")
    v("00C0000080", signature[:128], "6180")
    v("00C0000080", signature[128:], "9000")
    v(internal, "6100")
    v("00B08400" "02", "7F21", "9000")
    v("00C0000000", "6985")

with Vectors("response-parts.txt", "A card that answers in parts of 96 bytes: the first part comes with 61xx.") as v:
    v.line("option response-part 96")
    v(SELECT_SURFACE, "9000")
    v(internal, signature[:96], "61A0")
    v("00C00000A0", signature[96:192], "6140")
    v("00C0000040", signature[192:], "9000")

with Vectors("exact-le.txt", "A card that answers 6Cxx to a read for more than there is.") as v:
    v.line("option exact-le")
    v(SELECT_JPKI, "9000")
    v("00B08800" "00", "6C03")
    v("00B08800" "03", "8F8F00", "9000")
    v("00B08600" "00", "6CA0")
    v("00B00000" "A0", content(good, JPKI, "0006"), "9000")
    v("00B08A00" "00", cert[:256], "9000")

with Vectors("no-extended.txt", "A card without extended length: method A cannot be done with it.") as v:
    v.line("option no-extended-length")
    v(SELECT_JPKI, "9000")
    v("00B08A00" "000000", "6700")
    v("00B08A00" "00", cert[:256], "9000")
    v("00A4020C" "02" "0016", "9000")
    v(put_body(intermediate), "6700")

for phone, label in (("android", b"JPKIAPGPSETOKEN"), ("iphone", b"JPKIAPIOSTOKEN")):
    with Vectors(phone + ".txt", "A phone: the certificate is behind the PIN, there is no card-surface application.", phone + ".json") as v:
        c = content(load(phone + ".json"), JPKI, "000A")
        v(SELECT_JPKI, "9000")
        v("00B08600" "20", label.ljust(32), "9000")
        v("00B08A00" "00", "6982")
        v(SELECT_SURFACE, "6A82")
        v.note("Its PIN opens it.")
        v("00200098" "04" "31323334", "9000")
        v("00B08A00" "00", c[:256], "9000")

with Vectors("sim.txt", "A SIM: free certificate, method A, no card-surface application.", "sim.json") as v:
    sim = load("sim.json")
    v.line("random " + challenge.hex().upper())
    v(SELECT_SURFACE, "6A82")
    v(SELECT_JPKI, "9000")
    v("00B08A00" "00", content(sim, JPKI, "000A")[:256], "9000")
    v("00A4020C" "02" "0016", "9000")
    certify(v)
    v("00840000" "20", challenge, "9000")
    v(external + response.hex(), "9000")
    v(sign, pkcs1(private(sim, "0017"), digest_info(sign_digest)), "9000")

with Vectors("juki.txt", "The resident registration card: a signature certificate, and nothing that a gate could use.", "juki.json") as v:
    v(SELECT_JPKI, "9000")
    v("00B08600" "20", b"JPKIAPICCTOKEN".ljust(32), "9000")
    v("00B08A00" "00", "6A82")
    v("00B08800" "03", "6A82")
    v("00A4020C" "02" "0016", "6A82")
    v("802A0297" "20" + sign_digest.hex() + "00", "6A82")
    v.note("The signature certificate is behind its password, of which an empty VERIFY tells the tries.")
    v("00B08100" "00", "6982")
    v("0020009B", "63C5")
    v(SELECT_SURFACE, "6A82")

for name, title in (("no-certificate", "there is no EF 000A"), ("empty-certificate", "EF 000A holds nothing but filler")):
    with Vectors(name + ".txt", "A card without an authentication certificate: " + title + ".", name + ".json") as v:
        v(SELECT_JPKI, "9000")
        v("00B08600" "20", b"JPKIAPICCTOKEN2".ljust(32), "9000")
        v.note("The directory says that the signature certificate alone is there.")
        v("00B08800" "03", "8F0000", "9000")
        v("00B08A00" "00", *(("6A82",) if name == "no-certificate" else (b"\xFF" * 256, "9000")))
        v("802A0297" "20" + sign_digest.hex() + "00", "6A82")
        v.note("The card itself still answers for its presence.")
        v(SELECT_SURFACE, "9000")
        key = rsa_key(base64.b64decode(app(load(name + ".json"), SURFACE)["internal_key"]))
        v(internal, pkcs1(key, info_internal), "9000")

with Vectors("blocked-pin.txt", "A card whose PIN and password are blocked: what needs neither goes on.", "blocked-pin.json") as v:
    blocked = load("blocked-pin.json")
    v.line("random " + challenge.hex().upper())
    v(SELECT_JPKI, "9000")
    v("00200098", "63C0")
    v("00200098" "04" "31323334", "6984")
    v("0020009B", "63C0")
    v("0020009B" "06" "414243313233", "6984")
    v("00B08A00" "00", content(blocked, JPKI, "000A")[:256], "9000")
    v(sign, "6982")
    v("00A4020C" "02" "0016", "9000")
    certify(v)
    v("00840000" "20", challenge, "9000")
    v(external + response.hex(), "9000")
    v(sign, pkcs1(private(blocked, "0017"), digest_info(sign_digest)), "9000")
    v(SELECT_SURFACE, "9000")
    v(internal, pkcs1(rsa_key(base64.b64decode(app(blocked, SURFACE)["internal_key"])), info_internal), "9000")

with Vectors("blocked-birth-date.txt", "A card whose birth date was guessed wrong ten times.", "blocked-birth-date.json") as v:
    blocked = load("blocked-birth-date.json")
    v(SELECT_SURFACE, "9000")
    v("00200091", "63C0")
    v("00200091" "06" "303230343031", "6984")
    v("00B08100" "00", "6982")
    v("00B08400" "02", "7F21", "9000")
    v(internal, pkcs1(rsa_key(base64.b64decode(app(blocked, SURFACE)["internal_key"])), info_internal), "9000")

with Vectors("next-generation.txt", "A draft of the next generation: the same applications, with ECDSA on P-384. All of it is modelled.", "next-generation.json") as v:
    draft = load("next-generation.json")
    d, m = sha384(b"message"), b"message"
    auth = ec_key(base64.b64decode(next(k for k in app(draft, JPKI)["keys"] if k["id"] == "0017")["private"]))
    own = ec_key(base64.b64decode(app(draft, SURFACE)["internal_key"]))
    v.line("random " + challenge.hex().upper())
    v(SELECT_JPKI, "9000")
    v("00B08600" "20", b"JPKIAPICCTOKEN3".ljust(32), "9000")
    v("00B08800" "03", "008F00", "9000")
    v("00B08A00" "00", content(draft, JPKI, "000A")[:256], "9000")
    v.note("The terminal authenticates itself as before, with RSA; the card answers with P-384.")
    v("802A0297" "30" + d.hex() + "00", "6982")
    v("00A4020C" "02" "0016", "9000")
    certify(v)
    v("00840000" "20", challenge, "9000")
    v(external + response.hex(), "9000")
    v("802A0297" "30" + d.hex() + "00", ecdsa(auth, d), "9000")
    v.note("01: a bare hash, which is the digest here. 03: the message.")
    v("802A0197" "30" + d.hex() + "00", ecdsa(auth, d), "9000")
    v("802A0397" "07" + m.hex() + "00", ecdsa(auth, d), "9000")
    v.note("A SHA-256 digest, half a digest, one that is too long; no digest at all.")
    for data in (sha256(m), d[:24], d + d[:16]):
        for p1 in ("01", "02"):
            v(f"802A{p1}97" + "%02X" % len(data) + data.hex() + "00", "6700")
    v("802A0297" "00", "6700")
    v.note("What only RSA has: a DigestInfo that is padded, PSS.")
    v("802A0097" "33" + digest_info(sha256(m)).hex() + "00", "6A86")
    v("802A0497" "30" + d.hex() + "00", "6A86")
    v("802A0597" "07" + m.hex() + "00", "6A86")
    v.note("The card's own key takes a hash, a digest or a message, and has no file beside it.")
    v(SELECT_SURFACE, "9000")
    v("802A0100" "30" + d.hex() + "00", ecdsa(own, d), "9000")
    v("802A0200" "30" + d.hex() + "00", ecdsa(own, d), "9000")
    v("802A0300" "07" + m.hex() + "00", ecdsa(own, d), "9000")
    v("802A0100" "20" + sha256(m).hex() + "00", "6700")
    v("802A0180" "30" + d.hex() + "00", "6A86")
    v(internal, "6A86")
    for sfi in ("81", "84"):
        v(f"00B0{sfi}00" "00", "6A82")
    v("00200091", "6A82")

for name, aid in (("emv", "A0000000031010"), ("licence", "A0000002310100000000000000000000"), ("passport", "A0000002471001")):
    with Vectors(name + ".txt", "A smart card with other applications: ours are not found, and nothing else happens.", name + ".json") as v:
        v(SELECT_JPKI, "6A82")
        v(SELECT_SURFACE, "6A82")
        v("00B08A00" "00", "6A82")
        v("802A0000" "01" "00" "00", "6A82")
        v(f"00A4040C{len(aid) // 2:02X}" + aid, "9000")
        v(SELECT_JPKI, "6A82")

for name, sw in (("foreign", "6E00"), ("felica", "6A81"), ("mifare-classic", "6300"), ("mifare-ultralight", "6D00")):
    with Vectors("answers-" + name + ".txt", "A medium that has one answer to everything, whatever it is sent.", name + ".json") as v:
        for c in (SELECT_JPKI, "00B08A00" "00", "00200098", "00C0000000", "80CA9F7F00", "00", "00B08A00" "000000"):
            v(c, sw)
        v.line("reset")
        v(SELECT_JPKI, sw)
        v.line("power")
        v(SELECT_JPKI, sw)
