package transport

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service="s",scope="repository:a:pull"`)
	f.Add(`Basic realm=x, Bearer realm="\""`)
	f.Fuzz(func(t *testing.T, line string) {
		to := New(Config{})
		h := to.Registry("registry.example.com")
		for _, one := range parseChallenges(http.Header{"Www-Authenticate": {line}}) {
			realm, err := to.auth.parseRealm(h, one.params["realm"])
			if err == nil && realm.Scheme != "https" {
				t.Errorf("a token server at %s", realm)
			}
			if err == nil && to.auth.trusts(h, realm) && realm.Hostname() != "example.com" && !strings.HasSuffix(strings.ToLower(realm.Hostname()), ".example.com") && !strings.EqualFold(realm.Hostname(), "example.com") {
				t.Errorf("credentials for %s", realm)
			}
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, seed := range []string{"2", "-1", "", "1e9", "99999999999999999999", "Fri, 02 Jan 2026 03:05:05 GMT"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if d := parseRetryAfter(value, now); d != unsaid && (d < 0 || d > 365*24*time.Hour) {
			t.Errorf("%q: %v", value, d)
		}
	})
}

func FuzzLocation(f *testing.F) {
	for _, seed := range []string{"/v2/x", "//evil.org/x", "https://r.example.com:443/x", "http://r.example.com/", "https://r.example.com@evil.org/", "https://R.EXAMPLE.COM\\@evil.org"} {
		f.Add(seed)
	}
	from := &url.URL{Scheme: "https", Host: "r.example.com", Path: "/v2/a/blobs/uploads/"}
	f.Fuzz(func(t *testing.T, location string) {
		resp := &http.Response{Request: &http.Request{URL: from}, Header: http.Header{"Location": {location}}}
		u := Location(resp)
		if u == nil || !sameOrigin(from, u) {
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Scheme != "https" || !strings.EqualFold(again.Hostname(), "r.example.com") || again.User != nil || portOf(again) != "443" {
			t.Errorf("credentials for %q go to %s", location, u)
		}
	})
}

// What a Link header says of the next page is a query and nothing else. A link that was
// read is read the same when it is written down again, alone, behind another and in a
// header of its own.
func FuzzLink(f *testing.F) {
	for _, seed := range []string{
		`</v2/a/tags/list?last=b&n=2>; rel="next"`, `<?last=b>;rel=next`, `<https://evil.example/?last=b>; REL = "prev Next"`,
		`<a>; rel=first, <?n=1&last=x,y>; title="a,b\"c"; rel="next"`, `<?a=1>; rel=next; anchor="#x"`, `<?a`, `,,;`, `<>; rel=next`, `<?a=1>; rel='next'`, `<?a=%zz>; rel=next`,
		`<>;rel=0'`, `<>;rel=''next''`, `<>;rel="'next'"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		h := http.Header{"Link": {line}}
		all, ok := parseLinks(h)
		query, broken := NextPage(h)
		if len(query) > 0 && broken || query != nil && len(query) == 0 {
			t.Fatalf("%q: %v, %t", line, query, broken)
		}
		at := (&url.URL{Scheme: "https", Host: "r.example.com", Path: "/v2/a/tags/list"})
		at.RawQuery = query.Encode()
		if again, err := url.Parse(at.String()); err != nil || again.Host != at.Host || again.Path != at.Path || again.Fragment != "" {
			t.Errorf("%q leads to %s", line, at)
		}
		if next := strings.Contains(strings.ToLower(line), "next"); !ok && query == nil && next != broken {
			t.Errorf("%q ends the listing: next %t, broken %t", line, next, broken)
		}
		for _, one := range all {
			if one.anchor || strings.ContainsAny(one.target, "<>") || strings.ContainsAny(strings.Join(one.rels, ""), `"\`) {
				continue
			}
			text := `<` + one.target + `>; rel="` + strings.Join(one.rels, " ") + `"`
			for _, h := range []http.Header{{"Link": {text}}, {"Link": {`<x>; title="a, <b>";rel=x , ` + text}}, {"Link": {`<x>; rel=y`, text + `,`}}} {
				back, ok := parseLinks(h)
				if !ok || back[len(back)-1].target != one.target || strings.Join(back[len(back)-1].rels, " ") != strings.Join(one.rels, " ") {
					t.Errorf("%q: %+v is written %q and read %+v", line, one, text, back)
				}
			}
		}
	})
}
