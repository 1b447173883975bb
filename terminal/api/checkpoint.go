package api

import "net/http"

// Signed is a checkpoint of the journal, as docs/journal.md has it.
type Signed struct {
	Checkpoint []byte `json:"checkpoint"` // base64
}

func (s *server) checkpoint(r *http.Request) (any, error) {
	var nothing struct{}
	if err := decode(r, &nothing); err != nil {
		return nil, err
	}
	if s.Checkpoint == nil {
		return nil, &Problem{kind: noCheckpointKey, Detail: "the agent has no key to sign with: set checkpoint.key and restart it"}
	}
	msg, err := s.Checkpoint(r.Context())
	return Signed{msg}, err
}
