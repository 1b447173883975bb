package whitelist

import "fmt"

// HeadName is the name of a list's head, below the folder of its scope.
const HeadName = "manifest"

// Name is that of the snapshot's file, below the folder of its scope.
func (s Snapshot) Name() string { return fmt.Sprintf("snapshot/%x", s.SHA256) }

// Name is that of the delta's file, below the folder of its scope.
func (d Delta) Name() string { return fmt.Sprintf("delta/%d-%d/%x", d.From, d.To, d.SHA256) }
