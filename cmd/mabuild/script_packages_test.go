package main

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mabuild/mabuild/internal/regtest"
)

// archiveKeys are the key that signs the archives of scripts, and another one.
var archiveKeys = [2]func() (*regtest.Signer, error){sync.OnceValues(regtest.NewSigner), sync.OnceValues(regtest.NewSigner)}

// writeArchive: archive DIR VERSION [STATE] writes a Debian archive with a package tool of this
// version, which needs libtool0 and data0, and the keyring of the archive beside DIR. STATE is
// unsigned, expired, or stranger for one that another key has signed.
func writeArchive(ts *testscript.TestScript, _ bool, args []string) {
	dir, version := ts.MkAbs(args[0]), args[1]
	signer, err := archiveKeys[0]()
	ts.Check(err)
	ts.Check(os.MkdirAll(filepath.Dir(dir), 0o750))
	ts.Check(regtest.Keyring(signer, filepath.Join(filepath.Dir(dir), "keyring.gpg")))
	a := regtest.DebArchive{Suite: "testing", Arches: "amd64 arm64 armhf", Date: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour), Signer: signer}
	if len(args) > 2 {
		switch args[2] {
		case "unsigned":
			a.Signer = nil
		case "expired":
			a.Until = time.Now().Add(-time.Minute)
		case "stranger":
			a.Signer, err = archiveKeys[1]()
			ts.Check(err)
		default:
			ts.Fatalf("archive: unknown state %s", args[2])
		}
	}
	for _, arch := range []string{"amd64", "arm64", "armhf"} {
		a.Debs = append(a.Debs, regtest.Deb{
			Name: "tool", Version: version, Arch: arch, Fields: "Depends: libtool0 (>= 1.0), data0", Form: "xz",
			Files: map[string]string{"usr/sbin/tool-old": arch, "usr/sbin/tool-new": arch, "usr/share/man/man8/tool.8.gz": "manual", "usr/share/doc/tool/copyright": "free"},
			Scripts: map[string]string{"postinst": "#!/bin/sh\nset -e\nupdate-alternatives --install /usr/sbin/tool tool /usr/sbin/tool-old 10\n" +
				"update-alternatives --install /usr/sbin/tool tool /usr/sbin/tool-new 20\n"},
		}, regtest.Deb{
			Name: "libtool0", Version: "1.0-1", Arch: arch, Fields: "Depends: libc0 (>= 2)", Form: "zst", Files: map[string]string{"lib/libtool.so.0": arch},
		}, regtest.Deb{Name: "libc0", Version: "2.1", Arch: arch, Form: "gz", Files: map[string]string{"lib/libc.so.0": arch}})
	}
	a.Debs = append(
		a.Debs, regtest.Deb{Name: "data0", Version: "3", Arch: "all", Form: "xz", Files: map[string]string{"usr/share/data0/table": "1 2 3"}},
		regtest.Deb{Name: "only0", Version: "1", Arch: "amd64"},
	)
	ts.Check(a.Write(dir))
}
