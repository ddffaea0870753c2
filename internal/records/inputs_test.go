package records

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Inputs come back from their annotation with their differences, and secrets do not.
func TestInputs(t *testing.T) {
	in := map[string]string{"go": "go1.26.8", "package": "example.com/app", "platform": "linux/amd64", "flags": "-X main.token=s3cret", "file main.go": "abc", "file gone.go": "1"}
	packed := packInputs(in)
	was := unpackInputs(packed)
	if was["go"] != "go1.26.8" || len(was["flags"]) != 8 || len(was) != len(in) {
		t.Errorf("%v", was)
	}
	is := InputsOf(map[string]string{"go": "go1.27", "package": "example.com/app", "platform": "linux/amd64", "flags": "-X main.token=s3cret", "file main.go": "abd", "file new.go": "1"})
	if got, want := is.Differences(was), []string{"file gone.go", "file main.go", "file new.go", "go"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := base64.StdEncoding.EncodeToString(w.EncodeAll([]byte(`{"a":"`+strings.Repeat("a", maxPacked)+`"}`), nil))
	for _, text := range []string{"", "x", "eA==", packed[:len(packed)/2], bomb} {
		if got := unpackInputs(text); got != nil {
			t.Errorf("%.20q gives %d inputs", text, len(got))
		}
	}
}
