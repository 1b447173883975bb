package e2e

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gate-agent/gate-agent/internal/postgres"
	"github.com/gate-agent/gate-agent/internal/world"
	"github.com/gate-agent/gate-agent/nfc/vcard"
	"github.com/gate-agent/gate-agent/whitelist"
)

// programs is the folder of the built programs.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait for pcscd and for cards, they hardly compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := build(m)
	if err := databases.Stop(); err != nil {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// databases is the PostgreSQL of those tests that want one.
var databases postgres.Server

// built tells a test that runs itself again in namespaces of its own where
// the programs are.
const built = "GATE_E2E_PROGRAMS"

func build(m *testing.M) (code int) {
	if programs = os.Getenv(built); programs != "" {
		return m.Run()
	}
	var err error
	if programs, err = os.MkdirTemp("", "e2e-"); err == nil {
		defer func() {
			if err := os.RemoveAll(programs); err != nil {
				fmt.Println(err)
				code = 1
			}
		}()
		cmd := exec.Command("go", "build", "-o", programs+"/", "./cmd/gate-agent", "./cmd/gate-hub", "./cmd/gate-sim")
		cmd.Dir = filepath.Join("..", "..")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		err = errors.Join(cmd.Run(), os.Setenv(built, programs))
	}
	if err != nil {
		fmt.Println("building the programs:", err)
		return 1
	}
	return m.Run()
}

// A town is the world outside the terminals of all tests. Nobody changes it.
type town struct {
	*world.World
	people []world.Person
	rows   []whitelist.Listed
	list   []byte // of all the rows: epoch 1, seq 1
}

var makeTown = sync.OnceValues(func() (town, error) {
	w, err := world.New(time.Now())
	if err != nil {
		return town{}, err
	}
	people, rows, err := w.People()
	if err != nil {
		return town{}, err
	}
	list, err := w.List(rows...)
	return town{w, people, rows, list}, err
})

func theTown(t testing.TB) town {
	t.Helper()
	w, err := makeTown()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// person is one of the people, by name and the method of their gate.
func (w town) person(t testing.TB, name, method string) world.Person {
	t.Helper()
	for _, p := range w.people {
		if p.Name == name && string(p.Method) == method {
			return p
		}
	}
	t.Fatalf("nobody is %q at the %s gate", name, method)
	panic("unreachable")
}

// alice is on the list, with both keys registered.
func (w town) alice(t testing.TB) *vcard.Image { return w.person(t, "listed", "tap-use").Image }

// bob is another one.
func (w town) bob(t testing.TB) *vcard.Image { return w.person(t, "listed", "external-auth").Image }

// signed writes a list of the town's rows, after change.
func (w town) signed(t testing.TB, change func(m *whitelist.Manifest, rows []whitelist.Listed)) []byte {
	t.Helper()
	other, rows := *w.World, slices.Clone(w.rows)
	change(&other.Manifest, rows)
	list, err := other.List(rows...)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A site is the folder of one terminal.
type site struct {
	dir    string
	config string
}

func (s site) path(name string) string { return filepath.Join(s.dir, name) }

// install makes a terminal with both methods and the town's list, not yet
// imported.
func install(t testing.TB, dir string) site {
	t.Helper()
	w := theTown(t)
	config, err := w.Install(dir, `["tap-use", "external-auth"]`, w.list)
	if err != nil {
		t.Fatal(err)
	}
	s := site{filepath.Dir(config), config}
	t.Cleanup(func() { writesNoKeys(t, s) })
	return s
}

// shortDir is a folder for a test whose path is short: that of a socket in it has 107
// bytes at most, and t.TempDir has the test's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ready is a terminal with its list in force.
func ready(t testing.TB) site {
	t.Helper()
	s := install(t, filepath.Join(shortDir(t), "terminal"))
	s.must(t, "list", "import", s.path("list.cose"))
	return s
}

// edit replaces text in the configuration, which must have it.
func (s site) edit(t testing.TB, old, with string) {
	t.Helper()
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("no %q in the configuration", old)
	}
	s.write(t, "config.toml", bytes.Replace(b, []byte(old), []byte(with), 1))
}

// write writes a file of the terminal, and returns its path.
func (s site) write(t testing.TB, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(s.path(name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return s.path(name)
}

// run runs gate-agent to its end, with the terminal's configuration.
func (s site) run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "gate-agent"), append(args, "--config", s.config)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	keepsSecrets(t, s, errs.String())
	keepsKeys(t, s, out.Bytes())
	keepsKeys(t, s, errs.Bytes())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that succeeds.
func (s site) must(t testing.TB, args ...string) (stdout string) {
	t.Helper()
	stdout, stderr, code := s.run(t, args...)
	if code != 0 {
		t.Fatalf("gate-agent %q: exit code %d\n%s", args, code, stderr)
	}
	return stdout
}
