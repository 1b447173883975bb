// Package deps holds the pinned modules in go.mod until their users have landed.
package deps

import (
	_ "github.com/pelletier/go-toml/v2"
	_ "github.com/ebfe/scard"
	_ "github.com/fxamacker/cbor/v2"
	_ "github.com/mattn/go-sqlite3"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "github.com/veraison/go-cose"
	_ "golang.org/x/crypto/argon2"
	_ "golang.org/x/crypto/chacha20poly1305"
	_ "golang.org/x/sys/unix"
)
