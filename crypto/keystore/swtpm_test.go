package keystore

import (
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	softtpm "github.com/gate-agent/gate-agent/internal/swtpm"
)

// An swtpm is a TPM that is spoken to without this package as well.
type swtpm struct{ *softtpm.TPM }

func newTPM(t testing.TB) swtpm { return swtpm{softtpm.New(t)} }

// stop shuts it down as an operating system does.
func (s swtpm) stop(t testing.TB) {
	t.Helper()
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(s.raw(t)); err != nil {
		t.Fatal(err)
	}
	s.PowerOff(t)
}

// raw speaks to the TPM without this package.
func (s swtpm) raw(t testing.TB) transport.TPM {
	t.Helper()
	c, err := linuxudstpm.Open(s.Device())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// persist makes an object of a template below the owner's storage key, with an auth
// value, and keeps it at a handle.
func (s swtpm) persist(t testing.TB, area tpm2.TPMTPublic, auth string, h tpm2.TPMHandle) {
	t.Helper()
	c := s.raw(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	srk, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(c)
	must(err)
	parent := tpm2.NamedHandle{Handle: srk.ObjectHandle, Name: srk.Name}
	made, err := tpm2.Create{
		ParentHandle: parent,
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(auth)}, Data: noData()}},
		InPublic:     tpm2.New2B(area),
	}.Execute(c)
	must(err)
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: made.OutPrivate, InPublic: made.OutPublic}.Execute(c)
	must(err)
	_, err = tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, PersistentHandle: h,
		ObjectHandle: tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name},
	}.Execute(c)
	must(err)
	for _, h := range []tpm2.TPMHandle{loaded.ObjectHandle, srk.ObjectHandle} {
		_, err := tpm2.FlushContext{FlushHandle: h}.Execute(c)
		must(err)
	}
}

// loaded counts what is loaded and would be in somebody's way.
func (s swtpm) loaded(t testing.TB) (n int) {
	t.Helper()
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} { // objects, sessions
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 8}.Execute(s.raw(t))
		if err != nil {
			t.Fatal(err)
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		n += len(list.Handle)
	}
	return n
}
