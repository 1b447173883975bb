package publish

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Who waits for a long publication sees both of its halves count.
func TestLongPublicationCounts(t *testing.T) {
	h := newHub(t, "", 1)
	tickets := strings.Builder{}
	tickets.WriteString("id,order\n")
	for i := range 2*progressEvery + 1 {
		fmt.Fprintf(&tickets, "T-%d,A-%d\n", i, i)
	}
	_, err := h.Registry.ImportTickets(t.Context(), h.by(), scope, strings.NewReader(tickets.String()))
	h.do(err)
	var told []string
	h.Progress = func(doing Doing, rows uint64) { told = append(told, fmt.Sprint(rows, " ", doing)) }
	h.publish()
	if want := []string{"8192 sealed", "16384 sealed", "8192 written", "16384 written"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
