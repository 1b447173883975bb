package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/whitelist"
)

// Who was erased does not come back with the file that named them.
func TestErasedHolderStaysErased(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		const file = "id,holder,order,message,attention\nT-1,member-1,A-1,,\nT-2,member-1,,,\n"
		imported(t, r, file)
		other, err := r.AddHolder(t.Context(), by(""), hall, "member-2")
		must(t, err)
		must(t, r.Transfer(t.Context(), by("sold"), hall, "T-2", other))
		holder, err := r.Holder(t.Context(), hall, "member-1")
		must(t, err)
		if !strings.Contains(tables(t, r), "member-1") {
			t.Fatal("the test does not see references")
		}
		must(t, r.EraseHolder(t.Context(), by("asked"), hall, holder))
		if strings.Contains(tables(t, r), "member-1") {
			t.Error("the reference is still there")
		}
		if got := imported(t, r, file); got.Unchanged != 2 {
			t.Errorf("%+v", got)
		}
		_, err = r.Holder(t.Context(), hall, "member-1")
		refused(t, "the reference", err, ErrNotFound)
		if got, err := r.Ticket(t.Context(), hall, "T-2"); err != nil || got.Holder != other {
			t.Errorf("the ticket that was sold before: %+v, %v", got, err)
		}
	})
}

// problems imports a file that is wrong and returns what is said of it.
func problems(t testing.TB, r *Registry, file string) []string {
	t.Helper()
	_, err := r.ImportTickets(t.Context(), by(""), hall, strings.NewReader(file))
	var wrong *FileError
	if !errors.As(err, &wrong) {
		t.Fatalf("%.60q: %v, want a FileError", file, err)
	}
	var all []string
	for _, p := range wrong.Problems {
		all = append(all, p.String())
	}
	return all
}

func imported(t testing.TB, r *Registry, file string) TicketReport {
	t.Helper()
	report, err := r.ImportTickets(t.Context(), by("file"), hall, strings.NewReader(file))
	must(t, err)
	return report
}

const everyColumn = "\uFEFFmessage,id,holder,order,not_before,not_after,gates,zones,uses,uses_per_day,re_entry,party,alone,product,variation,attention,status\r\n" +
	`"look, twice",T-1,member-1,ab-1,2026-07-01 18:00,2026-07-02T00:00:00+09:00,north; south,main;vip,3,1,after_exit,4,TRUE,7,2,true,blocked` + "\r\n" +
	",T-2,,,,,,,,,,,,,,,\r\n\r\n"

func TestTicketsAreImported(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		if got := imported(t, r, everyColumn); got.Added != 2 || got.Updated+got.Unchanged != 0 {
			t.Errorf("%+v", got)
		}
		got, err := r.Ticket(t.Context(), hall, "T-1")
		must(t, err)
		holder, err := r.Holder(t.Context(), hall, "member-1")
		must(t, err)
		want := Ticket{Holder: holder, Order: "AB-1", Entitlement: whitelist.Entitlement{
			ID: "T-1", Status: whitelist.Blocked, NotBefore: time.Date(2026, 7, 1, 9, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 7, 1, 15, 0, 0, 0, time.UTC),
			Gates: []string{"north", "south"}, Zones: []string{"main", "vip"}, Uses: 3, UsesPerDay: 1, ReEntry: whitelist.ReEntryAfterExit,
			Party: 4, Alone: true, Product: 7, Variation: 2, Attention: true, Message: "look, twice",
		}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}

		before := tables(t, r)
		if got := imported(t, r, everyColumn); got.Unchanged != 2 || got.Added+got.Updated != 0 {
			t.Errorf("the same file again: %+v", got)
		}
		if tables(t, r) != before {
			t.Error("the same file again changed something")
		}
		report := imported(t, r, "id,uses\nT-2,5\nT-3,1\n")
		if report.Added != 1 || report.Updated != 1 || !reflect.DeepEqual(report.Updates, []TicketUpdate{{2, "T-2", []string{"update"}}}) {
			t.Errorf("%+v", report)
		}
		// A column that is not there changes nothing.
		imported(t, r, "id,uses\nT-1,9\n")
		want.Uses = 9
		if got, err := r.Ticket(t.Context(), hall, "T-1"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// tables is all there is, to compare.
func tables(t testing.TB, r *Registry) string {
	t.Helper()
	var all strings.Builder
	for _, table := range []string{"holders ORDER BY id", "entitlements ORDER BY id", "history ORDER BY seq", "touched ORDER BY head", "numbers ORDER BY name"} {
		rows, err := r.query(t.Context(), `SELECT * FROM `+table)
		must(t, err)
		columns, err := rows.Columns()
		must(t, err)
		must(t, each(rows, nil, func() error {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			err := rows.Scan(values...)
			for _, v := range values {
				fmt.Fprintf(&all, "%v|", *v.(*any))
			}
			return err
		}))
	}
	return all.String()
}

// What an operator did between two files stays, until the file says something new.
func TestFileDoesNotUndoWhatWasDoneSince(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		const file = "id,holder,order,status,uses\nT-1,member-1,A-1,,1\nT-2,member-1,,active,1\n"
		imported(t, r, file)
		other, err := r.AddHolder(t.Context(), by(""), hall, "member-2")
		must(t, err)
		must(t, r.Transfer(t.Context(), by("sold"), hall, "T-1", other))
		must(t, r.Refund(t.Context(), by("ill"), hall, "T-2"))
		if got := imported(t, r, file); got.Unchanged != 2 {
			t.Errorf("%+v", got)
		}
		imported(t, r, strings.ReplaceAll(file, ",1\n", ",2\n"))
		got, err := r.Ticket(t.Context(), hall, "T-1")
		must(t, err)
		if got.Holder != other || got.Order != "" || got.Uses != 2 {
			t.Errorf("the transfer was undone, or the update lost: %+v", got)
		}
		if got, err := r.Ticket(t.Context(), hall, "T-2"); err != nil || got.Status != whitelist.Revoked {
			t.Errorf("the refund was undone: %+v, %v", got, err)
		}
		report := imported(t, r, "id,holder,order,status,uses\nT-1,member-3,A-1,blocked,2\n")
		if want := []TicketUpdate{{2, "T-1", []string{"block", "transfer"}}}; !reflect.DeepEqual(report.Updates, want) {
			t.Errorf("%+v", report)
		}
		imported(t, r, "id,holder\nT-1,\n")
		if got, err := r.Ticket(t.Context(), hall, "T-1"); err != nil || got.Holder != 0 {
			t.Errorf("the file took the holder away: %+v, %v", got, err)
		}
	})
}

func TestWrongFilesAreRefusedWithTheirReason(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		before := tables(t, r)
		for _, c := range []struct{ name, file, want string }{
			{"an empty file", "", "the file is empty"},
			{"an empty first line", "\nid\n", "line 1: the first line is empty"},
			{"an unknown column", "id,name\nT-1,x\n", `line 1: unknown column "name": columns are id, holder,`},
			{"a column twice", "id,uses,uses\nT-1,1,1\n", "line 1, uses: this column comes twice"},
			{"no id", "uses\n1\n", "line 1, id: this column is missing"},
			{"a nameless column", "id,\nT-1,\n", "line 1: column 2 has no name"},
			{"a cell too many", "id,uses\nT-1,1,2\n", "line 2: 3 cells, the header has 2"},
			{"a cell too few", "id,uses\nT-1\n", "line 2: 1 cells, the header has 2"},
			{"no ticket", "id,uses\n,1\n", "line 2, id: the ID has 0 bytes"},
			{"a ticket twice", "id\nT-1\nT-2\nT-1\n", "line 4, id: the same ticket is on line 2"},
			{"a formula", "id,message,attention\n=cmd|x,,\n", `line 2, id: a cell that begins with '='`},
			{"another formula", "id,holder\nT-1,@SUM(A1)\n", `line 2, holder: a cell that begins with '@'`},
			{"a formula with a tab", "id,holder\nT-1,\"\t=1\"\n", `line 2, holder: a cell that begins with '='`},
			{"less than nothing", "id,uses\nT-1,-1\n", "line 2, uses: write a whole number"},
			{"half a use", "id,uses\nT-1,1.5\n", "line 2, uses: write a whole number"},
			{"too many uses", "id,uses\nT-1,4294967296\n", "line 2, uses: write a whole number"},
			{"a zero byte", "id\nT-\x001\n", "line 2: a zero byte"},
			{"Shift_JIS", "id,message,attention\nT-1,\x8e\xf3\x95\x74,true\n", "line 2: this looks like Shift_JIS"},
			{"no text at all", "id\nT-\xff\xfe\xfd\n", "line 2: not UTF-8"},
			{"UTF-16", "\xff\xfei\x00d\x00\n\x00", "line 1: the file is UTF-16"},
			{"quotation marks", "id\n\"T-1\nT-2\n", "line 2: quotation marks that do not match"},
			{"a quotation mark inside", "id\nT\"1\n", "line 2: quotation marks that do not match"},
			{"a long line", "id\n" + strings.Repeat("x", MaxLine) + "\n", "line 2: the line has more than 65536 bytes"},
			{"an unknown gate", "id,gates\nT-1,west\n", `line 2, gates: unknown gate "west": the list's gates are "north", "south"`},
			{"an unknown zone", "id,zones\nT-1,pit\n", `line 2, zones: unknown zone "pit"`},
			{"an empty gate", "id,gates\nT-1,north;;south\n", "line 2, gates: an empty name"},
			{"a gate twice", "id,gates\nT-1,north;north\n", `line 2, gates: gate "north" comes twice`},
			{"an unknown product", "id,product\nT-1,8\n", "line 2, product: unknown product 8"},
			{"a variation of nothing", "id,variation\nT-1,8\n", "line 2: a variation of no product"},
			{"a message to nobody", "id,message\nT-1,hello\n", "line 2: a message without attention"},
			{"alone without a party", "id,alone\nT-1,true\n", "line 2: alone, and no party"},
			{"a large party", "id,party\nT-1,10001\n", "line 2, party: a party of 10001 people"},
			{"a strange re-entry", "id,re_entry\nT-1,often\n", "line 2, re_entry: write none, after_exit or always"},
			{"a strange status", "id,status\nT-1,expired\n", "line 2, status: write active, blocked or revoked"},
			{"a strange truth", "id,alone\nT-1,maybe\n", "line 2, alone: write true or false"},
			{"a strange time", "id,not_after\nT-1,tomorrow\n", "line 2, not_after: write a time as in"},
			{"half a second", "id,not_after\nT-1,2026-07-01T00:00:00.5Z\n", "line 2, not_after: write whole seconds"},
			{"half a local second", "id,not_after\nT-1,2026-07-01 00:00:00.5\n", "line 2, not_after: write whole seconds"},
			{"a window that is none", "id,not_before,not_after\nT-1,2026-07-02 00:00,2026-07-01 00:00\n", "line 2: not_before is not before not_after"},
			{"an order of other letters", "id,order\nT-1,注文\n", "line 2, order: an order number has letters"},
			{"a name of shelters", "id\nperson/1\n", `line 2, id: the ID begins with "person/"`},
			{"a long holder", "id,holder\nT-1," + strings.Repeat("h", 129) + "\n", "line 2, holder: it has 129 bytes"},
		} {
			all := problems(t, r, c.file)
			if !strings.Contains(strings.Join(all, "\n"), c.want) {
				t.Errorf("%s: %q, want %q", c.name, all, c.want)
			}
		}
		if tables(t, r) != before {
			t.Error("something was imported")
		}
	})
}

func TestEveryProblemOfAFileIsTold(t *testing.T) {
	r := open(t, "sqlite:"+t.TempDir()+"/registry.db")
	addScope(t, r, hall, venue)
	all := problems(t, r, "id,uses,gates\nT-1,x,west\nT-2,1,north\nT-1,1,\n,1,\nT-3,1\n")
	if len(all) != 5 {
		t.Errorf("%q", all)
	}
	file := "id,uses\n" + strings.Repeat(",x\n", 1000) // the same line: twice, and no ID
	_, err := r.ImportTickets(t.Context(), by(""), hall, strings.NewReader(file))
	var wrong *FileError
	if !errors.As(err, &wrong) || len(wrong.Problems) != MaxProblems || wrong.Total < 1000 {
		t.Errorf("%v", err)
	}
	if _, err := r.Ticket(t.Context(), hall, "T-2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a right line of a wrong file: %v", err)
	}
}

func TestSeventeenTicketsInAFileAreRefused(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		for _, column := range []string{"holder", "order"} {
			var file strings.Builder
			fmt.Fprintf(&file, "id,%s\n", column)
			for n := range 17 {
				fmt.Fprintf(&file, "T-%d,M1\n", n)
			}
			if all := problems(t, r, file.String()); !strings.Contains(all[0], "line 18, "+column+":") || !strings.Contains(all[0], "17 tickets") {
				t.Errorf("%q", all)
			}
		}
	})
}

// endless is a line that never ends; n counts what was read of it.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) {
	if e.n == 0 {
		e.n = copy(b, "id\n")
		return e.n, nil
	}
	for i := range b {
		b[i] = 'x'
	}
	e.n += len(b)
	return len(b), nil
}

func TestEndlessLineIsNotReadIntoMemory(t *testing.T) {
	r := open(t, "sqlite:"+t.TempDir()+"/registry.db")
	addScope(t, r, hall, venue)
	e := &endless{}
	_, err := r.ImportTickets(t.Context(), by(""), hall, e)
	if !errors.As(err, new(*FileError)) {
		t.Errorf("%v", err)
	}
	if e.n > 4*MaxLine {
		t.Errorf("%d bytes were read", e.n)
	}
}

func TestLocalTimesWhenClocksChange(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	must(t, err)
	in := &ticketFile{scope: Scope{Venue: whitelist.Venue{TimeZone: "Europe/Berlin"}}, zone: zone}
	for s, want := range map[string]string{
		"2026-07-01 12:00":          "2026-07-01T10:00:00Z",
		"2026/1/5 9:05":             "2026-01-05T08:05:00Z",
		"2026-03-29 01:59:59":       "2026-03-29T00:59:59Z",
		"2026-03-29 02:30":          "no clock",
		"2026-03-29 03:00":          "2026-03-29T01:00:00Z",
		"2026-10-25 02:30":          "twice",
		"2026-10-25T02:30:00+02:00": "2026-10-25T00:30:00Z",
		"2026-10-25 03:00":          "2026-10-25T02:00:00Z",
		"2026-02-30 12:00":          "write a time",
	} {
		got, err := in.instant(s)
		text := got.Format(time.RFC3339)
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %s", s, text, want)
		}
	}
	in.scope.Venue.TimeZone = ""
	if _, err := in.instant("2026-07-01 12:00"); err == nil {
		t.Error("a local time of no zone")
	}
}

// Whatever the file, it is refused or it is imported and then unchanged.
func FuzzImportTickets(f *testing.F) {
	f.Add([]byte(everyColumn))
	f.Add([]byte("id,uses\nT-1,1\n"))
	f.Add([]byte("id\n\"a\"\"b\"\n"))
	r := open(f, "sqlite:"+f.TempDir()+"/registry.db")
	addScope(f, r, hall, venue)
	f.Fuzz(func(t *testing.T, file []byte) {
		undo := errors.New("undo")
		err := r.do(t.Context(), by(""), "fuzzing", func(tx *tx) error {
			s, err := scopeOf(t.Context(), tx, hall)
			if err != nil {
				return err
			}
			for turn := range 2 {
				var report TicketReport
				in := &ticketFile{t: tx, by: by(""), scope: s, seen: map[string]int{}, report: &report, zone: time.UTC}
				if in.csv, err = newTable(bytes.NewReader(file), ticketColumns, []string{"id"}); err == nil {
					err = in.read(t.Context())
				}
				if err != nil {
					if turn == 1 {
						t.Errorf("the second time: %v", err)
					}
					return err
				}
				if turn == 1 && report.Added+report.Updated > 0 {
					t.Errorf("the second time: %+v", report)
				}
			}
			return undo
		})
		if !errors.Is(err, undo) && !errors.As(err, new(*FileError)) && err != io.EOF {
			t.Error(err)
		}
	})
}

func TestSpacesAroundACellMakeNoOtherTicket(t *testing.T) {
	on(t, func(t *testing.T, r *Registry) {
		addScope(t, r, hall, venue)
		for i, file := range []string{"id,holder\nT-1,M-1\n", "id, holder \n T-1 ,M-1 \n", "id,holder\n\u3000T-1\u3000,\"M-1\u3000\"\n"} {
			report, err := r.ImportTickets(t.Context(), by(""), hall, strings.NewReader(file))
			must(t, err)
			if want := i > 0; (report.Unchanged == 1) != want || (report.Added == 0) != want {
				t.Errorf("file %d: %+v", i, report)
			}
		}
		_, err := r.ImportTickets(t.Context(), by(""), hall, strings.NewReader("id\nT-2\nT-2 \n"))
		if err == nil || !strings.Contains(err.Error(), "the same ticket is on line 2") {
			t.Errorf("a ticket twice: %v", err)
		}
		for _, cell := range []string{" =1+1", "\t@SUM(A1)", "＝1+1", "＋1", "－1", "\u3000＠SUM"} {
			if _, err := r.ImportTickets(t.Context(), by(""), hall, strings.NewReader("id,holder\nT-3,"+cell+"\n")); err == nil || !strings.Contains(err.Error(), "formula") {
				t.Errorf("%q: %v", cell, err)
			}
		}
	})
}
