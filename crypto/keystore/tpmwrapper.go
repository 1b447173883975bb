package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	tpmWrapVersion = 3
	tpmWrapLabel   = "gate-agent wrapped secret v3\x00"
	maxPrivate     = 512 // bytes of the private half of sealed data; swtpm makes 158
)

// A tpmWrapper seals each secret under a key of its own, which the storage key of
// the TPM seals in turn.
type tpmWrapper struct {
	devices *tpmDevices
	device  string
	parent  *tpmObject
	auth    *tpmAuth
}

func (m tpmMedium) openWrapper(ctx context.Context, u URI, pins *pinSource) (Wrapper, error) {
	w := &tpmWrapper{devices: m.devices, device: u.Get("device")}
	err := m.devices.use(ctx, w.device, func(c *tpmConn) (err error) {
		if w.parent, err = readObject(c, tpmHandle(u)); err != nil {
			return err
		}
		if err := w.parent.wrapper(); err != nil {
			return err
		}
		if w.auth, err = authOf(c, w.parent, u, pins); err != nil || !w.auth.doubtful() {
			return err
		}
		if _, err := w.seal(c, make([]byte, chacha20poly1305.KeySize)); err != nil {
			return err
		}
		return w.auth.accepted(c)
	})
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// wrapper checks that the object is a wrapping secret: a storage key of the form
// that generateWrapper makes.
func (o *tpmObject) wrapper() error {
	if !o.isStorageKey() || o.handle == srkHandle {
		return fmt.Errorf("%w: handle %08X holds a %s, want a storage key of ours", ErrWrongKeyType, uint32(o.handle), o.kind())
	}
	return nil
}

// sealedArea is the template of the key that a secret is sealed under: data that
// never leaves the TPM but for whoever may use its parent.
func sealedArea() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull}}),
		Unique:           tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: make([]byte, 32)}),
	}
}

// A tpmBlob is a wrapped secret. Lengths are of two bytes, the higher one first.
//
//	blob = 03 ‖ len ‖ public ‖ len ‖ private ‖ nonce (24) ‖ ciphertext ‖ tag (16)
//	associated data = "gate-agent wrapped secret v3" ‖ 00 ‖ label
//
// public is a TPMT_PUBLIC and private the content of a TPM2B_PRIVATE of sealed data
// (TPM 2.0 Library, part 2, §12.2.4 and §12.3.7) that holds the 32-byte key of the
// ciphertext. Of public only the last 32 bytes vary.
type tpmBlob struct {
	public, private []byte
	nonce, box      []byte
}

func (b tpmBlob) encode() []byte {
	out := []byte{tpmWrapVersion}
	out = append(binary.BigEndian.AppendUint16(out, uint16(len(b.public))), b.public...)
	out = append(binary.BigEndian.AppendUint16(out, uint16(len(b.private))), b.private...)
	return append(append(out, b.nonce...), b.box...)
}

// parseTPMBlob accepts exactly what encode writes: encoding what it returns gives
// the same bytes.
func parseTPMBlob(blob []byte) (b tpmBlob, err error) {
	take := func(n int) []byte {
		if n > len(blob) {
			err = ErrDamaged
			return nil
		}
		part := blob[:n:n]
		blob = blob[n:]
		return part
	}
	sized := func(most int) []byte {
		head := take(2)
		if err != nil {
			return nil
		}
		n := int(binary.BigEndian.Uint16(head))
		if n > most {
			err = ErrDamaged
			return nil
		}
		return take(n)
	}
	template := tpm2.Marshal(sealedArea())
	version := take(1)
	b.public = sized(len(template))
	b.private = sized(maxPrivate)
	b.nonce = take(chacha20poly1305.NonceSizeX)
	b.box = blob
	fixed := template[:len(template)-32]
	if n := len(blob) - chacha20poly1305.Overhead; err != nil || version[0] != tpmWrapVersion || n < 1 || n > maxSecret ||
		len(b.public) != len(template) || !bytes.HasPrefix(b.public, fixed) || len(b.private) == 0 {
		return tpmBlob{}, ErrDamaged
	}
	return b, nil
}

func (w *tpmWrapper) Wrap(secret []byte, label string) ([]byte, error) {
	if err := checkSecret(secret, label); err != nil {
		return nil, fmt.Errorf("wrapping a secret: %w", err)
	}
	key := make([]byte, chacha20poly1305.KeySize)
	defer clear(key)
	rand.Read(key)
	var b tpmBlob
	err := w.use(func(c *tpmConn) (err error) {
		b, err = w.seal(c, key)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("wrapping a secret: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("wrapping a secret: %w", err)
	}
	b.nonce = make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(b.nonce)
	b.box = aead.Seal(nil, b.nonce, secret, []byte(tpmWrapLabel+label))
	return b.encode(), nil
}

func (w *tpmWrapper) Unwrap(blob []byte, label string) ([]byte, error) {
	if err := checkLabel(label); err != nil {
		return nil, fmt.Errorf("unwrapping a secret: %w", err)
	}
	b, err := parseTPMBlob(blob)
	if err != nil {
		return nil, fmt.Errorf("unwrapping a secret: %w", err)
	}
	var key []byte
	err = w.use(func(c *tpmConn) (err error) {
		key, err = w.unseal(c, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("unwrapping the secret of %q: %w", label, err)
	}
	defer clear(key)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("unwrapping the secret of %q: %w", label, ErrDamaged)
	}
	secret, err := aead.Open(nil, b.nonce, b.box, []byte(tpmWrapLabel+label))
	if err != nil {
		return nil, fmt.Errorf("unwrapping the secret of %q: %w", label, ErrWrongSecret)
	}
	return secret, nil
}

// use runs f with the device: opened anew when it was lost, once it holds the same
// storage key.
func (w *tpmWrapper) use(f func(*tpmConn) error) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), openTimeout, errSlow)
	defer cancel()
	return make(turn, 1).use(ctx, func(ctx context.Context) error {
		return w.devices.use(ctx, w.device, func(c *tpmConn) error {
			if err := w.parent.unchanged(c); err != nil {
				return err
			}
			return f(c)
		})
	})
}

// seal makes sealed data of a key.
func (w *tpmWrapper) seal(c *tpmConn, key []byte) (tpmBlob, error) {
	area := sealedArea()
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{})
	rsp, err := tpm2.Create{
		ParentHandle: w.parent.with(authSession(w.parent, w.auth.value, encryptIn())),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: key}),
		}},
		InPublic: tpm2.New2B(area),
	}.Execute(c)
	if err != nil {
		return tpmBlob{}, w.auth.failed(c, "TPM2_Create", err)
	}
	return tpmBlob{public: rsp.OutPublic.Bytes(), private: rsp.OutPrivate.Buffer}, nil
}

// unseal gives the key back. The error is ErrWrongSecret when the storage key has
// not sealed it.
func (w *tpmWrapper) unseal(c *tpmConn, b tpmBlob) (key []byte, err error) {
	loaded, err := tpm2.Load{
		ParentHandle: w.parent.with(authSession(w.parent, w.auth.value)),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: b.private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](b.public),
	}.Execute(c)
	if rc, ok := errors.AsType[tpm2.TPMFmt1Error](err); ok {
		if of, _ := rc.Parameter(); of { // the blob is what it does not like
			return nil, ErrWrongSecret
		}
	}
	if err != nil {
		return nil, w.auth.failed(c, "TPM2_Load", err)
	}
	defer func() { err = errors.Join(err, c.flush(loaded.ObjectHandle)) }()
	o := &tpmObject{handle: loaded.ObjectHandle, name: loaded.Name}
	rsp, err := tpm2.Unseal{ItemHandle: o.with(authSession(w.parent, nil, encryptOut()))}.Execute(c)
	if err != nil {
		return nil, fmt.Errorf("TPM2_Unseal: %w", err)
	}
	return rsp.OutData.Buffer, nil
}

// Close forgets the auth value.
func (w *tpmWrapper) Close() error {
	if w.auth != nil {
		w.auth.forget()
	}
	return nil
}

// Format, as for Key: there is an auth value inside.
func (w *tpmWrapper) Format(f fmt.State, _ rune) { io.WriteString(f, "keystore: wrapping secret") }
