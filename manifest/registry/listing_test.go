package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// A catalogue is a registry with its own way of listing names.
type catalogue struct {
	names    []string
	page     int // most names on a page; 0: no limit
	refuse   int // a larger n is refused with 400; negative refuses every n
	code     string
	link     func(req *http.Request, last string) http.Header // the Link header of a page that is not the last; nil: none
	deaf     bool                                             // to n
	noLast   bool                                             // ignores last
	requests []string
}

func (c *catalogue) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c.requests = append(c.requests, req.URL.RawQuery)
	query := req.URL.Query()
	n, err := strconv.Atoi(query.Get("n"))
	if err == nil && c.refuse != 0 && n > c.refuse {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"invalid number of results requested"}]}`, c.code)
		return
	}
	if err != nil || c.deaf {
		n = len(c.names)
	}
	if c.page > 0 {
		n = min(n, c.page)
	}
	from := 0
	if last := query.Get("last"); last != "" && !c.noLast {
		at, found := slices.BinarySearch(c.names, last)
		if from = at; found {
			from++
		}
	}
	names := c.names[from:min(from+n, len(c.names))]
	if c.link != nil && from+n < len(c.names) {
		for key, values := range c.link(req, names[len(names)-1]) {
			w.Header()[key] = values
		}
	}
	key := map[bool]string{true: "tags", false: "repositories"}[strings.HasSuffix(req.URL.Path, "/tags/list")]
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(name)
	}
	fmt.Fprintf(w, `{%q:[%s]}`, key, strings.Join(quoted, ","))
}

func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("v%05d", i)
	}
	return names
}

// linked makes the Link header of text, in which %s is the query of the next page.
func linked(lines ...string) func(*http.Request, string) http.Header {
	return func(req *http.Request, last string) http.Header {
		query := "n=" + req.URL.Query().Get("n") + "&last=" + last
		h := http.Header{}
		for _, line := range lines {
			h.Add("Link", strings.NewReplacer("%s", query, "%p", req.URL.Path).Replace(line))
		}
		return h
	}
}

// A listing is read completely, whatever kind of links the registry uses, or ends in an
// error with the reason.
func TestListings(t *testing.T) {
	const standard = `<%p?%s>; rel="next"`
	for name, one := range map[string]struct {
		registry catalogue
		want     int    // names; all of them if 0
		wrong    string // in the error
		requests int    // 0: any number
	}{
		"one page":                               {registry: catalogue{names: numbered(5)}, requests: 1},
		"nothing":                                {registry: catalogue{}, requests: 1},
		"999, no link":                           {registry: catalogue{names: numbered(999)}, requests: 1},
		"1000, no link":                          {registry: catalogue{names: numbered(1000)}, requests: 2},
		"3500, no link":                          {registry: catalogue{names: numbered(3500)}, requests: 4},
		"3000, no link":                          {registry: catalogue{names: numbered(3000)}, requests: 4},
		"links":                                  {registry: catalogue{names: numbered(3500), link: linked(standard)}, requests: 4},
		"links, the last page is full":           {registry: catalogue{names: numbered(3000), link: linked(standard)}, requests: 3},
		"links, pages of its own size":           {registry: catalogue{names: numbered(350), page: 100, link: linked(standard)}, requests: 4},
		"deaf to n":                              {registry: catalogue{names: numbered(1500), deaf: true}, requests: 2},
		"deaf to n and last":                     {registry: catalogue{names: numbered(1500), deaf: true, noLast: true}, requests: 2},
		"deaf to n and last, just full":          {registry: catalogue{names: numbered(1000), deaf: true, noLast: true}, requests: 3},
		"deaf to last":                           {registry: catalogue{names: numbered(1500), noLast: true}, wrong: "only the first 1000, without a link"},
		"a page limit":                           {registry: catalogue{names: numbered(350), refuse: 500, code: "PAGINATION_NUMBER_INVALID", link: linked(standard)}, requests: 5},
		"a page limit, no link":                  {registry: catalogue{names: numbered(350), refuse: 500, code: "PAGINATION_NUMBER_INVALID"}, requests: 5},
		"a low page limit":                       {registry: catalogue{names: numbered(350), refuse: 50, page: 50, code: "PAGINATION_NUMBER_INVALID", link: linked(`<%p?last=v00049>; rel=next`)}, wrong: "back to an earlier page"},
		"no page size at all":                    {registry: catalogue{names: numbered(350), refuse: -1, page: 50, code: "PAGINATION_NUMBER_INVALID"}, requests: 10},
		"a page limit without a code of its own": {registry: catalogue{names: numbered(350), refuse: 500, code: "UNKNOWN"}, requests: 5},
		"absolute":                               {registry: catalogue{names: numbered(2500), link: linked(`<https://elsewhere.example%p?%s>; rel="next"`)}, requests: 3},
		"a query alone":                          {registry: catalogue{names: numbered(2500), link: linked(`<?%s>;rel=next`)}, requests: 3},
		"relative to the page":                   {registry: catalogue{names: numbered(2500), link: linked(`<list?%s>; rel=next`)}, requests: 3},
		"unquoted":                               {registry: catalogue{names: numbered(2500), link: linked(`<%p?%s>;rel=next`)}, requests: 3},
		"capitals":                               {registry: catalogue{names: numbered(2500), link: linked(`<%p?%s>; REL="Next"`)}, requests: 3},
		"spaces":                                 {registry: catalogue{names: numbered(2500), link: linked(`  <%p?%s>  ;  rel  =  "next"  `)}, requests: 3},
		"several relations":                      {registry: catalogue{names: numbered(2500), link: linked(`<%p?%s>; rel="last next"`)}, requests: 3},
		"other parameters":                       {registry: catalogue{names: numbered(2500), link: linked(`<%p?%s>; title="a, b; rel=prev"; rel="next"; type=x`)}, requests: 3},
		"several links in one header":            {registry: catalogue{names: numbered(2500), link: linked(`<%p?n=1>; rel="first", <%p?%s>; rel="next", <%p?n=9>; rel="last"`)}, requests: 3},
		"several headers":                        {registry: catalogue{names: numbered(2500), link: linked(`<%p?n=1>; rel="prev"`, `<%p?%s>; rel="next"`)}, requests: 3},
		"a comma in the target":                  {registry: catalogue{names: numbered(2500), link: linked(`<%p?x=a,b&n=1>; rel=prev, <%p?%s&x=a,b>; rel=next`)}, requests: 3},
		"the first relation counts":              {registry: catalogue{names: numbered(999), page: 500, link: linked(`<%p?%s>; rel=prev; rel=next`)}, want: 500},
		"about another document":                 {registry: catalogue{names: numbered(999), page: 500, link: linked(`<%p?%s>; rel=next; anchor="/x"`)}, want: 500},
		"to itself":                              {registry: catalogue{names: numbered(2500), link: linked(`<%p?n=1000>; rel="next"`)}, wrong: "back to an earlier page"},
		"in a circle":                            {registry: catalogue{names: numbered(2500), link: linked(`<%p?last=v00002>; rel="next"`), page: 2}, wrong: "back to an earlier page"},
		"to nowhere":                             {registry: catalogue{names: numbered(2500), link: linked(`<%p>; rel="next"`)}, wrong: "is invalid"},
		"no target":                              {registry: catalogue{names: numbered(2500), link: linked(`%p?%s; rel="next"`)}, wrong: "is invalid"},
		"not closed":                             {registry: catalogue{names: numbered(2500), link: linked(`<%p?%s>; rel="next`)}, wrong: "is invalid"},
		"links of others that are broken":        {registry: catalogue{names: numbered(5), page: 4, link: linked(`preload`)}, want: 4},
	} {
		for what, list := range map[string]func(*registry.Client, string) ([]string, error){
			"tags":         func(c *registry.Client, host string) ([]string, error) { return c.Tags(t.Context(), host+"/app") },
			"repositories": func(c *registry.Client, host string) ([]string, error) { return c.Repositories(t.Context(), host) },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				r := one.registry
				server := httptest.NewServer(&r)
				defer server.Close()
				got, err := list(client(t), server.Listener.Addr().String())
				if one.wrong != "" {
					if !errors.Is(err, manifest.ErrMismatch) || !strings.Contains(err.Error(), one.wrong) || !strings.Contains(err.Error(), what) {
						t.Fatalf("got %d names, %v", len(got), err)
					}
					return
				}
				want := r.names
				if one.want > 0 {
					want = want[:one.want]
				}
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("got %d names of %d, %v", len(got), len(want), err)
				}
				if one.requests > 0 && len(r.requests) != one.requests {
					t.Errorf("%d requests: %q", len(r.requests), r.requests)
				}
			})
		}
	}
}

// If a registry refuses every page size, the error says so, and not that it does not list
// its repositories.
func TestPageLimitAlwaysRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"errors":[{"code":"PAGINATION_NUMBER_INVALID","message":"no"}]}`)
	}))
	defer server.Close()
	_, err := client(t).Repositories(t.Context(), server.Listener.Addr().String())
	if err == nil || strings.Contains(err.Error(), "does not list") || !strings.Contains(err.Error(), "PAGINATION_NUMBER_INVALID") {
		t.Errorf("got %v", err)
	}
}

// Referrers are also read completely or not at all.
func TestReferrersInACircle(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		w.Header().Set("Link", `<`+req.URL.Path+`?page=1>; rel="next"`)
		fmt.Fprint(w, `{"schemaVersion":2,"manifests":[]}`)
	}))
	defer server.Close()
	host := server.Listener.Addr().String()
	_, err := client(t).Referrers(t.Context(), host+"/app:v1", digestOf(t, regtest.Image(t, "amd64", 10, 1)))
	if !errors.Is(err, manifest.ErrMismatch) || !strings.Contains(err.Error(), "back to an earlier page") {
		t.Errorf("got %v", err)
	}
}
