package debian

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"

	"github.com/mabuild/mabuild/internal/hint"
)

// maxChosen bounds the packages that Resolve chooses.
const maxChosen = 5000

// A System is a set of packages that are installed. The zero value has none.
type System struct {
	installed map[string]member
	providers map[string][]string // names of packages, by what they provide
}

// A member is an installed package.
type member struct {
	version, provides string
	ofBase            bool // of the base image
}

// says says for errors where a package is.
func (m member) says(name string) string {
	if m.ofBase {
		return "the base image has " + describe(name, m.version)
	}
	return describe(name, m.version) + " is installed, too"
}

// add adds a package.
func (s *System) add(name, version, provided string, ofBase bool) {
	if s.installed == nil {
		s.installed, s.providers = map[string]member{}, map[string][]string{}
	}
	s.installed[name] = member{version, provided, ofBase}
	groups, err := relations(provided)
	if err != nil {
		return // a base may have anything
	}
	for _, group := range groups {
		s.providers[group[0].name] = append(s.providers[group[0].name], name)
	}
}

// Has reports whether a package is installed.
func (s *System) Has(name string) bool {
	_, ok := s.installed[name]
	return ok
}

// clone returns a copy.
func (s *System) clone() *System {
	c := &System{}
	for name, m := range s.installed {
		c.add(name, m.version, m.provides, m.ofBase)
	}
	return c
}

// satisfies reports whether a relation is fulfilled.
func (s *System) satisfies(r relation) bool {
	m, ok := s.installed[r.name]
	return ok && r.allows(m.version) || slices.ContainsFunc(s.providers[r.name], func(name string) bool { return provides(s.installed[name].provides, r) })
}

// satisfiesAny reports whether one of a group is fulfilled.
func (s *System) satisfiesAny(group []relation) bool { return slices.ContainsFunc(group, s.satisfies) }

// tooOld returns the error of a group that the system does not fulfil, since it has another
// version of one. It is nil if it has none of them.
func (s *System) tooOld(by string, group []relation) error {
	for _, r := range group {
		if m, ok := s.installed[r.name]; ok {
			return hint.New(hint.Usage, "use a base image of the same release, or an older snapshot or suite", "%s depends on %s, but %s", by, join(group), m.says(r.name))
		}
	}
	return nil
}

// Resolve returns the packages that a base image lacks of those that install names, and of
// those that they depend on, sorted by name. For each dependency that nothing fulfils yet,
// it takes the first alternative that the archive has, and that does not replace a package
// of the base. Recommended packages are left out. It joins the errors of all packages.
func (x *Index) Resolve(install []string, base *System) ([]Package, error) {
	r := &resolution{index: x, system: base.clone(), chosen: map[string]*Package{}}
	for _, name := range install {
		r.root(name)
	}
	for len(r.queue) > 0 && len(r.chosen) <= maxChosen {
		next := r.queue[0]
		r.queue = r.queue[1:]
		r.follow(next)
	}
	if len(r.chosen) > maxChosen {
		r.fail(hint.New(hint.Usage, "", "more than %d packages", maxChosen))
	}
	var list []Package
	for _, p := range r.chosen {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range list {
		r.fail(conflict(p.Name, p.Version, p.conflicts, r.system))
	}
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return list, nil
}

// A resolution is one call of Resolve.
type resolution struct {
	index  *Index
	system *System
	chosen map[string]*Package // by name
	queue  []*Package          // whose dependencies were not followed yet
	errs   []error
}

// fail notes an error.
func (r *resolution) fail(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// choose adds a package.
func (r *resolution) choose(p *Package) {
	r.chosen[p.Name] = p
	r.queue = append(r.queue, p)
	r.system.add(p.Name, p.Version, p.provides, false)
}

// root chooses a package that the user names.
func (r *resolution) root(name string) {
	if r.system.Has(name) {
		return
	}
	if p := r.index.newest(relation{name: name}); p != nil {
		r.choose(p)
		return
	}
	way := ""
	if list := r.index.providers[name]; len(list) > 0 {
		way = "name one of the packages that provide it: " + strings.Join(namesOf(list), ", ")
	} else if near := r.index.near(name); near != "" {
		way = "did you mean " + near + "?"
	}
	r.fail(hint.New(hint.Usage, way, "%s has no package %.100s for %s", r.index.From, name, r.index.Architecture))
}

// follow chooses what a package depends on.
func (r *resolution) follow(p *Package) {
	groups, err := relations(p.depends)
	if err != nil {
		r.fail(fmt.Errorf("%s: Depends: %w", p.Name, err))
		return
	}
	for _, group := range groups {
		if r.system.satisfiesAny(group) {
			continue
		}
		if next := r.candidate(group); next != nil {
			r.choose(next)
			continue
		}
		by := describe(p.Name, p.Version)
		if err := r.system.tooOld(by, group); err != nil {
			r.fail(err)
			continue
		}
		r.fail(hint.New(hint.Usage, "the suite may be incomplete; try another snapshot", "%s depends on %s, which %s does not have for %s", by, join(group), r.index.From, r.index.Architecture))
	}
}

// candidate returns the package that fulfils the first alternative that one fulfils.
func (r *resolution) candidate(group []relation) *Package {
	for _, one := range group {
		if one.architecture != "" && one.architecture != "any" && one.architecture != r.index.Architecture {
			continue
		}
		if r.system.Has(one.name) { // in another version
			continue
		}
		if p := r.index.newest(one); p != nil {
			return p
		}
		if p := r.index.provider(one); p != nil && !r.system.Has(p.Name) {
			return p
		}
	}
	return nil
}

// conflict returns an error if a package may not be beside one of a system. A package does
// not conflict with itself, also if it provides what it conflicts with.
func conflict(name, version, field string, s *System) error {
	groups, err := relations(field)
	if err != nil {
		return fmt.Errorf("%s: Conflicts: %w", name, err)
	}
	for _, group := range groups {
		for _, r := range group {
			if m, ok := s.installed[r.name]; ok && r.name != name && r.allows(m.version) {
				return hint.New(hint.Usage, "install only one of them", "%s conflicts with %s, and %s", describe(name, version), r, m.says(r.name))
			}
			for _, other := range s.providers[r.name] {
				if other != name && provides(s.installed[other].provides, r) {
					return hint.New(hint.Usage, "install only one of them", "%s conflicts with %s, which %s provides", describe(name, version), r, describe(other, s.installed[other].version))
				}
			}
		}
	}
	return nil
}

// namesOf returns the names of some packages, sorted and shortened.
func namesOf(list []*Package) []string {
	const most = 10
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), most)]
}

// near returns the name of a package that is nearly name, or "".
func (x *Index) near(name string) string {
	best, distance := "", 3
	for other := range x.packages {
		if d := levenshtein.Distance(name, other, nil); d < distance || d == distance && other < best {
			best, distance = other, d
		}
	}
	return best
}

// ChooseAgain is the hint if the packages of a lock do not fit a base image.
const ChooseAgain = "run mabuild lock --update, which chooses the packages again"

// missing returns the error of a group of which the image has nothing.
func missing(by string, group []relation) error {
	return hint.New(hint.Usage, ChooseAgain, "%s depends on %s, which neither the base image nor mabuild.lock has", by, join(group))
}
