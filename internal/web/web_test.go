package web_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/internal/web"
)

// hostile is text that breaks a page that takes it for more than text: markup for each
// place of a template, control characters, marks of bidirectional text, invalid UTF-8, a
// password and ten kilobytes.
var hostile = `"'><script>alert(1)</script><img src=x onerror=alert(1)>javascript:alert(1)</style></title>` + "`{{.}}\x00\x1b[31m\u202e\u2066\u200f\u2028\xff&lt; https://user:hunter2@host.example/ " + strings.Repeat("long/", 2000)

// fill sets all strings of a value to what, and gives lists three items and pointers a
// value.
func fill(v reflect.Value, what string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(what)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), what)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i), what)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, what)
		fill(value, what)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if _, ok := v.Interface().(time.Time); ok {
			v.Set(reflect.ValueOf(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), what)
			}
		}
	}
}

// filled returns a page of each kind, whose texts are all what. The addresses of links are
// not: this program makes them.
func filled(what string) map[web.Kind]web.Page {
	type entry struct {
		Time   time.Time
		Entry  mirror.EntryStatus
		Matrix web.Matrix
	}
	type check struct {
		Workloads, Images, Ignored int
		Platforms                  []string
		Levels                     []struct {
			Name, Plural string
			N            int
		}
		Files []struct {
			Name     string
			Findings []struct {
				Level, Message, Hint, Template, Rule, Workload, Container, Image string
				Line, Column                                                     int
			}
		}
	}
	pages := map[web.Kind]web.Page{}
	for kind, data := range map[web.Kind]any{
		web.Message: &web.Text{}, web.Repositories: &web.Listing{}, web.Repository: &web.Tags{}, web.Image: &web.View{},
		web.Inspect: &web.Report{}, web.Mirror: &mirror.Status{}, web.Entry: &entry{}, web.Check: &check{},
	} {
		fill(reflect.ValueOf(data).Elem(), what)
		if r, ok := data.(*web.Report); ok { // a report of one image has another head
			r.Matrix = web.NewMatrix("Image", []web.Inspected{{Report: r.Views[0].Report}, {State: what, Problem: what}})
		}
		pages[kind] = web.Page{Kind: kind, Title: what, Footer: what, Path: []web.Link{{Text: what, To: "/"}}, Refresh: 30 * time.Second, Data: data}
	}
	return pages
}

func draw(t testing.TB, p web.Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := web.Write(&b, p); err != nil {
		t.Fatalf("%s: %v", p.Kind, err)
	}
	return b.String()
}

// structure returns the elements and attributes of a page, without their values, and its
// texts and values.
func structure(t testing.TB, page string) (shape, texts []string, links []string) {
	t.Helper()
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch kind := z.Next(); kind {
		case html.ErrorToken:
			if z.Err() != io.EOF { //nolint:errorlint // the tokenizer documents it
				t.Fatal(z.Err())
			}
			return shape, texts, links
		case html.TextToken:
			texts = append(texts, string(z.Text()))
		default:
			token := z.Token()
			shape = append(shape, kind.String()+" "+token.Data)
			for _, a := range token.Attr {
				shape = append(shape, a.Key)
				if a.Key == "href" || a.Key == "src" {
					links = append(links, a.Val)
				} else {
					texts = append(texts, a.Val)
				}
			}
		}
	}
}

// elements and attributes are what the templates use.
var (
	elements   = strings.Fields("html head meta title style body header strong nav span a main footer h1 h2 h3 p div table thead tbody tr th td small dl dt dd ul li b pre code br doctype")
	attributes = strings.Fields("lang charset name content http-equiv class href title role tabindex aria-label scope colspan id rel")
)

// Text of others is text on every page: no element or attribute comes from it, nothing in
// it steers the browser, each text is bounded, and passwords are gone.
func TestHostileText(t *testing.T) {
	for kind, p := range filled(hostile) {
		page := draw(t, p)
		shape, texts, links := structure(t, page)
		for _, s := range shape {
			_, name, ok := strings.Cut(s, " ")
			if ok && !slices.Contains(elements, name) && name != "html" || !ok && !slices.Contains(attributes, s) {
				t.Errorf("%s has %q", kind, s)
			}
		}
		for _, s := range texts {
			// A list of three has commas, and a sentence has words of its own.
			if len(s) > 3*4096+200 && !strings.Contains(s, "color-scheme: light dark") {
				t.Errorf("%s has a text of %d bytes", kind, len(s))
			}
		}
		for _, r := range page {
			if text.Steers(r) && r != '\n' && r != '\t' {
				t.Errorf("%s has the rune %U", kind, r)
				break
			}
		}
		if !strings.Contains(page, `\u202e`) || strings.Contains(page, "hunter2") {
			t.Errorf("%s does not show a mark of bidirectional text, or shows a password", kind)
		}
		for _, link := range links {
			if u, err := url.Parse(link); err != nil || u.Scheme != "" || u.Host != "" {
				t.Errorf("%s has a link to %.60q", kind, link)
			}
		}
		if len(page) > 2<<20 {
			t.Errorf("%s has %d bytes", kind, len(page))
		}
	}
}

// A page has the same elements whatever its texts are.
func FuzzText(f *testing.F) {
	kinds := slices.Sorted(maps.Keys(filled("")))
	want := map[web.Kind][]string{}
	for kind, p := range filled(strings.Repeat("x", 200)) {
		want[kind], _, _ = structure(f, draw(f, p))
	}
	for i, s := range []string{hostile, "<b>", "\u202e\x00", "{{.}}", "a:b@c", "--><!--"} {
		f.Add(s, uint8(i))
	}
	f.Fuzz(func(t *testing.T, s string, n uint8) {
		kind := kinds[int(n)%len(kinds)]
		page := draw(t, filled(s + strings.Repeat("x", 200))[kind])
		if got, _, _ := structure(t, page); !slices.Equal(got, want[kind]) {
			t.Fatalf("%s: %q changes the elements", kind, s)
		}
		for _, r := range page {
			if text.Steers(r) && r != '\n' && r != '\t' {
				t.Fatalf("%s: %q gives %U", kind, s, r)
			}
		}
	})
}

// The policy permits the stylesheet by its hash, and a file has the same policy without
// what only a header can say. There is no other style and no script.
func TestPolicy(t *testing.T) {
	for kind, p := range filled("text") {
		page := draw(t, p)
		if strings.Count(page, "<style>") != 1 || strings.Contains(page, " style=") || strings.Contains(page, "<script") || strings.Contains(page, "unsafe") {
			t.Errorf("%s has styles or scripts of its own", kind)
		}
		if !strings.Contains(page, `http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;sha256-`) {
			t.Errorf("%s has no policy:\n%.600s", kind, page)
		}
	}
	r := get(t, http.MethodGet)
	css, _, _ := strings.Cut(strings.SplitN(r.Body.String(), "<style>", 2)[1], "</style>")
	want := "default-src 'none'; style-src 'sha256-" + sum(css) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if got := r.Header().Get("Content-Security-Policy"); got != want {
		t.Errorf("the policy is %s, want %s", got, want)
	}
	if strings.Contains(r.Body.String(), "Content-Security-Policy") {
		t.Error("a served page has the policy in its text, too")
	}
}

func sum(css string) string {
	sum := sha256.Sum256([]byte(css))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func get(t *testing.T, method string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	web.Handler(func(*http.Request) (int, web.Page) { return http.StatusTeapot, web.Say("Head", "Text") }).
		ServeHTTP(w, httptest.NewRequest(method, "/", nil))
	return w
}

// A page can be read, and nothing else. Its headers protect it in a browser.
func TestHandler(t *testing.T) {
	for method, want := range map[string]int{"GET": 418, "HEAD": 418, "POST": 405, "PUT": 405, "DELETE": 405, "OPTIONS": 405, "PATCH": 405} {
		r := get(t, method)
		if r.Code != want || (want == 405) != (r.Header().Get("Allow") == "GET, HEAD") {
			t.Errorf("%s: %d, Allow %q", method, r.Code, r.Header().Get("Allow"))
		}
		for name, value := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := r.Header().Get(name); got != value {
				t.Errorf("%s: %s is %q", method, name, got)
			}
		}
	}
}

// Only a client that prefers a page gets one.
func TestPreferred(t *testing.T) {
	for accept, want := range map[string]bool{
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": true,
		"text/html": true, "TEXT/HTML; q=0.5": true, "*/*": false, "": false, "text/*": false,
		"application/json": false, "application/json, text/html;q=0.9": false, "text/html;q=0, */*": false,
		"text/html;q=x":                     false,
		"application/json;q=0.1, text/html": true,
		"application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*": false,
	} {
		if got := web.Preferred(http.Header{"Accept": {accept}}); got != want {
			t.Errorf("%q: %t", accept, got)
		}
	}
}

// A matrix has a bounded number of columns, in the order of platforms, and counts the
// others.
func TestMatrixColumns(t *testing.T) {
	cells := map[string]web.Cell{"strange": {Text: "1"}}
	for i := range 40 {
		cells["linux/a"+strings.Repeat("x", i)] = web.Cell{Text: "1"}
	}
	cells["linux/amd64"], cells["linux/arm64"], cells["windows/amd64"] = web.Cell{Text: "a"}, web.Cell{Text: "b"}, web.Cell{}
	m := web.Fill("Tag", []web.Row{{}, {Unread: true}}, []map[string]web.Cell{cells, {"linux/amd64": {Text: "a"}}})
	if len(m.Columns) != 24 || !slices.Equal(m.Rows[0].Notes, []string{"and 20 more platforms"}) || len(m.Rows[1].Notes) > 0 {
		t.Errorf("%d columns, notes %q", len(m.Columns), m.Rows[0].Notes)
	}
	if at := slices.Index(m.Columns, "linux/amd64"); m.Rows[1].Cells[at].Text != "a" || m.Rows[1].Cells[at+1].Text != "?" {
		t.Errorf("%v %v", m.Columns, m.Rows[1].Cells)
	}
	if got := slices.SortedFunc(maps.Keys(map[string]bool{"x": true, "linux/arm64": true, "a": true, "linux/amd64": true}), web.ByPlatform); !slices.Equal(got, []string{"linux/amd64", "linux/arm64", "a", "x"}) {
		t.Errorf("%v", got)
	}
}
