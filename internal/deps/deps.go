// Package deps keeps in go.mod what only tests that are about to land use.
package deps

import _ "github.com/rogpeppe/go-internal/testscript"
