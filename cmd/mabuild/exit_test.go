package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/crosscompile"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/authfile"
	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/rootfs"
	"github.com/mabuild/mabuild/internal/serve"
	"github.com/mabuild/mabuild/internal/yamlconf"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/local"
	"github.com/mabuild/mabuild/manifest/platform"
	"github.com/mabuild/mabuild/manifest/registry"
)

// inside lists the error types and sentinels of other packages that cannot be made here,
// with where they are tested, and those that no command ends with.
var inside = map[string]string{
	"build.errForgotten":       "no command ends with it",
	"build.errAlone":           "no command ends with it",
	"build.errForeseen":        "no command ends with it",
	"build.lateError":          "holds the error that a command ends with",
	"publish.errOnlyKey":       "no command ends with it",
	"records.untrustedError":   "in a warning, and within the error of --require-cache, which has its code",
	"baseimage.Error":          "as build.BaseError",
	"specerr.Error":            "as build.SpecError",
	"templates.errNotPlain":    "in a SpecError",
	"templates.unknownValue":   "in a SpecError",
	"check.Error":              "a level of findings",
	"kube.errExcluded":         "in an error of place",
	"kube.errNotProduct":       "in an error of place",
	"kube.errNothingCommon":    "in an error of place",
	"kube.errOddShape":         "in an error of place",
	"kube.errShared":           "in an error of place",
	"webhook.statusError":      "in the log of the webhook",
	"layerfile.errChanged":     "no command ends with it",
	"debian.errLarge":          "in an error of a package or an index",
	"unchanged.errUnlisted":    "no command ends with it",
	"mirrorfile.errNoEntries":  "in a Problem",
	"crosscompile.noGo":        "TestErrors, as ErrNoGo",
	"local.placed":             "names the place of other errors",
	"local.errFound":           "ends a search",
	"mirror.errNotPlain":       "no command ends with it",
	"transport.Error":          "as registry.Error",
	"transport.ErrCredentials": "as registry.ErrCredentials",
	"address.Error":            "in an Error of a request",
	"transport.closedError":    "in an Error",
	"registry.errContentRange": "in an Error",
	"transport.errPlain":       "in an Error",
	"transport.errSilent":      "in an Error",
	"registry.errUnlisted":     "in an Error",
	"registry.errUndeletable":  "in an Error",
	"registry.errTooDeep":      "is a manifest.ErrMismatch",
	"registry.errTooLarge":     "in an Error",
	"registry.mirrorError":     "in an Error",
	"transport.proxyError":     "in an Error",
	"transport.refused":        "in an Error",
	"registry.replyLost":       "in an Error",
	"regtest.errStruck":        "of tests",
	"rootfs.errLayers":         "in a LayerError",
	"rootfs.errLinks":          "in a LayerError",
	"serve.readError":          "an answer of the server",
	"serve.errReads":           "a row of a page",
	"verify.ErrMismatch":       "becomes manifest.ErrMismatch or cache.ErrCorrupt",
	"verify.mismatch":          "as above",
	"registry.badNameError":    "as name.ErrBadName below",
	"hint.PartialError":        "below, around others",
	"plan.errNoCheckout":       "in a usage error",
	"sign.ErrUnsigned":         "in a verdict of attest",
	"main.interrupted":         "has a code of its own",
}

// codes has the exit code of every type of error and of every sentinel that can be made
// here, alone and around what it may wrap. A key is the package and the type,
// and after a space what it wraps.
func codes() map[string]struct {
	err  error
	code int
} {
	type row = struct {
		err  error
		code int
	}
	other := errors.New("other")
	server := &registry.Error{Op: http.MethodGet, Host: "example.com", Status: http.StatusServiceUnavailable}
	denied := &registry.Error{Op: http.MethodGet, Host: "example.com", Status: http.StatusUnauthorized}
	_, badReference := (&registry.Client{}).Get(context.Background(), "example.com:0/x")
	_, badName := name.NewTag("")
	corrupt := &registry.Error{Op: http.MethodGet, Host: "example.com", Err: manifest.ErrMismatch}
	return map[string]row{
		"build.BaseError":                      {&build.BaseError{Ref: "x", Err: other}, exitUsage},
		"build.BaseError registry":             {&build.BaseError{Ref: "x", Err: server}, exitRegistry},
		"build.BaseError denied":               {&build.BaseError{Ref: "x", Err: denied}, exitCredentials},
		"build.BaseError mismatch":             {&build.BaseError{Ref: "x", Err: corrupt}, exitContent},
		"build.BaseError missing":              {&build.BaseError{Ref: "x", Err: fmt.Errorf("%w: %w", manifest.ErrNotFound, server)}, exitUsage},
		"build.BaseError obsolete":             {&build.BaseError{Ref: "x", Err: manifest.ErrObsolete}, exitContent},
		"build.BaseError layer":                {&build.BaseError{Ref: "x", Err: &rootfs.LayerError{Err: rootfs.ErrBudget}}, exitContent},
		"build.DebuggerError":                  {&build.DebuggerError{}, exitUsage},
		"build.PlatformError":                  {&build.PlatformError{Err: other}, exitBuild},
		"build.PlatformError link":             {&build.PlatformError{Err: hint.New(hint.Build, "", "x")}, exitBuild},
		"build.PlatformError registry":         {&build.PlatformError{Err: server}, exitRegistry},
		"build.PlatformError spec":             {&build.PlatformError{Err: &build.SpecError{}}, exitUsage},
		"build.SpecError":                      {&build.SpecError{}, exitUsage},
		"crosscompile.CommandError":            {&crosscompile.CommandError{Args: []string{"build"}, Err: other}, exitBuild},
		"crosscompile.ErrNoGo":                 {crosscompile.ErrNoGo, exitBuild},
		"crosscompile.PackageError":            {&crosscompile.PackageError{}, exitUsage},
		"crosscompile.PackageError network":    {&crosscompile.PackageError{Unreachable: true}, exitBuild},
		"crosscompile.TargetError":             {&crosscompile.TargetError{}, exitUsage},
		"manifest.AssemblyError":               {&manifest.AssemblyError{Err: other}, exitUsage},
		"manifest.AssemblyError missing":       {&manifest.AssemblyError{Err: fmt.Errorf("%w: %w", manifest.ErrNotFound, server)}, exitUsage},
		"manifest.ErrMismatch":                 {manifest.ErrMismatch, exitContent},
		"manifest.ErrMismatch in usage":        {fmt.Errorf("x: %w", invalid(manifest.ErrMismatch)), exitContent},
		"manifest.ErrNotFound":                 {manifest.ErrNotFound, exitBuild},
		"manifest.ErrObsolete":                 {manifest.ErrObsolete, exitContent},
		"manifest.ErrUnanswered":               {manifest.ErrUnanswered, exitBuild},
		"manifest.PlatformError":               {&manifest.PlatformError{}, exitBuild},
		"manifest.PlatformError in usage":      {invalid(&manifest.PlatformError{}), exitUsage},
		"local.AbsentError":                    {&local.AbsentError{}, exitContent},
		"local.SeveralError":                   {&local.SeveralError{}, exitUsage},
		"platform.ParseError":                  {&platform.ParseError{}, exitUsage},
		"registry.ErrCredentials":              {registry.ErrCredentials, exitCredentials},
		"registry.Error":                       {server, exitRegistry},
		"registry.Error denied":                {denied, exitCredentials},
		"registry.Error mismatch":              {corrupt, exitContent},
		"registry.Error in usage":              {fmt.Errorf("x: %w", invalid(server)), exitUsage},
		"registry.badNameError made":           {badReference, exitUsage},
		"name.ErrBadName":                      {badName, exitUsage},
		"authfile.HelperError":                 {&authfile.HelperError{Err: other}, exitCredentials},
		"attest.ErrNoSBOM":                     {attest.ErrNoSBOM, exitBuild},
		"attest.ErrNoProvenance":               {attest.ErrNoProvenance, exitBuild},
		"main.programError":                    {&programError{command: "docker", code: 7}, 7},
		"authfile.ErrHostsAlone":               {authfile.ErrHostsAlone, exitBuild},
		"cache.ErrCorrupt":                     {cache.ErrCorrupt, exitBuild},
		"yamlconf.Problem":                     {&yamlconf.Problem{Err: other}, exitBuild},
		"yamlconf.Problem in usage":            {invalid(&yamlconf.Problem{Err: other}), exitUsage},
		"guard.Panic":                          {&guard.Panic{}, exitBuild},
		"intree.ErrGit":                        {intree.ErrGit, exitBuild},
		"intree.ErrIrregular":                  {intree.ErrIrregular, exitBuild},
		"intree.ErrOutside":                    {intree.ErrOutside, exitBuild},
		"rootfs.ErrBudget":                     {rootfs.ErrBudget, exitBuild},
		"rootfs.ErrPath":                       {rootfs.ErrPath, exitBuild},
		"rootfs.ErrRead":                       {rootfs.ErrRead, exitBuild},
		"rootfs.LayerError":                    {&rootfs.LayerError{Err: other}, exitContent},
		"serve.ErrInUse":                       {serve.ErrInUse, exitBuild},
		"serve.Error":                          {&serve.Error{}, exitBuild},
		"main.errTimeout":                      {errTimeout, exitBuild},
		"hint.Kind":                            {hint.Content, exitContent},
		"hint.Error build":                     {&hint.Error{Err: other}, exitBuild},
		"hint.Error content":                   {hint.New(hint.Content, "", "x"), exitContent},
		"hint.Error credentials":               {hint.New(hint.Credentials, "", "x"), exitCredentials},
		"hint.Error registry":                  {hint.New(hint.Registry, "", "x"), exitRegistry},
		"hint.Error of what it wraps":          {&hint.Error{Err: server, Hint: "x"}, exitRegistry},
		"hint.Error":                           {usage("", "x"), exitUsage},
		"hint.Error alone":                     {invalid(manifest.ErrMismatch), exitUsage},
		"hint.PartialError around":             {hint.PartialError{Err: server}, exitPartly},
		"errors.Join the first alone":          {errors.Join(server, manifest.ErrMismatch), exitRegistry},
		"errors.Join in usage alone":           {invalid(errors.Join(server, manifest.ErrMismatch)), exitUsage},
		"fmt.wrapErrors the worst counts":      {fmt.Errorf("%w and %w", server, manifest.ErrMismatch), exitContent},
		"fmt.wrapErrors usage before registry": {fmt.Errorf("%w and %w", server, usage("", "x")), exitUsage},
		"syscall.ENOSPC":                       {syscall.ENOSPC, exitBuild},
	}
}

// Every type of error, and every sentinel, has the exit code of the table, and a row there.
func TestExitCodes(t *testing.T) {
	rows := map[string]bool{}
	for what, row := range codes() {
		kind, _, _ := strings.Cut(what, " ")
		rows[kind] = true
		if row.err == nil {
			t.Errorf("%s: no error", what)
		}
		all := []error{row.err, errors.Join(row.err, errors.New("second")), fmt.Errorf("app: %w", row.err)}
		if strings.HasSuffix(what, " alone") { // the outermost error gives the code
			all = all[:1]
		}
		for _, err := range all {
			if code := exitCode(err); code != row.code {
				t.Errorf("%s (%T): exit code %d, want %d", what, err, code, row.code)
			}
		}
	}
	found := errorNames(t)
	for _, kind := range found {
		if !rows[kind] && inside[kind] == "" {
			t.Errorf("%s has no row: say here with which code a command ends with it", kind)
		}
	}
	for kind := range inside {
		if !slices.Contains(found, kind) {
			t.Errorf("inside has %s, which does not exist", kind)
		}
	}
	for kind := range rows {
		if pkg, _, _ := strings.Cut(kind, "."); !slices.Contains([]string{"name", "errors", "fmt", "syscall"}, pkg) && !slices.Contains(found, kind) {
			t.Errorf("there is a row for %s, which does not exist", kind)
		}
	}
	if len(found) < 40 {
		t.Errorf("only %v", found)
	}
}

// errorNames returns the types that are errors (they have a method Error, or embed an
// error) and the variables that hold one, each with its package.
func errorNames(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{"testdata", "examples", "judge"}, d.Name()) || strings.HasPrefix(d.Name(), ".") && d.Name() != ".."):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			for _, name := range errorsIn(decl) {
				all = append(all, f.Name.Name+"."+name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func errorsIn(decl ast.Decl) (names []string) {
	if fn, ok := decl.(*ast.FuncDecl); ok {
		if fn.Recv == nil || fn.Name.Name != "Error" || fn.Type.Params.NumFields() != 0 {
			return nil
		}
		of := fn.Recv.List[0].Type
		if star, ok := of.(*ast.StarExpr); ok {
			of = star.X
		}
		return []string{of.(*ast.Ident).Name}
	}
	for _, spec := range decl.(*ast.GenDecl).Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s, ok := spec.Type.(*ast.StructType)
			if ok && slices.ContainsFunc(s.Fields.List, embedsError) || isErrorAlias(spec) {
				names = append(names, spec.Name.Name)
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if strings.HasPrefix(strings.ToLower(name.Name), "err") && name.Name != "errs" && name.Name != "err" {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// isErrorAlias reports whether a type is a public name of an error of an internal package.
func isErrorAlias(spec *ast.TypeSpec) bool {
	of, ok := spec.Type.(*ast.SelectorExpr)
	return ok && spec.Assign.IsValid() && strings.HasSuffix(of.Sel.Name, "Error")
}

func embedsError(f *ast.Field) bool {
	if len(f.Names) > 0 {
		return false
	}
	of := f.Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if selector, ok := of.(*ast.SelectorExpr); ok {
		of = selector.Sel
	}
	id, ok := of.(*ast.Ident)
	return ok && (id.Name == "error" || strings.HasSuffix(id.Name, "Error"))
}
