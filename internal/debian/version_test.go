package debian

import (
	"flag"
	"math/rand"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "ask dpkg, and write its answers")

// answers is the file with what dpkg says about the pairs of randomVersion: a character each.
const answers = "testdata/dpkg"

// randomVersion returns a version. It is short and of few characters, so that many are nearly
// the same.
func randomVersion(r *rand.Rand) string {
	part := func(characters string, most int) string {
		b := make([]byte, 1+r.Intn(most))
		for i := range b {
			b[i] = characters[r.Intn(len(characters))]
		}
		return string(b)
	}
	version := ""
	if r.Intn(4) == 0 {
		version = part("012", 2) + ":"
	}
	version += part("0123", 2)
	if r.Intn(3) > 0 {
		version += part("0019aAz.+~-.", 6)
	}
	if r.Intn(2) == 0 {
		version += "-" + part("012ab.+~", 4)
	}
	if strings.HasSuffix(version, "-") { // dpkg refuses it
		version += "1"
	}
	return version
}

// Compare agrees with dpkg about 10,000 random pairs. -update asks dpkg.
func TestCompareAgreesWithDpkg(t *testing.T) {
	const pairs = 10_000
	r := rand.New(rand.NewSource(1))
	want, err := os.ReadFile(answers)
	if err != nil && !*update {
		t.Fatal(err)
	}
	var got strings.Builder
	var list [][2]string
	for range pairs {
		a, b := randomVersion(r), randomVersion(r)
		list = append(list, [2]string{a, b})
		got.WriteByte("<=>"[Compare(a, b)+1])
		if Compare(b, a) != -Compare(a, b) {
			t.Errorf("%s and %s are not ordered", a, b)
		}
	}
	if *update {
		want = dpkg(t, list)
		if err := os.WriteFile(answers, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(want) != pairs {
		t.Fatalf("%s has %d answers", answers, len(want))
	}
	for i, pair := range list {
		if want[i] != got.String()[i] {
			t.Errorf("%s %c %s, but dpkg says %c", pair[0], got.String()[i], pair[1], want[i])
		}
	}
	if equal := strings.Count(string(want), "="); equal < 20 || equal > pairs/2 {
		t.Errorf("%d pairs are equal", equal)
	}
}

// dpkg compares pairs of versions by the real dpkg.
func dpkg(t *testing.T, list [][2]string) []byte {
	t.Helper()
	var in strings.Builder
	for _, pair := range list {
		in.WriteString(pair[0] + " " + pair[1] + "\n")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `while read -r a b; do
		if dpkg --compare-versions "$a" lt "$b"; then printf '<'; elif dpkg --compare-versions "$a" eq "$b"; then printf '='; else printf '>'; fi
	done`)
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Where dpkg is, it still gives the answers of the file.
func TestDpkgGivesTheAnswers(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	want, err := os.ReadFile(answers)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewSource(1))
	var list [][2]string
	for range 100 {
		a := randomVersion(r)
		list = append(list, [2]string{a, randomVersion(r)})
	}
	if got := dpkg(t, list); string(got) != string(want[:100]) {
		t.Errorf("%s, want %s", got, want[:100])
	}
}

// The order of the examples of Debian Policy, section 5.6.12, and others.
func TestCompare(t *testing.T) {
	order := []string{"~~", "~~a", "~", "", "0.9~rc1", "0.9~rc1-1", "0.9", "0.9-1", "0.9-1+b1", "0.9-1.1", "0.9+dfsg-1", "0.10", "a", "1:0", "99999999999999999999:1"}
	for i, a := range order {
		for j, b := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := Compare(a, b); got != want {
				t.Errorf("%q and %q: %d, want %d", a, b, got, want)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "0:1.0"}, {"1.0", "1.00"}, {"1.0-0", "1.0"}, {"01", "1"}} {
		if Compare(same[0], same[1]) != 0 {
			t.Errorf("%s and %s differ", same[0], same[1])
		}
	}
}

// Versions are ordered, whatever they are.
func FuzzCompare(f *testing.F) {
	f.Add("1:2.36-9+deb12u9", "1:2.36-9+deb12u10", "2.36~rc1")
	f.Add("", "~", "-:-")
	f.Add("0", "0:", "00")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if Compare(a, a) != 0 || Compare(a, b) != -Compare(b, a) {
			t.Errorf("%q and %q: %d, %d", a, b, Compare(a, b), Compare(b, a))
		}
		if Compare(a, b) <= 0 && Compare(b, c) <= 0 && Compare(a, c) > 0 {
			t.Errorf("%q, %q and %q are not ordered", a, b, c)
		}
	})
}
