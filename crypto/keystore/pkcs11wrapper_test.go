package keystore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"
)

func TestTokenWrapsSecrets(t *testing.T) {
	h := newHSM(t)
	uri := h.uri("object=wrap")
	if _, err := h.OpenWrapper(t.Context(), uri); !errors.Is(err, ErrNoKey) {
		t.Fatal(err)
	}
	if err := h.GenerateWrapper(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	if err := h.GenerateWrapper(t.Context(), uri); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	if _, err := h.OpenSigner(t.Context(), uri, ExternalAuth); !errors.Is(err, ErrNoKey) {
		t.Errorf("a wrapping secret signs: %v", err)
	}
	w, err := h.OpenWrapper(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	other := pkcs11.New(softHSM)
	for _, n := range []int{1, 32, maxSecret} {
		secret := bytes.Repeat([]byte{7}, n)
		blob, err := w.Wrap(secret, "scope a")
		if err != nil || len(blob) != 1+12+n+16 {
			t.Fatal(len(blob), err)
		}
		if got, err := w.Unwrap(blob, "scope a"); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%x, %v", got, err)
		}
		if _, err := w.Unwrap(blob, "scope b"); !errors.Is(err, ErrWrongSecret) {
			t.Errorf("another label: %v", err)
		}
		for i := range blob {
			if i > 20 && i < len(blob)-2 {
				continue
			}
			changed := bytes.Clone(blob)
			changed[i] ^= 1
			want := ErrWrongSecret
			if i == 0 {
				want = ErrDamaged
			}
			if _, err := w.Unwrap(changed, "scope a"); !errors.Is(err, want) {
				t.Errorf("byte %d changed: %v", i, err)
			}
		}
		if _, err := w.Unwrap(blob[:29], "scope a"); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut: %v", err)
		}
		if err := other.Finalize(); err != nil {
			t.Fatal(err)
		}
		if got, err := w.Unwrap(blob, "scope a"); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("the module was finalized: %x, %v", got, err)
		}
	}
	if _, err := w.Wrap(nil, "a"); err == nil {
		t.Error("wrapped nothing")
	}
	entries, err := h.List(t.Context(), uri)
	if err != nil || len(entries) != 1 || entries[0].Purpose != Wrap {
		t.Errorf("%+v, %v", entries, err)
	}
	if err := errors.Join(w.Close(), h.Destroy(t.Context(), uri, Wrap, nil)); err != nil {
		t.Error(err)
	}
	if _, err := w.Wrap([]byte{1}, "a"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := h.OpenWrapper(t.Context(), uri); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
}
