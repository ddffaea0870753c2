package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/text"
)

// statusSchema is the file that describes /status.json.
const statusSchema = "../../docs/status.schema.json"

// observed returns an observer with two entries, of which one has failed. All its texts
// are what.
func observed(t *testing.T, what string) *mirror.Observer {
	t.Helper()
	o := mirror.NewObserver(func(*mirror.Report) error { return nil })
	o.Expect([]*mirror.Entry{{Name: what, Image: what, Targets: []string{what, what}}, {Name: "waits", Image: "up.example/app"}})
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	report := &mirror.Report{Started: now, Seconds: 1.25, Copied: 1, Failed: 1, Bytes: 1234, Entries: []mirror.EntryReport{{Name: what, Images: []mirror.Result{
		{Source: what, Target: what, Status: mirror.Failed, Why: what},
		{Source: what, Target: what, Status: mirror.Copied, Why: what, Digest: "sha256:0123", Was: what, Backup: what, Platforms: []string{"linux/amd64", what}, Absent: []string{"linux/arm64"}, Bytes: 1234},
		{Source: what, Target: what, Status: mirror.Unchanged},
	}}}}
	o.Begin(what, now)
	if err := o.Observe(what, report, []mirror.Problem{{Message: what, Hint: what}}, []mirror.Quota{{Registry: what, Remaining: 76, Limit: 100, Seconds: 21600}}); err != nil {
		t.Fatal(err)
	}
	o.Schedule(what, now.Add(6*time.Hour))
	return o
}

// answered returns the answer of a mirror, five minutes after its last run.
func answered(o *mirror.Observer, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	now := func() time.Time { return time.Date(2026, 11, 29, 12, 5, 0, 0, time.UTC) }
	statusHandler(o, now).ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

// The pages say what the entries do, and what failed with its way out.
func TestMirrorPages(t *testing.T) {
	o := observed(t, "flannel")
	for path, wanted := range map[string][]string{
		"/": {
			`<a href="/entry?name=flannel">flannel</a>`, "<small>from flannel</small>", "1 entry fails", ">failed</span>", "5 min ago", "took 1.2 s", "in 5 h 55 min",
			"76 of 100", "pulls left at flannel, per 6 h", "<p>flannel</p>", "What to do: flannel", "1.2 kB", `<meta http-equiv="refresh" content="30">`, ">waiting</span>", "never",
		},
		"/entry?name=flannel": {"Last run", "2026-11-29 12:00 UTC, 5 min ago, took 1.2 s", "linux/amd64", ">missing<", ">?<", "1.2 kB sent", ">unchanged</span>", "before: flannel", `content="30"`},
		"/entry?name=waits":   {"No run of this entry has ended yet.", ">waiting</span>"},
	} {
		r := answered(o, http.MethodGet, path)
		for _, want := range wanted {
			if r.Code != 200 || !strings.Contains(r.Body.String(), want) {
				t.Errorf("%s: %d, no %q in %s", path, r.Code, want, r.Body.String()[strings.Index(r.Body.String(), "<body>"):])
			}
		}
	}
	if r := answered(o, http.MethodGet, "/entry?name=none"); r.Code != 404 || !strings.Contains(r.Body.String(), "no entry of this name") {
		t.Errorf("%d %s", r.Code, r.Body)
	}
}

// Nothing can be changed through --listen.
func TestMirrorPagesAreReadOnly(t *testing.T) {
	o := observed(t, "flannel")
	for _, path := range []string{"/", "/entry?name=flannel", "/status.json", "/metrics", "/healthz"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			if r := answered(o, method, path); r.Code != 405 || !strings.Contains(r.Header().Get("Allow"), "GET") {
				t.Errorf("%s %s: %d", method, path, r.Code)
			}
		}
		if r := answered(o, http.MethodHead, path); r.Code != 200 {
			t.Errorf("HEAD %s: %d", path, r.Code)
		}
	}
	for _, path := range []string{"/", "/status.json"} {
		if h := answered(o, http.MethodGet, path).Header(); !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// Text of registries and files is text on the pages, and no password is on them.
func TestHostileMirror(t *testing.T) {
	bad := "<script>alert(1)</script>\u202e\x00\x1b[31m https://user:hunter2@up.example/x user:hunter2@reg.example" + strings.Repeat("n", 10_000)
	o := observed(t, bad)
	link, _, _ := strings.Cut(strings.SplitN(answered(o, http.MethodGet, "/").Body.String(), `href="/entry`, 2)[1], `"`)
	for _, path := range []string{"/", "/entry" + html.UnescapeString(link), "/status.json"} {
		r := answered(o, http.MethodGet, path)
		body := r.Body.String()
		if r.Code != 200 || path != "/status.json" && strings.Contains(body, "<script") || strings.Contains(body, "hunter2") {
			t.Errorf("%.40s: %d, %t", path, r.Code, strings.Contains(body, "hunter2"))
		}
		for _, c := range body {
			if text.Steers(c) && c != '\n' && c != '\t' {
				t.Errorf("%.40s has %U", path, c)
				break
			}
		}
	}
}

// docs/status.schema.json is the schema of /status.json.
func TestStatusSchema(t *testing.T) {
	status := schemaOf(t, reflect.TypeFor[mirror.Status]())
	entry := status["properties"].(map[string]any)["entries"].(map[string]any)["items"].(map[string]any)
	entry["properties"].(map[string]any)["state"].(map[string]any)["enum"] = []string{mirror.Running, mirror.Scheduled, mirror.Waiting, mirror.Ended}
	status["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	status["title"] = "mabuild mirror --watch --listen: /status.json"
	status["description"] = "What a mirror does and has done since it was started. Keys may be added in later versions; existing ones keep their names and meanings."
	holdSchema(t, statusSchema, status)

	schema := readSchema(t, statusSchema)
	empty := mirror.NewObserver(nil)
	for name, o := range map[string]*mirror.Observer{"full": observed(t, "flannel"), "hostile": observed(t, "\x00\u202e\"\\"), "empty": empty} {
		raw := answered(o, http.MethodGet, "/status.json").Body.Bytes()
		if err := validated(schema, raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var s mirror.Status
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil || name == "hostile" && s.Entries[0].Last.Errors[0].Hint != "\x00\u202e\"\\" {
			t.Errorf("%s: %v, %+v", name, err, s)
		}
		for old, broken := range map[string]string{`"state": "scheduled"`: `"state": "asleep"`, `"remaining": 76`: `"remaining": "76"`, `"entries"`: `"other"`} {
			text := strings.Replace(string(raw), old, broken, 1)
			if text != string(raw) && validated(schema, []byte(text)) == nil {
				t.Errorf("%s: %s is accepted", name, broken)
			}
		}
	}
	if got := fmt.Sprint(answered(empty, http.MethodGet, "/status.json").Body); !strings.Contains(got, `"entries": []`) {
		t.Error(got)
	}
}
