package keystore

import (
	"fmt"
	"os"
	"path"
	"strings"
)

// A Custody says what somebody needs to use a key elsewhere.
type Custody struct {
	// Medium is the scheme of the URI.
	Medium string

	// DiskOpens says that a copy of this machine's disk is enough.
	DiskOpens bool

	// Keeps is the medium's promise that a private key which it made never comes
	// out of it. Key.Exportable tries it.
	Keeps bool

	// Text is a sentence for people, which begins with the medium.
	Text string
}

// CustodyOf tells it of the key at uri, from the URI and the file system alone:
// the medium need not be there.
func CustodyOf(uri string) (Custody, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return Custody{}, err
	}
	c := Custody{Medium: u.scheme, Keeps: u.scheme != "sealed"}
	switch u.scheme {
	case "sealed":
		file, err := secretPath(u.Get("key-source"))
		if err != nil {
			return Custody{}, err
		}
		inMemory, err := onMemoryFS(file)
		if err != nil {
			return Custody{}, fmt.Errorf("looking where the key source of %s lies: %w", u, err)
		}
		if c.DiskOpens = !inMemory; c.DiskOpens {
			c.Text = "sealed: key source on disk; a copied disk opens it"
		} else {
			c.Text = "sealed: key source in memory; a copied disk opens it only together with whatever puts the key source there"
		}
	case "pkcs11":
		if strings.HasPrefix(path.Base(u.Get("module-path")), "libsofthsm") {
			c.DiskOpens = true
			c.Text = "pkcs11: SoftHSM keeps its tokens in files; a copied disk opens them together with the PIN"
		} else {
			c.Text = "pkcs11: in the token; a copied disk does not open it"
		}
	case "scard":
		c.Text = "scard: in the card; a copied disk does not open it"
	case "tpm":
		if fi, err := os.Stat(u.Get("device")); err == nil && fi.Mode()&os.ModeSocket != 0 {
			c.DiskOpens = true
			c.Text = "tpm: an emulator, which keeps its state in files; a copied disk opens it if they are on it"
			break
		}
		c.Text = "tpm: in this machine's TPM; a copied disk does not open it, this machine does"
	}
	return c, nil
}

// A File holds a key or what opens it.
type File struct {
	Path      string
	Forbidden os.FileMode // bits that its mode must not have: it is refused otherwise
}

// Files are those of a key: of a sealed key the sealed file and its key source, and
// of every medium the pin-source. They need not exist.
func (u URI) Files() (files []File, err error) {
	for _, name := range []string{"path", "key-source", "pin-source"} {
		if u.Get(name) == "" {
			continue
		}
		file, err := secretPath(u.Get(name))
		if err != nil {
			return nil, err
		}
		files = append(files, File{file, forbidden(file)})
	}
	return files, nil
}
