package kube

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/manifest/platform"
)

// A Reader reads the files and directories of a command line.
type Reader struct {
	Stdin io.Reader
	// Note gets what the user should know about a directory; nil discards it.
	Note func(message string)
	// Recursive reads the directories below a directory, too.
	Recursive bool
	// Skim drops the trees of the documents, as the function does.
	Skim bool
	// Whole makes a document that is no object an error in a directory as well.
	Whole bool
}

// Stdin is the name of the file that standard input is.
const Stdin = "standard input"

// extensions are those of files that are read in a directory.
var extensions = []string{".yaml", ".yml", ".json"}

// kustomizations are names of the file that makes a directory a kustomization.
var kustomizations = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// Read reads the streams that names name: a file, a directory or - for standard input. All
// errors are reported at once. In a directory, a hidden file and a link to a directory are
// not followed, and a document that is no object is left out; in a file that was named it is
// an error.
func (r *Reader) Read(names []string) ([]*File, error) {
	var files []*File
	var errs []error
	for _, name := range names {
		more, err := r.read(name)
		files, errs = append(files, more...), append(errs, err)
	}
	return files, errors.Join(errs...)
}

func (r *Reader) read(name string) ([]*File, error) {
	if name == "-" {
		data, err := io.ReadAll(io.LimitReader(r.Stdin, MaxFile+1))
		if err != nil {
			return nil, hint.New(hint.Usage, "", "standard input: %w", err)
		}
		f, err := r.parse(Stdin, data, true)
		return one(f), err
	}
	info, err := os.Stat(name)
	if err != nil {
		way := "name a file, a directory or - for standard input"
		if at := strings.LastIndex(name, "/"); IsReference(name) && strings.Contains(name[at+1:], ":") {
			way = "mabuild inspect --require PLATFORMS " + name + " checks an image"
		}
		if list, perr := platform.ParseList([]string{name}); perr == nil && strings.HasPrefix(name, list[0].OS+"/") && slices.Contains([]string{"linux", "windows"}, list[0].OS) {
			way = "separate platforms by commas: --platform linux/amd64," + name
		}
		return nil, hint.New(hint.Usage, way, "%w", err)
	}
	if !info.IsDir() {
		f, err := r.file(name, true)
		return one(f), err
	}
	return r.directory(name)
}

func one(f *File) []*File {
	if f == nil {
		return nil
	}
	return []*File{f}
}

// directory reads the files of a directory in lexical order.
func (r *Reader) directory(dir string) ([]*File, error) {
	var files []*File
	var errs []error
	seen := false
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			errs = append(errs, hint.New(hint.Usage, "", "%w", err))
			return nil
		case d.IsDir():
			if name != dir && (strings.HasPrefix(d.Name(), ".") || !r.Recursive) {
				return filepath.SkipDir
			}
			return r.special(name, &errs)
		case strings.HasPrefix(d.Name(), ".") || !slices.Contains(extensions, filepath.Ext(name)) || slices.Contains(kustomizations, d.Name()):
			return nil
		}
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			return nil // a link to nothing or to a directory, or a pipe
		}
		seen = true
		f, err := r.file(name, r.Whole)
		if f != nil {
			files = append(files, f)
		}
		errs = append(errs, err)
		return nil
	})
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if !seen {
		return nil, hint.New(hint.Usage, "files of manifests end in .yaml, .yml or .json", "%s: no manifest in this directory", dir)
	}
	return files, nil
}

// special handles directories whose files are no manifests yet: charts, which are skipped
// with an error, and kustomizations.
func (r *Reader) special(dir string, errs *[]error) error {
	if _, err := os.Stat(filepath.Join(dir, "Chart.yaml")); err == nil {
		*errs = append(*errs, hint.New(hint.Usage, fmt.Sprintf("helm template %s | mabuild check -", dir), "%s: this is a chart, whose templates are not manifests", dir))
		return filepath.SkipDir
	}
	for _, name := range kustomizations {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil && r.Note != nil {
			r.Note(fmt.Sprintf("%s has a kustomization, which changes these files: kubectl kustomize %s prints the result", dir, dir))
			break
		}
	}
	return nil
}

// file reads one file. whole makes a document that is no object an error.
func (r *Reader) file(name string, whole bool) (*File, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, hint.New(hint.Usage, "", "%w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(in, MaxFile+1))
	if err != nil {
		return nil, hint.New(hint.Usage, "", "%w", err)
	}
	return r.parse(name, data, whole)
}

func (r *Reader) parse(name string, data []byte, whole bool) (*File, error) {
	f, err := parse(name, data, r.Skim)
	if err != nil || !whole {
		return f, err
	}
	var errs []error
	for _, doc := range f.Docs {
		if doc.Root.Kind != yaml.MappingNode && len(errs) < maxProblems {
			errs = append(errs, f.wrong(doc.Position(doc.Root).Line, "", "the document is not an object"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return f, nil
}
