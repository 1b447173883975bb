// Package docs compares the documentation with the source, in its tests: what
// is listed must exist, and what exists must be listed.
package docs
