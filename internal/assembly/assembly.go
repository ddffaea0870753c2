// Package assembly makes a [manifest.Assembly] of what a user writes: sources, platforms and
// annotations on a command line, and the file of manifest-tool.
package assembly

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
)

// AddItems adds an item for each SOURCE[=PLATFORM]. All errors are reported at once.
func AddItems(as *manifest.Assembly, args []string) error {
	var errs []error
	for _, arg := range args {
		ref, declared := cutDeclared(arg)
		item := manifest.Item{Ref: ref}
		if declared != "" {
			var err error
			if item.Platform, err = platform.Declared(declared); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", arg, err))
			}
		}
		as.Items, errs = append(as.Items, item), append(errs, places.CheckImage(item.Ref))
	}
	return errors.Join(errs...)
}

// cutDeclared splits SOURCE=PLATFORM. A local place may contain a =, so for it the text
// after the last = is a platform only if it is a valid one, the rest is a valid place,
// and the = does not belong to the place's option platform=.
func cutDeclared(arg string) (ref, declared string) {
	at := strings.LastIndexByte(arg, '=')
	if at < 0 {
		return arg, ""
	}
	ref, declared = arg[:at], arg[at+1:]
	if local.Is(arg) {
		_, bad := local.Parse(ref)
		if _, err := platform.Declared(declared); err != nil || bad != nil || strings.HasSuffix(ref, ",platform") {
			return arg, ""
		}
	}
	return ref, declared
}

// AddRemovals adds platforms and digests to remove. Platforms are stored in canonical
// spelling.
func AddRemovals(as *manifest.Assembly, args []string) error {
	var errs []error
	for _, arg := range args {
		if h, err := v1.NewHash(arg); err == nil {
			as.Remove = append(as.Remove, h.String())
			continue
		}
		p, err := platform.Parse(arg)
		errs, as.Remove = append(errs, err), append(as.Remove, platform.Key(p))
	}
	return errors.Join(errs...)
}

// SetAnnotation parses [index:|PLATFORM:]KEY=VALUE and adds it to the assembly. If set is
// false, the text has no value, and a nil value tells the assembly to remove the key.
func SetAnnotation(as *manifest.Assembly, text string, set bool) error {
	way := "write KEY=VALUE, index:KEY=VALUE or linux/arm64:KEY=VALUE; mabuild manifest annotate --remove-annotation KEY removes one"
	if !set {
		way = "write KEY, index:KEY or linux/arm64:KEY"
	}
	of, rest := CutScope(text)
	key, value, ok := strings.Cut(rest, "=")
	switch {
	case key == "":
		return hint.New(hint.Usage, way, "annotation %q has no key", text)
	case set && !ok:
		return hint.New(hint.Usage, way, "annotation %q has no value", text)
	case ok && !set:
		return hint.New(hint.Usage, way, "annotation %q has a value, but only its key is removed", text)
	}
	into := &as.Annotations
	if of != "" && of != "index" {
		p, err := platform.Parse(of)
		if err != nil {
			return hint.New(hint.Usage, way, "annotation %q: %q is not a platform", text, of)
		}
		if as.ChildAnnotations == nil {
			as.ChildAnnotations = map[string]map[string]*string{}
		}
		own := as.ChildAnnotations[platform.Key(p)]
		into = &own
		// own may be nil and replaced below, so it is stored at the end.
		defer func() { as.ChildAnnotations[platform.Key(p)] = *into }()
	}
	if *into == nil {
		*into = map[string]*string{}
	}
	if (*into)[key] = nil; set {
		(*into)[key] = &value
	}
	return nil
}

// CutScope splits an annotation into prefix and rest. The prefix is the text before a
// colon in the key: index, manifest, a platform, or anything else, which the caller
// rejects. So a key with a colon needs a prefix.
func CutScope(text string) (of, rest string) {
	key, _, _ := strings.Cut(text, "=")
	if colon := strings.LastIndex(key, ":"); colon >= 0 { // as in windows/amd64:10.0
		if _, err := platform.Parse(key[:colon]); err == nil {
			return key[:colon], text[colon+1:]
		}
	}
	if of, _, scoped := strings.Cut(key, ":"); scoped {
		return of, text[len(of)+1:]
	}
	return "", text
}

// AddTemplate adds an item for each platform. The placeholders are replaced by the
// parts of the platform as the user typed it, since upstream's names use these spellings.
func AddTemplate(as *manifest.Assembly, template string, platforms []string) error {
	var errs []error
	for _, typed := range platforms {
		typed = strings.TrimSpace(typed)
		p, err := platform.Declared(typed)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		as.Items = append(as.Items, manifest.Item{Ref: platform.Fill(template, typed), Platform: p})
	}
	return errors.Join(errs...)
}

// anotherKey matches the beginning of the next annotation in a list.
var anotherKey = regexp.MustCompile(`,([A-Za-z0-9._/:-]+=)`)

// SplitAnnotations splits lists of KEY=VALUE at commas, as manifest-tool does. A comma
// without a key after it belongs to the value.
func SplitAnnotations(lists []string) []string {
	var all []string
	for _, list := range lists {
		all = append(all, strings.Split(anotherKey.ReplaceAllString(list, "\x00$1"), "\x00")...)
	}
	return all
}
