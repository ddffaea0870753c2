package format

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/check"
	"github.com/mabuild/mabuild/internal/text"
)

// The page has the findings by file, with text of manifests and registries as text.
func TestHTML(t *testing.T) {
	bad := "<script>alert(1)</script>\u202e\x1b[31m https://user:hunter2@reg.example/x"
	r := &check.Result{Workloads: 2, Images: 1, Ignored: 3, Platforms: []string{"linux/amd64", bad}, Findings: []check.Finding{
		{Rule: "platform-missing", Level: check.Error, Message: "first " + bad, Hint: bad, File: "a.yaml", Line: 7, Column: 3, Template: bad, Workload: bad, Container: bad, Image: bad},
		{Rule: "not-found", Level: check.Unverified, Message: "second", File: "a.yaml"},
		{Rule: "affinity-or", Level: check.Warning, Message: "third", File: "b.yaml", Line: 1, Column: 1},
	}}
	var b bytes.Buffer
	if err := Formats["html"](&b, r, Options{Version: "v1.2.3"}); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{
		"2 workloads and 1 image on linux/amd64", ">7:3</td>", `<span class="state fail">error</span>`, `<span class="state idle">unverified</span>`,
		`<span class="state warn">warning</span>`, "What to do: &lt;script&gt;", "<b>3</b><span>ignored</span>", "version v1.2.3", ">a.yaml</h2>", ">b.yaml</h2>", `\u202e\u001b[31m`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in %s", want, page[strings.Index(page, "<body>"):])
		}
	}
	if strings.Count(page, "<h2") != 2 || strings.Contains(page, "<script") || strings.Contains(page, "hunter2") {
		t.Error(page)
	}
	for _, c := range page {
		if text.Steers(c) && c != '\n' && c != '\t' {
			t.Errorf("the page has %U", c)
		}
	}
}
