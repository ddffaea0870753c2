package debian

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/regtest"
)

var now = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// archive returns an archive that a test reads from a directory.
func archive(t *testing.T, dir string) *Archive {
	t.Helper()
	return &Archive{
		URL: dir, Suite: "testing", Components: []string{"main"}, Work: t.TempDir(), Now: func() time.Time { return now },
		Text: func(_ context.Context, name string) (string, error) {
			raw, err := os.ReadFile(name)
			return string(raw), err
		},
		Get: func(_ context.Context, name, _ string) (string, error) { return name, nil },
	}
}

// needGpgv skips a test on a machine without gpgv; CI has it.
func needGpgv(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("gpgv"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// A release counts only if a key of the keyring has signed it, for its suite and time.
func TestArchive(t *testing.T) {
	needGpgv(t)
	signer, err := regtest.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := regtest.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	keyring := filepath.Join(t.TempDir(), "keyring.gpg")
	if err := regtest.Keyring(signer, keyring); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(keyring)
	if err != nil {
		t.Fatal(err)
	}
	armored := keyring + ".asc"
	if err := os.WriteFile(armored, []byte(armorHead+"\nComment: x\n\n"+base64.StdEncoding.EncodeToString(raw)+"\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := regtest.DebArchive{
		Suite: "testing", Arches: "amd64 arm64", Date: now.Add(-time.Hour), Until: now.Add(time.Hour), Signer: signer, ByHash: true,
		Debs: []regtest.Deb{{Name: "app", Version: "1:1.0-2", Arch: "arm64", Fields: "Depends: base0"}, {Name: "base0", Version: "2", Arch: "all"}, {Name: "only0", Version: "1", Arch: "amd64"}},
	}
	for name, c := range map[string]struct {
		change func(*regtest.DebArchive, *Archive)
		want   string // of the error
	}{
		"good":                  {func(*regtest.DebArchive, *Archive) {}, ""},
		"an armored keyring":    {func(_ *regtest.DebArchive, a *Archive) { a.Keyring = armored }, ""},
		"without by-hash":       {func(d *regtest.DebArchive, _ *Archive) { d.ByHash = false }, ""},
		"a stranger's key":      {func(d *regtest.DebArchive, _ *Archive) { d.Signer = stranger }, "the signature of InRelease is not valid: "},
		"unsigned":              {func(d *regtest.DebArchive, _ *Archive) { d.Signer = nil }, "the signature of InRelease is not valid: "},
		"unsigned and accepted": {func(d *regtest.DebArchive, a *Archive) { d.Signer, a.Unsigned = nil, true }, ""},
		"signed, not checked":   {func(d *regtest.DebArchive, a *Archive) { d.Signer, a.Unsigned = stranger, true }, ""},
		"text before":           {func(d *regtest.DebArchive, _ *Archive) { d.Before = "Suite: other\n\n" }, ""},
		"text after":            {func(d *regtest.DebArchive, _ *Archive) { d.After = "\nSuite: other\n" }, ""},
		"expired":               {func(d *regtest.DebArchive, _ *Archive) { d.Until = now.Add(-time.Minute) }, "the release expired on 2026-08-01 11:59:00"},
		"an expired snapshot":   {func(d *regtest.DebArchive, a *Archive) { d.Until, a.Snapshot = now.Add(-time.Minute), now }, ""},
		"a snapshot that moved": {func(_ *regtest.DebArchive, a *Archive) { a.Snapshot = now.Add(-2 * time.Hour) }, "the release is of 2026-08-01 11:00:00, which is after the snapshot"},
		"without an end":        {func(d *regtest.DebArchive, _ *Archive) { d.Until = time.Time{} }, ""},
		"another suite":         {func(_ *regtest.DebArchive, a *Archive) { a.Suite = "stable" }, "no such file"},
		"no architecture":       {func(d *regtest.DebArchive, _ *Archive) { d.Arches = "amd64 s390x" }, "has no architecture arm64"},
		"no component":          {func(_ *regtest.DebArchive, a *Archive) { a.Components = []string{"contrib"} }, "has no component contrib"},
		"no keyring":            {func(_ *regtest.DebArchive, a *Archive) { a.Keyring = "/nowhere" }, "keyring: open /nowhere"},
		"no key in it":          {func(_ *regtest.DebArchive, a *Archive) { a.Keyring = os.DevNull }, "the signature of InRelease is not valid: "},
	} {
		dir := t.TempDir()
		d, a := good, archive(t, dir)
		a.Keyring = keyring
		c.change(&d, a)
		if err := d.Write(dir); err != nil {
			t.Fatal(err)
		}
		x, err := a.Index(t.Context(), "arm64")
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %s", name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		list, err := x.Resolve([]string{"app"}, &System{})
		if err != nil || len(list) != 2 || list[0].Version != "1:1.0-2" || list[0].Path != "pool/main/a/app/app_1.0-2_arm64.deb" || list[1].Name != "base0" {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		if _, err := x.Resolve([]string{"only0"}, &System{}); err == nil {
			t.Errorf("%s: a package of another architecture is found", name)
		}
	}
	// A file that was changed after it was signed, and the release of another suite.
	dir := t.TempDir()
	if err := good.Write(dir); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "dists/testing/InRelease")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	regtest.Lay(t, dir, map[string]string{"dists/stable/InRelease": string(text)})
	a := archive(t, dir)
	a.Keyring, a.Suite = keyring, "stable"
	if _, err := a.Index(t.Context(), "arm64"); err == nil || !strings.Contains(err.Error(), `the release is of the suite "testing" ("testing")`) {
		t.Errorf("another suite: %v", err)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(text), "Suite: testing", "Suite: Testing", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	a = archive(t, dir)
	a.Keyring = keyring
	if _, err := a.Index(t.Context(), "arm64"); err == nil || !strings.Contains(err.Error(), "BAD signature") {
		t.Errorf("a changed file: %v", err)
	}
}

// An index with another sum than in the release, or of another form, is an error.
func TestBadReleases(t *testing.T) {
	good := "Suite: a\nCodename: b\nArchitectures: amd64\nComponents: main\nDate: Sat, 01 Aug 2026 11:00:00 UTC\nSHA256:\n " + strings.Repeat("ab", 32) + " 1 main/binary-amd64/Packages.xz\n"
	of, err := parseRelease([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if path, _, ok := of.index("main", "amd64"); path != "main/binary-amd64/Packages.xz" || !ok {
		t.Error(path)
	}
	// The security archive of Debian.
	if of, err = parseRelease([]byte(strings.Replace(good, "Components: main", "Components: updates/main updates/contrib", 1))); err != nil {
		t.Fatal(err)
	}
	if err := of.check(&Archive{Suite: "a", Components: []string{"main"}}, time.Now()); err != nil {
		t.Error(err)
	}
	if err := of.check(&Archive{Suite: "a", Components: []string{"non-free"}}, time.Now()); err == nil || !strings.Contains(hint.Of(err), "main, contrib") {
		t.Errorf("%v, %s", err, hint.Of(err))
	}
	for from, to := range map[string]string{"Date: Sat": "Date: Yesterday", "abab": "xbab", " 1 main": " main", "\nSHA256": "\nValid-Until: never\nSHA256", "Suite: a\n": "Suite: a\n\nSuite: b\n"} {
		if _, err := parseRelease([]byte(strings.Replace(good, from, to, 1))); err == nil {
			t.Errorf("%q in place of %q is no error", to, from)
		}
	}
	for _, text := range []string{"", "<html>", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSuite: a"} {
		content, err := unsign([]byte(text))
		if err == nil {
			_, err = parseRelease(content)
		}
		if err == nil {
			t.Errorf("%q is no error", text)
		}
	}
	if _, err := ParseSnapshot("20260801T000000Z"); err != nil {
		t.Error(err)
	}
	if _, err := ParseSnapshot("2026-08-01"); err == nil {
		t.Error("a day is a snapshot")
	}
}

// A server that answers with something else is named in the error.
func TestLoginPage(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in</html>")) }))
	defer s.Close()
	a := archive(t, s.URL)
	a.Unsigned = true
	a.Text = func(context.Context, string) (string, error) { return "<html>log in</html>", nil }
	if _, err := a.Index(t.Context(), "arm64"); err == nil || !strings.Contains(err.Error(), s.URL+" testing: InRelease: line 1: ") {
		t.Error(err)
	}
}
