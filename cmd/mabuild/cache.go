package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mabuild/mabuild/internal/cache"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/intree"
	"github.com/mabuild/mabuild/internal/records"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// newCache returns the group of commands about the cache.
func newCache(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Show or prune the cache; explain or verify build records",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCacheInfo(a), newCacheKey(), newCacheExplain(a), newCacheVerify(a), newCachePrune(a))
	return cmd
}

// newCacheInfo returns cache info.
func newCacheInfo(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Show the contents and size of the cache",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.openCache(cmd)
			if err != nil {
				return err
			}
			kinds, err := c.Usage()
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(a.stdout).Encode(map[string]any{"dir": a.cacheDir(), "kinds": kinds})
			}
			t := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintf(t, "%s\n  KIND\tITEMS\tSIZE\n", a.cacheDir())
			items, size := 0, int64(0)
			for _, k := range kinds {
				fmt.Fprintf(t, "  %s\t%d\t%s\n", k.Name, k.Items, text.Size(k.Bytes))
				items, size = items+k.Items, size+k.Bytes
			}
			fmt.Fprintf(t, "  total\t%d\t%s\n", items, text.Size(size))
			return t.Flush()
		},
	}
	bindJSON(cmd.Flags(), &asJSON, "Print JSON")
	return cmd
}

// newCachePrune returns cache prune.
func newCachePrune(a *app) *cobra.Command {
	limit := "0"
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove the least recently used entries, or all without --max",
		Long: `Remove the least recently used entries until the cache fits into --max, or all
entries without --max. Entries that a running mabuild has used are kept.`,
		Example: "  mabuild cache prune --max 1GB",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.openCache(cmd)
			if err != nil {
				return err
			}
			var most yamlconf.Bytes
			if err := most.UnmarshalText([]byte(limit)); err != nil {
				return usage("for example --max 1GB", "--max %s: %s", limit, err)
			}
			freed, err := c.Prune(cmd.Context(), int64(most))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "freed %s\n", text.Size(freed))
			return err
		},
	}
	cmd.Flags().StringVar(&limit, "max", "0", "Keep at most this `SIZE`")
	return cmd
}

// newCacheKey returns cache key.
func newCacheKey() *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Print the public key that signs build records",
		Long: `Print the public key that belongs to the secret in MABUILD_CACHE_KEY. Build records
that a machine with this secret writes are signed. Others use only these if the
public key is in --cache-trust.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := records.KeyOf(os.Getenv(cacheKeyEnv))
			if err != nil {
				return hint.New(hint.Usage, hint.Of(err), cacheKeyEnv+": %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), records.PublicKey(key))
			return err
		},
	}
}

// openCache opens the configured cache to show or prune it. It releases the hold of this
// run first: the command uses no entry, and its own hold would protect entries from
// pruning.
func (a *app) openCache(cmd *cobra.Command) (*cache.Cache, error) {
	if err := a.start(cmd); err != nil {
		return nil, err
	}
	a.leaveCache()
	dir := a.cacheDir()
	if dir == "" {
		return nil, usage("set MABUILD_CACHE or cache.dir", "no cache directory: HOME and XDG_CACHE_HOME are not set")
	}
	return cache.Open(dir)
}

// holdCache protects the entries that this run uses from being pruned by other processes,
// until leave is called. An error only means that the protection is missing; entries that
// vanish are made again.
func (a *app) holdCache(ctx context.Context) (leave func()) {
	if a.cache == "" {
		return func() {}
	}
	c, err := cache.Open(a.cache)
	if err != nil {
		return func() {} // usableCache has warned
	}
	leave, err = c.Hold(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Debug(err.Error())
	}
	return leave
}

// boundEvery is how often a run that compiled nothing may look at the size of the cache,
// which means reading all its directories.
const boundEvery = time.Hour

// bound prunes the cache to its configured size if this process has stored something:
// always after a program was compiled, otherwise at most once in boundEvery by all
// processes together. Errors are warnings.
func (a *app) bound(ctx context.Context) {
	if a.cache == "" || a.config.Cache.Max == 0 || ctx.Err() != nil {
		return
	}
	c, err := cache.Open(a.cache)
	if err != nil || !c.Stored() {
		return
	}
	if grown := a.grown.Swap(false); !grown && time.Since(c.Pruned()) < boundEvery {
		return
	}
	if _, err := c.Prune(ctx, int64(a.config.Cache.Max)); err != nil && ctx.Err() == nil {
		a.log.Warn(err.Error())
	}
}

// cacheKeyEnv is the variable with the secret that authenticates records of the cache.
const cacheKeyEnv = "MABUILD_CACHE_KEY"

// cacheKey returns the secret that authenticates records of the cache. It is nil if the
// cache is outside the source tree: then only the user can write to it, and records need
// no proof.
//
// A cache inside the tree may come with the checkout, and a forged record could make
// mabuild publish a foreign program. So its records carry a MAC. The secret comes from
// the environment or from a file beside the user's own configuration. Without either, a
// random secret makes only the records of this run valid.
func (a *app) cacheKey() []byte {
	a.keyed.Do(func() { a.key = a.findKey() })
	return a.key
}

// findKey finds the secret; see cacheKey.
func (a *app) findKey() []byte {
	if text := os.Getenv(cacheKeyEnv); text != "" {
		sum := sha256.Sum256([]byte(text))
		return sum[:]
	}
	tree := a.config.Tree()
	if a.cache == "" || tree == "" || !intree.Below(tree, a.cache) {
		return nil
	}
	file := config.UserFile(os.LookupEnv)
	if file != "" && !intree.Below(tree, filepath.Dir(file)) {
		if key, err := cache.OwnKey(filepath.Join(filepath.Dir(file), "cache.key")); err == nil {
			return key
		}
	}
	a.log.Warn("the cache " + a.cache + " is inside the source tree, so its records are ignored; to use them, set " + cacheKeyEnv)
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}

// recordCache returns the cache for records, authenticated with cacheKey. It is nil if there is
// no cache; a nil cache stores and finds nothing.
func (a *app) recordCache() *cache.Cache {
	if a.cache == "" {
		return nil
	}
	c, err := cache.Sealed(a.cache, a.cacheKey())
	if err != nil {
		return nil // usableCache has warned
	}
	return c
}
