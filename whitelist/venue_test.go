package whitelist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/gate-agent/gate-agent/internal/strictcbor"
)

// venue holds every field of a venue at least once.
func venue() Venue {
	return Venue{
		TimeZone: "Asia/Tokyo", DayStarts: 5 * time.Hour, Tolerance: 15 * time.Minute,
		From: issued.Add(6 * time.Hour), To: issued.Add(9 * time.Hour), Admission: issued.Add(5 * time.Hour), Postponed: true,
		Zones: []Zone{{"arena", AntiPassbackHard, 12 * time.Hour, AwayAttend}, {Name: "控室"}},
		Gates: []Gate{{1, "north", "arena"}, {7, "east", "arena"}, {8, "stage door", "控室"}, {9, "fence", ""}},
		Products: []Product{
			{ID: 23, Name: "Day ticket"}, {24, "前売券", true},
		},
		Rules: "{\"and\": [\n{\"<\": [{\"var\": \"entries_today\"}, 3]}]}",
	}
}

func venueManifest() Manifest {
	m := manifest()
	m.Seq, m.Venue = 8, venue()
	return m
}

func order(number string) []byte {
	head, err := OrderHead(number)
	if err != nil {
		panic(err)
	}
	return head
}

// venueListed holds every field of an entitlement, and an order.
func venueListed() []Listed {
	party := Entitlement{
		ID: "ABC12-1", Gates: []string{"north"}, Zones: []string{"arena"}, Uses: 4, UsesPerDay: 2, ReEntry: ReEntryAfterExit,
		Party: 4, Product: 23, Variation: 5, Attention: true, Message: "年齢を確認: 18+",
	}
	companion := Entitlement{ID: "ABC12-1", Zones: []string{"arena"}, Party: 4, Alone: true}
	return append(listed(),
		Listed{head(5), Row{Status: Active, Entitlements: []Entitlement{party}, AuthKey: key(rsaKey(2048, 5))}},
		Listed{head(6), Row{Status: Active, Entitlements: []Entitlement{companion}, AuthKey: key(rsaKey(2048, 6))}},
		Listed{order("ABC12"), Row{Status: Active, Entitlements: []Entitlement{
			party, {ID: "ABC12-2", Status: Blocked, ReEntry: ReEntryAlways}, {ID: "ABC12-3", Status: Revoked, Product: 24, Attention: true},
		}}},
	)
}

func TestVenueRules(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	for _, c := range []struct {
		name string
		want string // in the error; "" is none
		set  func(*Venue)
	}{
		{"as it is", "", func(v *Venue) {}},
		{"nothing", "", func(v *Venue) { *v = Venue{} }},
		{"only postponed", "", func(v *Venue) { *v = Venue{Postponed: true} }},
		{"UTC", "", func(v *Venue) { v.TimeZone = "UTC" }},
		{"zone of nowhere", `"Asia/Tokio"`, func(v *Venue) { v.TimeZone = "Asia/Tokio" }},
		{"zone of the machine", `"Local"`, func(v *Venue) { v.TimeZone = "Local" }},
		{"zone of the machine, by its file", `"localtime"`, func(v *Venue) { v.TimeZone = "localtime" }},
		{"zone with leap seconds", `"right/Asia/Tokyo"`, func(v *Venue) { v.TimeZone = "right/Asia/Tokyo" }},
		{"zone outside", "no IANA name", func(v *Venue) { v.TimeZone = "../zoneinfo/Asia/Tokyo" }},
		{"zone with a zero byte", "cannot be printed", func(v *Venue) { v.TimeZone = "Asia/Tokyo\x00" }},
		{"latest day", "", func(v *Venue) { v.DayStarts = 24*time.Hour - time.Minute }},
		{"day that never starts", "day_starts", func(v *Venue) { v.DayStarts = 24 * time.Hour }},
		{"day before its day", "day_starts", func(v *Venue) { v.DayStarts = -time.Minute }},
		{"day within a minute", "day_starts", func(v *Venue) { v.DayStarts = time.Second }},
		{"most tolerance", "", func(v *Venue) { v.Tolerance = 24 * time.Hour }},
		{"too much tolerance", "tolerance", func(v *Venue) { v.Tolerance = 24*time.Hour + time.Second }},
		{"negative tolerance", "tolerance", func(v *Venue) { v.Tolerance = -time.Second }},
		{"tolerance within a second", "tolerance", func(v *Venue) { v.Tolerance = time.Millisecond }},
		{"ends when it begins", "from is not before to", func(v *Venue) { v.To = v.From }},
		{"no end", "", func(v *Venue) { v.To = time.Time{} }},
		{"no beginning", "", func(v *Venue) { v.From = time.Time{} }},
		{"doors open at the end", "", func(v *Venue) { v.Admission = v.To }},
		{"doors open after the end", "admission is after to", func(v *Venue) { v.Admission = v.To.Add(time.Second) }},
		{"before 1970", "from is not between", func(v *Venue) { v.From = at(-1) }},
		{"after 9999", "to is not between", func(v *Venue) { v.To = at(strictcbor.LastSecond + 1) }},
		{"admission after 9999", "admission is not between", func(v *Venue) { v.Admission = at(strictcbor.LastSecond + 1) }},
		{"zone twice", `zone "arena" comes twice`, func(v *Venue) { v.Zones[1].Name = "arena" }},
		{"zone without a name", "a zone has 0 bytes", func(v *Venue) { v.Zones[1].Name = "" }},
		{"unknown anti-passback", "anti-passback", func(v *Venue) { v.Zones[1].AntiPassback = AntiPassbackHard + 1 }},
		{"unknown policy for an away hub", "hub is away", func(v *Venue) { v.Zones[1].Away = AwayDeny + 1 }},
		{"longest memory", "", func(v *Venue) { v.Zones[0].Forgets = 31 * 24 * time.Hour }},
		{"too long a memory", `zone "arena"`, func(v *Venue) { v.Zones[0].Forgets = 31*24*time.Hour + time.Minute }},
		{"memory within a minute", "forgets", func(v *Venue) { v.Zones[0].Forgets = time.Second }},
		{"gate twice", `gate "north" comes twice`, func(v *Venue) { v.Gates[1].Name = "north" }},
		{"gate ID twice", "gate ID 1 comes twice", func(v *Venue) { v.Gates[1].ID = 1 }},
		{"gate without an ID", "a gate has no ID", func(v *Venue) { v.Gates[1].ID = 0 }},
		{"gate with a line break", "cannot be printed", func(v *Venue) { v.Gates[0].Name = "a\n" }},
		{"gate into no zone", `gate "north": malformed list: unknown zone "stage": the list's zones are "arena", "控室"`, func(v *Venue) { v.Gates[0].Zone = "stage" }},
		{"gates and no zones", "the list has no zones", func(v *Venue) { v.Zones = nil }},
		{"product twice", "comes twice", func(v *Venue) { v.Products[1].Name = v.Products[0].Name }},
		{"product ID twice", "product ID 23 comes twice", func(v *Venue) { v.Products[1].ID = 23 }},
		{"product without an ID", "a product has no ID", func(v *Venue) { v.Products[1].ID = 0 }},
		{"longest rules", "", func(v *Venue) { v.Rules = strings.Repeat(" ", MaxRules) }},
		{"too long rules", "16385 bytes, at most 16384", func(v *Venue) { v.Rules = strings.Repeat(" ", MaxRules+1) }},
		{"rules not UTF-8", "not UTF-8", func(v *Venue) { v.Rules = "\xff" }},
		{"most of all", "", func(v *Venue) { *v = most(0) }},
		{"one zone too many", "65 zones, at most 64", func(v *Venue) { v.Zones = make([]Zone, MaxZones+1) }},
		{"one gate too many", "257 gates, at most 256", func(v *Venue) { v.Gates = make([]Gate, MaxVenueGates+1) }},
		{"one product too many", "257 products, at most 256", func(v *Venue) { v.Products = make([]Product, MaxProducts+1) }},
	} {
		m := venueManifest()
		c.set(&m.Venue)
		b, err := m.encode()
		if c.want == "" {
			if again, err := decodeManifest(b); err != nil || !reflect.DeepEqual(again, m) {
				t.Errorf("%s comes back as %+v, %v", c.name, again, err)
			}
		} else if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

// most is a venue of as many names as there may be, n bytes longer than they need to be.
func most(n int) (v Venue) {
	long := strings.Repeat("x", n)
	for i := range MaxZones {
		v.Zones = append(v.Zones, Zone{Name: fmt.Sprint(long, i)})
	}
	for i := range MaxVenueGates {
		v.Gates = append(v.Gates, Gate{uint32(i + 1), fmt.Sprint(long, i), v.Zones[0].Name})
	}
	for i := range MaxProducts {
		v.Products = append(v.Products, Product{ID: uint32(i + 1), Name: fmt.Sprint(long, i)})
	}
	return v
}

func TestManifestThatIsTooLargeToBeSignedIsNotWritten(t *testing.T) {
	m := venueManifest()
	m.Venue = most(40)
	m.Venue.Rules = strings.Repeat(" ", MaxRules)
	if _, err := readBack(t, m, nil); err != nil {
		t.Errorf("it fits: %v", err)
	}
	m.Venue = most(60)
	m.Venue.Rules = strings.Repeat(" ", MaxRules)
	if err := Write(io.Discard, listKey, scopeKey(t), m, nil); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "venue") {
		t.Error(err)
	}
}

func readBack(t *testing.T, m Manifest, rows []Listed) (Manifest, error) {
	t.Helper()
	m, _, err := read(trust(t), bytes.NewReader(write(t, m, rows)))
	return m, err
}

func TestListWithoutAVenueKeepsItsVersion(t *testing.T) {
	empty := manifest()
	// What says nothing is nothing, however it is put.
	empty.Venue = Venue{From: time.Time{}.In(time.FixedZone("JST", 9*3600)), Zones: []Zone{}, Gates: []Gate{}, Products: []Product{}}
	if !bytes.Equal(write(t, empty, listed()), write(t, manifest(), listed())) {
		t.Error("an empty venue is written")
	}
	b, err := empty.encode()
	if err != nil {
		t.Fatal(err)
	}
	if m := fields(t, b); m[0] != uint64(1) || m[12] != nil {
		t.Errorf("%v", m)
	}
}

func TestVersionAndVenueComeTogether(t *testing.T) {
	with, err := venueManifest().encode()
	if err != nil {
		t.Fatal(err)
	}
	without, err := manifest().encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		good []byte
		set  func(map[int]any)
	}{
		"1 with a venue":       {with, func(m map[int]any) { m[0] = 1 }},
		"1 with an empty one":  {without, func(m map[int]any) { m[12] = map[int]any{} }},
		"2 without a venue":    {without, func(m map[int]any) { m[0] = 2 }},
		"2 with an empty one":  {without, func(m map[int]any) { m[0] = 2; m[12] = map[int]any{} }},
		"2 that says nothing":  {without, func(m map[int]any) { m[0] = 2; m[12] = map[int]any{7: false, 8: []any{}} }},
		"3":                    {with, func(m map[int]any) { m[0] = 3 }},
		"1 with other new key": {without, func(m map[int]any) { m[13] = 1 }},
	} {
		m := fields(t, c.good)
		c.set(m)
		b, err := codec.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeManifest(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("version %s: %v", name, err)
		}
	}
}

func TestVenueHasOneEncoding(t *testing.T) {
	good, err := venueManifest().encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(map[any]any){
		"unknown key":                func(v map[any]any) { v[12] = 1 },
		"text key":                   func(v map[any]any) { v["1"] = "UTC" },
		"empty time zone":            func(v map[any]any) { v[1] = "" },
		"null time zone":             func(v map[any]any) { v[1] = nil },
		"midnight, said":             func(v map[any]any) { v[2] = 0 },
		"a day of 65536 minutes":     func(v map[any]any) { v[2] = 1 << 16 },
		"negative day":               func(v map[any]any) { v[2] = -1 },
		"no tolerance, said":         func(v map[any]any) { v[3] = 0 },
		"tolerance of 2^32":          func(v map[any]any) { v[3] = uint64(1 << 32) },
		"tolerance of 2^32-1":        func(v map[any]any) { v[3] = uint64(1<<32 - 1) },
		"from 0":                     func(v map[any]any) { v[4] = 0 },
		"to out of range":            func(v map[any]any) { v[5] = uint64(1<<64 - 1) },
		"not postponed, said":        func(v map[any]any) { v[7] = false },
		"postponed as number":        func(v map[any]any) { v[7] = 1 },
		"empty zones":                func(v map[any]any) { v[9] = []any{map[int]any{1: 1, 2: "a"}}; v[8] = []any{} },
		"zone as text":               func(v map[any]any) { v[8] = []any{"arena"} },
		"zone off, said":             func(v map[any]any) { v[8].([]any)[1].(map[any]any)[2] = 0 },
		"zone 258":                   func(v map[any]any) { v[8].([]any)[1].(map[any]any)[2] = 258 },
		"hub away as usual, said":    func(v map[any]any) { v[8].([]any)[1].(map[any]any)[4] = 0 },
		"hub away in an unknown way": func(v map[any]any) { v[8].([]any)[1].(map[any]any)[4] = 3 },
		"unknown in a zone":          func(v map[any]any) { v[8].([]any)[1].(map[any]any)[5] = 1 },
		"gate without an ID":         func(v map[any]any) { delete(v[9].([]any)[0].(map[any]any), uint64(1)) },
		"gate ID of 2^32":            func(v map[any]any) { v[9].([]any)[0].(map[any]any)[uint64(1)] = uint64(1 << 32) },
		"gate of empty zone":         func(v map[any]any) { v[9].([]any)[3].(map[any]any)[3] = "" },
		"product not postponed":      func(v map[any]any) { v[10].([]any)[0].(map[any]any)[3] = false },
		"empty rules":                func(v map[any]any) { v[11] = "" },
		"rules as bytes":             func(v map[any]any) { v[11] = []byte("{}") },
	} {
		m := fields(t, good)
		v := m[12].(map[any]any)
		for k, x := range v { // keys as set writes them
			delete(v, k)
			v[int(k.(uint64))] = x
		}
		set(v)
		b, err := codec.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(b, good) {
			t.Errorf("%s: nothing was spoilt", name)
		}
		if _, err := decodeManifest(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEntitlementRules(t *testing.T) {
	long := strings.Repeat("x", MaxMessage)
	for _, c := range []struct {
		name string
		ok   bool
		e    Entitlement
	}{
		{"blocked", true, Entitlement{Status: Blocked}},
		{"revoked", true, Entitlement{Status: Revoked}},
		{"certificate revoked", false, Entitlement{Status: CertificateRevoked}},
		{"always", true, Entitlement{ReEntry: ReEntryAlways}},
		{"unknown re-entry", false, Entitlement{ReEntry: ReEntryAlways + 1}},
		{"greatest party", true, Entitlement{Party: MaxParty}},
		{"too great a party", false, Entitlement{Party: MaxParty + 1}},
		{"alone of two", true, Entitlement{Party: 2, Alone: true}},
		{"alone of one", false, Entitlement{Party: 1, Alone: true}},
		{"alone of none", false, Entitlement{Alone: true}},
		{"product", true, Entitlement{Product: 1<<32 - 1}},
		{"variation", true, Entitlement{Product: 1, Variation: 1<<32 - 1}},
		{"variation of nothing", false, Entitlement{Variation: 1}},
		{"attention", true, Entitlement{Attention: true}},
		{"longest message", true, Entitlement{Attention: true, Message: long}},
		{"too long a message", false, Entitlement{Attention: true, Message: long + "x"}},
		{"message to nobody", false, Entitlement{Message: "x"}},
		{"message with a line break", false, Entitlement{Attention: true, Message: "a\nb"}},
		{"message not UTF-8", false, Entitlement{Attention: true, Message: "\xff"}},
		{"zone twice", false, Entitlement{Zones: []string{"a", "a"}}},
		{"zone without a name", false, Entitlement{Zones: []string{""}}},
		{"too many zones", false, Entitlement{Zones: make([]string, MaxGates+1)}},
	} {
		c.e.ID = "a"
		r := Row{Status: Active, Entitlements: []Entitlement{c.e}}
		b, err := r.encode()
		if !c.ok {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if again, err := decodeRow(b); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%s comes back as %+v, %v", c.name, again, err)
		}
	}
}

func TestWhatIsTheSameAsNothingIsNotWritten(t *testing.T) {
	encode := func(e Entitlement) []byte {
		b, err := Row{Status: Active, Entitlements: []Entitlement{e}}.encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	same := Entitlement{ID: "a", Status: Active, Party: 1, Gates: []string{}, Zones: []string{}}
	if !bytes.Equal(encode(same), encode(Entitlement{ID: "a"})) {
		t.Error("written")
	}
	// And is not of version 2.
	write(t, manifest(), []Listed{{head(1), Row{Status: Active, Entitlements: []Entitlement{same}}}})

	for name, e := range map[string]map[int]any{
		"active":           {6: 1},
		"no status":        {6: 0},
		"no zones":         {7: []any{}},
		"unlimited a day":  {8: 0},
		"no re-entry":      {9: 0},
		"re-entry 257":     {9: 257},
		"party of one":     {10: 1},
		"party of 2^32":    {10: uint64(1 << 32)},
		"not alone":        {10: 2, 11: false},
		"no product":       {12: 0},
		"no variation":     {12: 1, 13: 0},
		"no attention":     {14: false},
		"nothing to say":   {14: true, 15: ""},
		"message as bytes": {14: true, 15: []byte("x")},
	} {
		e[1] = "a"
		b, err := codec.Marshal(map[int]any{1: 1, 2: []any{e}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRow(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVenueComesBackAsItWasWritten(t *testing.T) {
	rows := venueListed()
	m, sealed, err := read(trust(t), bytes.NewReader(write(t, venueManifest(), rows)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m.Venue, venue()) {
		t.Errorf("%+v, want\n%+v", m.Venue, venue())
	}
	key := scopeKey(t)
	for i, l := range rows {
		at := slices.IndexFunc(sealed, func(s SealedRow) bool { return s.ID == key.ID(l.Head) })
		if at < 0 {
			t.Fatalf("row %d is missing", i)
		}
		if got, err := OpenRow(key, scope, l.Head, sealed[at].Sealed); err != nil || !reflect.DeepEqual(got, l.Row) {
			t.Errorf("row %d\n%+v, want\n%+v, %v", i, got, l.Row, err)
		}
	}
}

// A program of before there were venues refuses the list as a whole, by its
// version, and so never sees such a row.
func TestListWithoutAVenueHasNoRowsOfVersion2(t *testing.T) {
	for field, e := range map[string]Entitlement{
		"status":       {Status: Blocked},
		"zones":        {Zones: []string{"arena"}},
		"uses_per_day": {UsesPerDay: 1},
		"re_entry":     {ReEntry: ReEntryAlways},
		"party":        {Party: 4, Alone: true},
		"product":      {Product: 23, Variation: 5},
		"attention":    {Attention: true, Message: "a"},
	} {
		e.ID = "a"
		rows := []Listed{{head(1), Row{Status: Active, Entitlements: []Entitlement{{ID: "b"}, e}}}}
		err := Write(io.Discard, listKey, scopeKey(t), manifest(), rows)
		if !errors.Is(err, ErrMalformed) || !strings.HasPrefix(err.Error(), "row 1: entitlement 2: malformed list: "+field+" ") {
			t.Errorf("%s: %v", field, err)
		}
		if err := Write(io.Discard, listKey, scopeKey(t), venueManifest(), rows); err != nil {
			t.Errorf("%s with a venue: %v", field, err)
		}
	}
}

// Every key of an entitlement beyond those of version 1 is one that newField knows.
func TestNoNewFieldIsForgotten(t *testing.T) {
	for i := range reflect.TypeFor[wireEntitlement]().NumField() {
		f := reflect.TypeFor[Entitlement]().Field(i).Name
		var e Entitlement
		switch v := reflect.ValueOf(&e).Elem().FieldByName(f); f {
		case "ID", "NotBefore", "NotAfter", "Gates", "Uses":
			continue // of version 1
		case "Alone", "Variation", "Message":
			continue // not without Party, Product, Attention: TestEntitlementRules
		case "Zones":
			e.Zones = []string{"a"}
		case "Attention":
			e.Attention = true
		default:
			v.SetUint(2)
		}
		if e.newField() == "" {
			t.Errorf("%s", f)
		}
	}
	if a, b := reflect.TypeFor[wireEntitlement]().NumField(), reflect.TypeFor[Entitlement]().NumField(); a != b {
		t.Errorf("%d keys for %d fields", a, b)
	}
}

func TestRowNamesOnlyWhatTheVenueHas(t *testing.T) {
	small := Venue{TimeZone: "UTC"}
	many := most(0)
	for _, c := range []struct {
		name  string
		venue Venue
		e     Entitlement
		want  string
	}{
		{"known", venue(), Entitlement{Gates: []string{"east", "fence"}, Zones: []string{"控室"}, Product: 24, UsesPerDay: 1}, ""},
		{"unknown gate", venue(), Entitlement{Gates: []string{"east", "gate-9"}},
			`row 1: entitlement 1: malformed list: unknown gate "gate-9": the list's gates are "north", "east", "stage door", "fence"`},
		{"any gate", small, Entitlement{Gates: []string{"gate-9"}}, ""},
		{"unknown zone", venue(), Entitlement{Zones: []string{"north"}}, `unknown zone "north": the list's zones are "arena", "控室"`},
		{"zone where there is none", small, Entitlement{Zones: []string{"arena"}}, `unknown zone "arena": the list has no zones`},
		{"unknown product", venue(), Entitlement{Product: 25}, "unknown product 25: the list's products are 23, 24"},
		{"product where there is none", small, Entitlement{Product: 25}, "unknown product 25: the list has no products"},
		{"one of many", many, Entitlement{Product: 999}, "are 1, 2, 3, 4, 5, 6, 7, 8, and 248 more"},
		{"days of no zone", Venue{Postponed: true}, Entitlement{UsesPerDay: 1}, "uses_per_day"},
		{"impossible window", venue(), Entitlement{NotBefore: issued, NotAfter: issued}, "row 1: entitlement 1: malformed list: not_before is not before not_after"},
	} {
		m := manifest()
		m.Venue, c.e.ID = c.venue, "a"
		err := Write(io.Discard, listKey, scopeKey(t), m, []Listed{{head(1), Row{Status: Active, Entitlements: []Entitlement{c.e}}}})
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

func TestRowThatIsTooLargeToBeSealedIsNotWritten(t *testing.T) {
	r := Row{Status: Active, AuthKey: key(rsaKey(2048, 1)), CardKey: key(rsaKey(2048, 2))}
	for i := range MaxEntitlements {
		r.Entitlements = append(r.Entitlements, Entitlement{
			ID: fmt.Sprint("ABC12-", i), NotBefore: issued, NotAfter: issued.Add(time.Hour), Gates: []string{"north", "east"}, Zones: []string{"arena"},
			Uses: 100, UsesPerDay: 10, ReEntry: ReEntryAlways, Party: 1000, Alone: true, Product: 23, Variation: 1 << 31,
			Attention: true, Message: strings.Repeat("x", 100),
		})
	}
	if _, err := readBack(t, venueManifest(), []Listed{{head(1), r}}); err != nil {
		t.Errorf("it fits: %v", err)
	}
	for i := range r.Entitlements {
		r.Entitlements[i].Message = strings.Repeat("x", MaxMessage)
	}
	err := Write(io.Discard, listKey, scopeKey(t), venueManifest(), []Listed{listed()[0], {head(2), r}})
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "row 2") || !strings.Contains(err.Error(), "at most 4095") {
		t.Error(err)
	}
}
