package main

import (
	"fmt"
	"os"

	"github.com/gate-agent/gate-agent/internal/wholefile"
)

// createDraft begins a new file that somebody named.
func createDraft(path string) (wholefile.Draft, error) {
	if _, err := os.Lstat(path); err == nil {
		return wholefile.Draft{}, fmt.Errorf("%s exists, and is not replaced: name another file", path)
	}
	return wholefile.Create(path)
}
