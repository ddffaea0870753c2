package check

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/kube"
)

// ignore removes the findings that an annotation of their workload or an entry of the file
// hides, and adds one for each entry that is past its day or hides nothing.
func (c *Checker) ignore(workloads []*kube.Workload, findings []Finding) (kept []Finding, ignored int) {
	byWorkload := map[string][]string{}
	for _, w := range workloads {
		if rules, ok := strings.CutPrefix(w.Annotations[kube.AnnotationCheck], "ignore="); ok {
			byWorkload[w.String()] = append(byWorkload[w.String()], strings.FieldsFunc(rules, func(r rune) bool { return r == ',' || r == ' ' })...)
		}
	}
	used := make([]bool, len(c.Ignores))
	for _, f := range findings {
		hidden := f.Workload != "" && slices.Contains(byWorkload[f.Workload], f.Rule)
		for i, one := range c.Ignores {
			if one.matches(f) {
				used[i] = true
				hidden = hidden || !c.expired(one)
			}
		}
		if hidden {
			ignored++
		} else {
			kept = append(kept, f)
		}
	}
	for i, one := range c.Ignores {
		message := ""
		switch {
		case c.expired(one):
			message = fmt.Sprintf("the ignored finding %s ended on %s", one, one.Until.Format("2006-01-02"))
		case !used[i]:
			message = fmt.Sprintf("the ignored finding %s did not occur", one)
		default:
			continue
		}
		f := Finding{Rule: "ignore-unused", Level: Warning, Message: message, Hint: "remove the entry", File: one.Where}
		f.Workload = one.String()
		f.seal()
		f.Workload = ""
		kept = append(kept, f)
	}
	return kept, ignored
}

// expired reports whether the last day of an entry is over.
func (c *Checker) expired(i Ignore) bool {
	return !i.Until.IsZero() && c.Now.After(i.Until.AddDate(0, 0, 1))
}

// String names an entry by what it matches.
func (i Ignore) String() string {
	return strings.Join(slices.DeleteFunc([]string{i.Rule, i.Image, i.Workload}, func(s string) bool { return s == "" }), " ")
}

// withoutNamespace returns KIND/NAME of NAMESPACE/KIND/NAME.
func withoutNamespace(workload string) string {
	if strings.Count(workload, "/") == 2 {
		_, workload, _ = strings.Cut(workload, "/")
	}
	return workload
}

// matches reports whether i applies to a finding. Image and Workload are patterns of
// path.Match; an image matches with or without its tag.
func (i Ignore) matches(f Finding) bool {
	match := func(pattern string, names ...string) bool {
		return pattern == "" || slices.ContainsFunc(names, func(name string) bool {
			ok, err := path.Match(pattern, name)
			return err == nil && ok || pattern == name
		})
	}
	return (i.Rule == "" || i.Rule == f.Rule) && match(i.Image, f.Image, imageref.Cut(f.Image).Repository) && match(i.Workload, f.Workload, withoutNamespace(f.Workload))
}
