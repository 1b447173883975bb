"""What the generators of card exchanges share: the keys and files of testdata/cards, RSA and encodings.

Nothing here owes anything to the Go code. Needs nothing but Python 3.
"""
import base64, hashlib, hmac, json, os

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

def ec_key(pkcs8):
    """The private scalar of a P-384 key."""
    body, _ = der(pkcs8)
    i = 0
    for _ in range(2):                      # version, algorithm
        _, i = der(body, i)
    inner, _ = der(der(body, i)[0])         # OCTET STRING { ECPrivateKey }
    _, i = der(inner)                       # version
    return int.from_bytes(der(inner, i)[0], "big")

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


# --- ECDSA on P-384 (FIPS 186-5, SEC 1) with the nonce of RFC 6979 --------

P = 2**384 - 2**128 - 2**96 + 2**32 - 1
N = int("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16)
G = (int("AA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7", 16),
     int("3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F", 16))

def point_add(a, b):
    """Affine addition on y^2 = x^3 - 3x + b; None is the point at infinity."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        m = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) % P
    else:
        m = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (m * m - a[0] - b[0]) % P
    return x, (m * (a[0] - x) - a[1]) % P

def point_mul(k, a):
    r = None
    while k:
        if k & 1:
            r = point_add(r, a)
        a, k = point_add(a, a), k >> 1
    return r

sha384 = lambda b: hashlib.sha384(b).digest()

def der_integer(n):
    b = n.to_bytes(n.bit_length() // 8 + 1, "big")
    return bytes([2, len(b)]) + b

def ecdsa(d, digest):
    """Ecdsa-Sig-Value over a SHA-384 digest; the nonce is that of RFC 6979, 3.2."""
    assert len(digest) == 48
    mac = lambda k, m: hmac.new(k, m, hashlib.sha384).digest()
    h = (int.from_bytes(digest, "big") % N).to_bytes(48, "big")
    x, k, v = d.to_bytes(48, "big"), b"\0" * 48, b"\1" * 48
    for c in (b"\0", b"\1"):
        k = mac(k, v + c + x + h)
        v = mac(k, v)
    while True:
        v = mac(k, v)
        nonce = int.from_bytes(v, "big")
        if 0 < nonce < N:
            r = point_mul(nonce, G)[0] % N
            s = pow(nonce, -1, N) * (int.from_bytes(digest, "big") + r * d) % N
            if r and s:
                body = der_integer(r) + der_integer(s)
                return bytes([0x30, len(body)]) + body
        k = mac(k, v + b"\0")
        v = mac(k, v)


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
