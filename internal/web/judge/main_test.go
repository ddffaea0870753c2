package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

const good = `<!doctype html><html lang="en"><head><meta name="viewport" content="width=device-width"><title>t</title><link rel="icon" href="data:,">
<style>body { background: #fafaf8; color: #222; margin: 0 } %s @media (prefers-color-scheme: dark) { body { background: #121518; color: #eee } } @media print { body { background: #fff; color: #000 } }</style></head>
<body><h1>Head</h1>%s</body></html>`

// The judge finds each fault, and none in a good page.
func TestFaults(t *testing.T) {
	faults := map[string]struct{ style, body, want string }{
		"good":     {"", "<p>text</p>", ""},
		"wide":     {"p { width: 2000px }", "<p>text</p>", "pixels wide in a window of"},
		"faint":    {"p { color: #777 }", "<p>text</p>", "the contrast of \"text\" is"},
		"script":   {"", "<script>console.log('x')</script>", "the page has a script"},
		"console":  {"", "<script>console.error('x')</script>", "the console has a message of type error"},
		"throws":   {"", "<script>throw new Error('x')</script>", "an exception"},
		"policy":   {"", `<img src="/x.png" alt="">`, "an issue: ContentSecurityPolicyIssue"},
		"no style": {"body { background: #fff !important }", "<p>text</p>", "the stylesheet does not apply"},
		"heads":    {"", "<h1>Second</h1>", "the page does not have one h1"},
		"gone":     {"", "<p>text</p>", "has status 404"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.ReplaceAll(strings.TrimPrefix(r.URL.Path, "/"), "_", " ")
		fault, ok := faults[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if name == "policy" {
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
		}
		if name == "gone" {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprintf(w, good, fault.style, fault.body)
	}))
	defer server.Close()
	ctx, stop := browser(t.Context())
	defer stop()
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	for name, c := range faults {
		problems, err := run(ctx, []string{"page=" + server.URL + "/" + strings.ReplaceAll(name, " ", "_")}, "", false, "")
		text := strings.Join(problems, "\n")
		if err != nil || c.want == "" && text != "" || !strings.Contains(text, c.want) {
			t.Errorf("%s: %v, want %q in:\n%s", name, err, c.want, text)
		}
	}
	// A page of another height is found by the golden file.
	golden := filepath.Join(t.TempDir(), "golden")
	if err := os.WriteFile(golden, []byte("page light 360 700\npage light 1280 810\npage dark 360 800\npage print 718 800\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	problems, err := run(ctx, []string{"page=" + server.URL + "/good"}, golden, false, "")
	if text := strings.Join(problems, "\n"); err != nil || strings.Count(text, "the golden one") != 2 || !strings.Contains(text, "page light 360: the page is 800 pixels high, and the golden one 700") {
		t.Errorf("%v\n%s", err, text)
	}
}
