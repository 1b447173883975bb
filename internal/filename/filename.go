// Package filename names the files and folders that a hub publishes for a terminal
// or a scope. Names of terminals and scopes are for people and may have any
// character; a file's name goes through web servers, caches and sticks.
package filename

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

// Of is the name itself where it has only letters and digits of ASCII, hyphens,
// underscores and dots, and no dot at its beginning; else ~ and the first 16 bytes
// of its SHA-256 in hexadecimal. Different names have different files.
func Of(name string) string {
	if name != "" && name[0] != '.' && strings.Trim(name, plain) == "" {
		return name
	}
	digest := sha256.Sum256([]byte(name))
	return "~" + hex.EncodeToString(digest[:16])
}
