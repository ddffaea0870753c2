package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// noArgs rejects any argument. This and the next three replace cobra's own checks, whose
// messages do not say what an argument is.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd.CommandPath()+" --help", "%s takes no arguments, got %q", commandName(cmd), args[0])
	}
	return nil
}

// commandName returns the name of a command without mabuild, with which every error
// begins.
func commandName(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), "mabuild ")
}

// atLeastOne requires one or more arguments, which are called what in the error.
func atLeastOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage(cmd.UseLine(), "%s requires %s", commandName(cmd), what)
		}
		return nil
	}
}

// exactlyOne requires one argument.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage(cmd.UseLine(), "%s requires exactly one %s", commandName(cmd), what)
		}
		return nil
	}
}

// atMostOne accepts no or one argument.
func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usage(cmd.UseLine(), "%s takes at most one %s", commandName(cmd), what)
		}
		return nil
	}
}

// otherTools maps commands of similar tools to what mabuild has instead, for the hint
// after an unknown command.
var otherTools = map[string]string{
	"append":             "mabuild push --base IMAGE --file SRC:DST adds files to a base image",
	"attest":             "mabuild push --attest --sign KEY",
	"auth":               "mabuild login HOST",
	"bake":               "list the programs in .mabuild.yaml: mabuild config init",
	"buildx":             "mabuild push builds and publishes all platforms",
	"copy":               "mabuild mirror SOURCE TARGET",
	"cp":                 "mabuild mirror SOURCE TARGET",
	"deps":               "mabuild sbom IMAGE",
	"generate-key-pair":  "cosign generate-key-pair makes a key for mabuild push --sign",
	"keygen":             "cosign generate-key-pair makes a key for mabuild push --sign",
	"docs":               "mabuild COMMAND --help, or mabuild man DIR for the manual pages",
	"download":           "mabuild sbom IMAGE prints the SBOM; mabuild inspect --referrers IMAGE lists all that is attached",
	"digest":             "mabuild inspect --digest IMAGE",
	"export":             "mabuild mirror IMAGE oci-archive:FILE",
	"import":             "mabuild mirror oci-archive:FILE HOST/REPOSITORY copies an archive to a registry; mabuild config import converts .ko.yaml",
	"load":               "mabuild mirror docker-archive:FILE HOST/REPOSITORY copies an archive to a registry; mabuild build --load loads what it builds",
	"images":             "mabuild catalog HOST lists repositories, mabuild tags REPOSITORY their tags",
	"lint":               "mabuild config view checks .mabuild.yaml, mabuild check the manifests of Kubernetes",
	"validate":           "mabuild config view checks .mabuild.yaml, mabuild check the manifests of Kubernetes",
	"index":              "mabuild manifest create, or mabuild manifest add",
	"ko":                 "omit ko: mabuild push ./cmd/NAME, or mabuild resolve -f FILE",
	"list-tags":          "mabuild tags REPOSITORY",
	"imagetools":         "mabuild manifest create, or mabuild inspect",
	"init":               "mabuild config init writes .mabuild.yaml, mabuild config init mirror writes mirror.yaml",
	"publish":            "mabuild push",
	"pull":               "mabuild mirror IMAGE oci-archive:FILE",
	"retag":              "mabuild tag REPOSITORY:OLD NEW",
	"rm":                 "mabuild delete REPOSITORY:TAG",
	"rmi":                "mabuild delete REPOSITORY:TAG",
	"save":               "mabuild mirror IMAGE oci-archive:FILE",
	"sign":               "mabuild push --sign KEY",
	"sync":               "mabuild mirror -f FILE",
	"verify-attestation": "mabuild verify --require provenance",
	"untag":              "mabuild delete REPOSITORY:TAG",
}

// groupsOfOthers maps commands of a group to a hint about what mabuild has instead, and a
// group to the hint about any other word.
var groupsOfOthers = map[string]string{
	"cache clean":      "mabuild cache prune --max 0 empties the cache",
	"cache clear":      "mabuild cache prune --max 0 empties the cache",
	"cache ls":         "mabuild cache info",
	"config get":       "mabuild config view prints all values and where they come from",
	"config set":       "edit .mabuild.yaml, or set a flag or a variable for one run",
	"config show":      "mabuild config view",
	"config validate":  "mabuild config view checks the file, too",
	"config convert":   "mabuild config import .ko.yaml",
	"manifest delete":  "mabuild manifest remove INDEX PLATFORM, or mabuild delete IMAGE",
	"manifest list":    "mabuild inspect INDEX",
	"manifest ls":      "mabuild inspect INDEX",
	"manifest restore": restores,
	"manifest undo":    restores,
	"manifest push":    "manifest create and manifest add publish the index at once, so nothing is left to push; manifest push has manifest-tool's from-args and from-spec",
}

// flagsOfOthers maps flags of similar tools to what mabuild has instead, for the hint after
// an unknown flag. A key may begin with a command, or with builds for all commands that
// compile. A hint that begins with use and a flag is for the commands that have this flag.
var flagsOfOthers = map[string]string{
	"V":                           "use mabuild version",
	"append":                      "mabuild manifest add adds an image to an index",
	"arch":                        "use --platforms linux/arm64",
	"cache-from":                  "use --cache-repo REPOSITORY, or keep --cache DIR and Go's build cache",
	"cache-to":                    "use --cache-repo REPOSITORY, or keep --cache DIR and Go's build cache",
	"cgo-enabled":                 "use --cgo",
	"expose":                      "use --port 8080/tcp",
	"force":                       "omit it: mabuild asks nothing",
	"from":                        "use --base IMAGE",
	"goarch":                      "use --platforms linux/arm64",
	"goos":                        "use --platforms linux/arm64",
	"iidfile":                     "use --metadata-file FILE, or the reference on stdout",
	"L":                           loads,
	"local":                       loads,
	"oci-layout-path":             "mabuild build -o oci:DIR",
	"P":                           "use --platforms linux/amd64,linux/arm64",
	"registry":                    "use --repo HOST/PATH",
	"sbom-format":                 "use --sbom spdx or --sbom cyclonedx",
	"sign-key":                    "use --sign KEY",
	"vv":                          "use -vv, with one dash",
	"builds build-arg":            "mabuild compiles Go programs: use --ldflags, --build-tags or --build-env",
	"builds builder":              "omit it: the go command compiles here, without a builder",
	"builds f":                    "mabuild reads no Dockerfile: name the package, ./cmd/NAME",
	"builds image":                "use -t HOST/REPOSITORY:TAG",
	"builds key":                  "use --sign KEY",
	"builds name":                 "use -t HOST/REPOSITORY:TAG",
	"builds no-cache":             "mabuild compares what feeds a build each time; --cache DIR with an empty directory starts from nothing",
	"builds p":                    "mabuild run takes --run-flag=-p=8080:8080",
	"builds package":              "the program is an argument: mabuild push ./cmd/NAME",
	"builds pull":                 "mabuild resolves the base image in each run",
	"builds push":                 "mabuild push publishes, and mabuild build writes to local destinations",
	"builds secret":               "private modules need GOPRIVATE, and .netrc or the credentials of git",
	"builds shard":                "mabuild warm --shard divides the work; mabuild push publishes",
	"builds ssh":                  "private modules need GOPRIVATE, and the credentials of git",
	"builds tarball":              "use --output docker-archive:FILE",
	"builds target":               "name the package: mabuild push ./cmd/NAME",
	"apply context":               kubectlFlags,
	"apply k":                     kustomized + "apply -f -",
	"apply n":                     kubectlFlags,
	"apply push":                  publishes,
	"cache prune all":             "use --max 0",
	"check image":                 ofManifests,
	"check o":                     "use --format json",
	"config import allow-env":     "give it to mabuild push or mabuild build, which fill in templates",
	"config import force":         removeFirst,
	"config init force":           removeFirst,
	"create context":              kubectlFlags,
	"create k":                    kustomized + "create -f -",
	"create n":                    kubectlFlags,
	"create push":                 publishes,
	"delete f":                    "mabuild delete deletes images; kubectl delete -f FILE deletes objects",
	"delete force":                "omit it: mabuild asks nothing; --shared deletes images that other tags name",
	"manifest annotate arch":      declares,
	"manifest annotate label":     "use --annotation KEY=VALUE",
	"manifest annotate os":        declares,
	"manifest annotate variant":   declares,
	"manifest create amend":       "mabuild manifest add adds an image to an index, and with --replace it replaces one",
	"manifest create arch":        declares,
	"manifest create t":           "the first argument is the target: mabuild manifest create TARGET SOURCE…",
	"mirror all":                  "omit it: all platforms are copied",
	"mirror all-tags":             `name the tags in a file: mabuild config init mirror writes one; tags: {glob: "*"} are all`,
	"mirror dest":                 "the second argument is the target: mabuild mirror SOURCE TARGET",
	"mirror dest-creds":           logsIn,
	"mirror dest-tls-verify":      "use --insecure-registry HOST",
	"mirror entry":                "use --only ENTRIES",
	"mirror image":                "the images are arguments: mabuild mirror SOURCE TARGET",
	"mirror multi-arch":           "omit it: all platforms are copied; --platforms selects some",
	"mirror override-arch":        "use --platforms linux/arm64",
	"mirror preserve-digests":     "omit it: copies keep their digests",
	"mirror r":                    "use --referrers",
	"mirror src-creds":            logsIn,
	"mirror src-tls-verify":       "use --insecure-registry HOST",
	"mirror tarball":              "an archive may be the target: mabuild mirror IMAGE docker-archive:FILE",
	"place i":                     "use --write",
	"place image":                 ofManifests,
	"place in-place":              "use --write",
	"place o":                     "place prints to stdout: > FILE, or use --write",
	"place remove":                takesBack,
	"place revert":                takesBack,
	"place undo":                  takesBack,
	"push push":                   "omit it: mabuild push publishes; mabuild build writes to local destinations instead",
	"registry serve port":         "use --address 127.0.0.1:PORT",
	"resolve k":                   kustomized + "resolve -f -",
	"resolve push":                publishes,
	"run name":                    "use --run-flag=--name=NAME",
	"run rm":                      "mabuild run always removes the container; pass other flags with --run-flag",
	"sbom package":                "use --module PATH",
	"verify insecure-ignore-tlog": "omit it: mabuild verify --key asks no log",
}

// loads is the hint for ko's flag for the images of the Docker daemon.
const loads = "use --load, which also loads the image into Docker or podman"

// publishes is the hint for --push where manifests name the programs.
const publishes = "omit it: the images are published; with --dry-run, nothing is"

// kustomized begins the hint for the directory of kustomize.
const kustomized = "kubectl kustomize DIR | mabuild "

// removeFirst is the hint for overwriting a file.
const removeFirst = "mabuild overwrites no file: remove it first"

// ofManifests is the hint for an image where manifests name the images.
const ofManifests = "the manifests name the images; mabuild inspect --require PLATFORMS IMAGE checks one"

// logsIn is the hint for credentials on a command line.
const logsIn = "mabuild login HOST stores credentials"

// kubectlFlags is the hint for flags of kubectl.
const kubectlFlags = "flags of kubectl come after --: mabuild apply -f FILE -- --context NAME --namespace NAME"

// restores is the hint for taking back a change of an index.
const restores = "each change prints the previous digest and the command that restores it: mabuild manifest create INDEX INDEX@DIGEST"

// takesBack is the hint for taking back what place wrote.
const takesBack = "place changes files alone: git restore FILE takes that back; kubectl delete -f FILE removes a policy"

// declares is the hint for docker's flags that give an image of an index its platform.
const declares = "manifest annotate changes annotations; declare the platform of an image when it is added: mabuild manifest add --replace INDEX IMAGE=linux/arm64"

// knownCommand is the Args of a group of commands. cobra passes an unknown command as an
// argument of its group.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return noCommand(cmd, args[0])
}

// noCommand returns the error for an unknown command below cmd, with the best hint: the
// equivalent of another tool's command, a command with a similar name, or the list.
func noCommand(cmd *cobra.Command, word string) error {
	way := cmd.CommandPath() + " --help lists the commands"
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	meant, known := otherTools[word]
	if of := groupsOfOthers[commandName(cmd)+" "+word]; of != "" {
		return usage(of, "unknown command %q", commandName(cmd)+" "+word)
	}
	alike := cmd.SuggestionsFor(word)
	if near := yamlconf.Nearest(word, names); len(alike) == 0 && near != "" {
		alike = []string{near}
	}
	switch {
	case known && cmd == cmd.Root():
		way = meant
	case len(alike) > 0:
		way = "did you mean " + strings.Join(alike, " or ") + "?"
	case groupsOfOthers[commandName(cmd)] != "":
		way = groupsOfOthers[commandName(cmd)]
	case cmd != cmd.Root():
		way = "the commands are " + strings.Join(names, ", ")
	}
	return usage(way, "unknown command %q", strings.TrimPrefix(cmd.CommandPath()+" "+word, "mabuild "))
}

// wrongFlag adds a hint to cobra's error about a flag, with the flag that was probably
// meant.
func wrongFlag(cmd *cobra.Command, err error) error {
	// The flags of a command that does not exist are those of its group for cobra.
	if before := cmd.Flags().Args(); cmd.HasSubCommands() && len(before) > 0 {
		return noCommand(cmd, before[0])
	}
	way := cmd.CommandPath() + " --help lists the flags"
	if wrong := (*pflag.InvalidValueError)(nil); errors.As(err, &wrong) {
		way = cmd.CommandPath() + " --help describes the flag"
		if _, json := wrong.GetFlag().Value.(*jsonOutput); json {
			way = "for a file, redirect stdout: > FILE"
		}
		return usage(way, "--%s %q: %s", wrong.GetFlag().Name, wrong.GetValue(), wrongValue(wrong))
	}
	if bare := (*pflag.ValueRequiredError)(nil); errors.As(err, &bare) {
		way = withValue(bare.GetFlag())
	}
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		if theirs := theirFlag(cmd, unknown.GetSpecifiedName()); theirs != "" {
			return &hint.Error{Kind: hint.Usage, Err: err, Hint: theirs}
		}
	}
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		// Commands have platform or platforms; the lookup finds either by normalization.
		if cmd.Flags().Lookup("platform") != nil {
			names = append(names, "platform")
		}
		near := yamlconf.Nearest(unknown.GetSpecifiedName(), names)
		// The beginning of a name is a better sign than its letters: --addr for --address.
		if begins := slices.IndexFunc(names, func(name string) bool {
			return len(unknown.GetSpecifiedName()) > 2 && strings.HasPrefix(name, unknown.GetSpecifiedName())
		}); begins >= 0 {
			near = names[begins]
		}
		if meant := cmd.Flags().Lookup(near); meant != nil {
			way = "did you mean --" + meant.Name + "?"
		}
	}
	return &hint.Error{Kind: hint.Usage, Err: err, Hint: way}
}

// withValue returns the hint about a flag without its value.
func withValue(f *pflag.Flag) string {
	name, what := pflag.UnquoteUsage(f)
	if strings.ToLower(name) == name { // the type of the value
		name = "VALUE"
	}
	return "write --" + f.Name + " " + name + ": " + what
}

// theirFlag returns the hint about a flag of a similar tool that cmd lacks, or "".
func theirFlag(cmd *cobra.Command, name string) string {
	keys := []string{commandName(cmd) + " " + name, "builds " + name, name}
	if cmd.Flags().Lookup("ldflags") == nil {
		keys = slices.Delete(keys, 1, 2)
	}
	for _, key := range keys {
		way := flagsOfOthers[key]
		ours, _, _ := strings.Cut(strings.TrimPrefix(way, "use --"), " ")
		ours, _, _ = strings.Cut(strings.TrimSuffix(ours, ","), "=")
		if way != "" && (!strings.HasPrefix(way, "use --") || cmd.Flags().Lookup(ours) != nil) {
			return way
		}
	}
	return ""
}

// twoDashes rejects the name of a flag after one dash: pflag reads -tag v1 as -t ag. What
// follows -- or may be the value of the flag before is left alone. A flag that takes a word is
// no switch, so another flag is not its value.
func twoDashes(root *cobra.Command, args []string) error {
	cmd, _, err := root.Find(args)
	if err != nil {
		return nil // ExecuteContext reports it
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if i > 0 && len(arg) > 1 && arg[0] == '-' && slices.Contains([]string{"--sign", "--sbom", "--provenance"}, args[i-1]) {
			if f := cmd.Flags().Lookup(args[i-1][2:]); f != nil && f.NoOptDefVal == "" {
				return usage(withValue(f), "%s needs a value, and %s is a flag", args[i-1], arg)
			}
		}
		name, _, _ := strings.Cut(arg, "=")
		value := i > 0 && strings.HasPrefix(args[i-1], "-") && !strings.Contains(args[i-1], "=")
		if len(name) < 4 || name[0] != '-' || name[1] == '-' || value {
			continue
		}
		if cmd.Flags().Lookup(name[1:]) != nil || cmd.InheritedFlags().Lookup(name[1:]) != nil {
			return usage("write -"+name, "%s: a flag of several letters has two dashes", name)
		}
	}
	return nil
}

// wrongValue says what the value of a flag must be. For numbers and booleans, the cause is
// an error of package strconv, which is about Go.
func wrongValue(e *pflag.InvalidValueError) string {
	cause := errors.Unwrap(e)
	switch kind := e.GetFlag().Value.Type(); {
	case !as[*strconv.NumError](cause):
		return cause.Error()
	case kind == "bool":
		return "must be true or false"
	default:
		return "must be a whole number"
	}
}

// valued rejects flags that were given with an empty value or item. A script whose
// variable is not set passes such flags, and ignoring them would, for example, copy all
// platforms. If two of the names are the same flag, it is reported once.
func valued(cmd *cobra.Command, names ...string) error {
	var errs []error
	seen := map[*pflag.Flag]bool{}
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed || seen[f] {
			continue
		}
		seen[f] = true
		items := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			items = list.GetSlice()
		}
		if len(items) > 1 && slices.ContainsFunc(items, func(s string) bool { return strings.TrimSpace(s) == "" }) {
			errs = append(errs, usage("remove the comma; check that the script's variables are set", "--%s has an empty item", name))
			continue
		}
		if len(items) == 0 || slices.ContainsFunc(items, func(s string) bool { return strings.TrimSpace(s) == "" }) {
			errs = append(errs, usage("omit the flag, or give it a value; check that the script's variables are set", "--%s is empty", name))
		}
	}
	return errors.Join(errs...)
}

// alike makes flags of cmd available under other names; names maps those to the flag's
// name. The help does not list them.
func alike(flags *pflag.FlagSet, names map[string]string) {
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if ours, ok := names[name]; ok {
			name = ours
		}
		return pflag.NormalizedName(name)
	})
}

// bindJSON adds --json, and -o json, which other tools have.
func bindJSON(flags *pflag.FlagSet, to *bool, usage string) {
	flags.BoolVar(to, "json", false, usage+" (also -o json)")
	flags.VarP((*jsonOutput)(to), "output", "o", "Same as --json")
	flags.Lookup("output").Hidden = true
}

// A jsonOutput is the value of -o in a command that prints text or JSON.
type jsonOutput bool

// Set implements [pflag.Value], as the other methods do.
func (o *jsonOutput) Set(text string) error {
	if text != "json" {
		return errors.New("the only output format is json")
	}
	*o = true
	return nil
}

func (o *jsonOutput) String() string { return "" }
func (o *jsonOutput) Type() string   { return "format" }

// exclusive rejects more than one flag of each group.
func exclusive(cmd *cobra.Command, groups ...[]string) error {
	var errs []error
	for _, group := range groups {
		var given []string
		for _, name := range group {
			if cmd.Flags().Changed(name) {
				given = append(given, spelling(cmd.Flags().Lookup(name)))
			}
		}
		if len(given) > 1 {
			errs = append(errs, usage("use only one of them", "%s cannot be used together", strings.Join(given, " and ")))
		}
	}
	return errors.Join(errs...)
}

// spelling returns how a flag is written, with its letter if it has one.
func spelling(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand + "/--" + f.Name
	}
	return "--" + f.Name
}
