"""What the generators of card exchanges share: the keys and files of testdata/cards, RSA and encodings.

Nothing here owes anything to the Go code. Needs nothing but Python 3.
"""
import base64, hashlib, json, os

CARDS = "testdata/cards"
JPKI, SURFACE = "D392F000260100000001", "D3921000310001010402"
SELECT_JPKI, SELECT_SURFACE = "00A4040C0A" + JPKI, "00A4040C0A" + SURFACE


# --- keys and files -------------------------------------------------------

def der(b, i=0):
    """The DER value at b[i:], and where the next one starts."""
    n, i = b[i + 1], i + 2
    if n & 0x80:
        k = n & 0x7F
        n, i = int.from_bytes(b[i:i + k], "big"), i + k
    return b[i:i + n], i + n

def rsa_key(pkcs8):
    body, _ = der(pkcs8)
    i = 0
    for _ in range(2):                      # version, algorithm
        _, i = der(body, i)
    inner, _ = der(der(body, i)[0])         # OCTET STRING { RSAPrivateKey }
    ints, i = [], 0
    while i < len(inner):
        v, i = der(inner, i)
        ints.append(int.from_bytes(v, "big"))
    return {"n": ints[1], "e": ints[2], "d": ints[3]}

def load(name):
    with open(os.path.join(CARDS, name)) as f:
        return json.load(f)

def app(image, aid):
    return next(a for a in image["applications"] if a["aid"] == aid)

def content(image, aid, file_id):
    return base64.b64decode(next(f for f in app(image, aid)["files"] if f["id"] == file_id)["content"])

def private(image, key_id):
    return rsa_key(base64.b64decode(next(k for k in app(image, JPKI)["keys"] if k["id"] == key_id)["private"]))

good = load("good.json")
authority = load("authority.json")
cert = content(good, JPKI, "000A")
auth_key = private(good, "0017")
signature_key = private(good, "001A")
card_key = rsa_key(base64.b64decode(app(good, SURFACE)["internal_key"]))
root_key = rsa_key(base64.b64decode(authority["terminal_root_key"]))
intermediate_key = rsa_key(base64.b64decode(authority["intermediate_key"]))
with open(os.path.join(CARDS, "terminal.pem")) as f:
    terminal_key = rsa_key(base64.b64decode("".join(l for l in f if not l.startswith("-"))))


# --- RSA and encodings ----------------------------------------------------

SHA256_PREFIX = bytes.fromhex("3031300D060960864801650304020105000420")
sha256 = lambda b: hashlib.sha256(b).digest()
digest_info = lambda d: SHA256_PREFIX + d

def raw(key, em):
    return pow(int.from_bytes(em, "big"), key["d"], key["n"]).to_bytes(256, "big")

def pkcs1(key, t):
    """RSASSA-PKCS1-v1_5 padding around t as it is (RFC 8017, 9.2)."""
    return raw(key, b"\0\1" + b"\xFF" * (253 - len(t)) + b"\0" + t)

def pss(key, digest, salt):
    """RSASSA-PSS, SHA-256 and MGF1-SHA-256 (RFC 8017, 9.1.1), 2048 bits."""
    h = sha256(b"\0" * 8 + digest + salt)
    db = b"\0" * (255 - len(salt) - 32 - 1) + b"\1" + salt
    db = db[-223:]
    mask = b"".join(sha256(h + i.to_bytes(4, "big")) for i in range(7))[:223]
    masked = bytes(a ^ b for a, b in zip(db, mask))
    return raw(key, bytes([masked[0] & 0x7F]) + masked[1:] + h + b"\xBC")

def key_id(name, number):
    return name.encode() + b"\x08\x05" + number.encode() + b"\0" * 4

def public_key(key):
    return bytes.fromhex("9003010001" "91820100") + key["n"].to_bytes(256, "big")

def cv_body(issuer, subject, key):
    return issuer + subject + public_key(key)

ROOT, INTERMEDIATE, TERMINAL = key_id("6000090", "001"), key_id("6000091", "001"), key_id("6000092", "001")

# The terminal's chain, bodies and signatures.
intermediate = cv_body(ROOT, INTERMEDIATE, intermediate_key)
intermediate_sig = pkcs1(root_key, digest_info(sha256(intermediate)))
terminal = cv_body(INTERMEDIATE, TERMINAL, terminal_key)
terminal_sig = pkcs1(intermediate_key, digest_info(sha256(terminal)))

def put_body(body):        # 80 A2 06 C1, Lc 0133
    return "80A206C1" "000133" "7F21820233" "5F4E820129" + body.hex()

def put_signature(sig):    # 80 A2 00 C1, Lc 0105
    return "80A200C1" "000105" "5F37820100" + sig.hex()
