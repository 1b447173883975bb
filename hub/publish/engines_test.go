package publish

import (
	"testing"

	"github.com/gate-agent/gate-agent/internal/postgres"
)

var server postgres.Server

func TestMain(m *testing.M) { server.Main(m) }

func TestBothEnginesGiveTheSameBytes(t *testing.T) {
	a, b := newHub(t, "", 1), newHub(t, server.Database(t), 1)
	a.play()
	b.play()
	same(t, a, b)
}
