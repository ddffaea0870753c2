// Package unchanged knows what feeds the build of a Go package, and so when a program need not
// be compiled again. It remembers in two ways. A [Record] is for this machine: it compares
// the times of files and reads none of them. [Sources] are for all machines: they have a
// key, under which others find what was compiled.
//
// # What a program is a function of
//
//   - The go command, its settings and the environment that it reads. A record has
//     [gocommand.Command.Fingerprint], a key has [gocommand.Command.Release].
//   - How mabuild calls the go command. A record has the path, size and time of mabuild's
//     own file, and the package as it was written. A key has the flags themselves, and the
//     import path of the package.
//   - The platform and the compile settings. Both have a key of these for each program.
//   - The source files. A record has the digest of a listing of all files of the modules
//     in directories (scope). A key has the content of those that the program reaches. Both
//     leave out the module cache: go.sum fixes the content of each module in it.
//
// # Why a record is never wrong
//
// A listing has the path, size, mode, inode, modification time and change time (ctime) of
// each file. A program can set the modification time but not the change time, which the
// kernel sets at every change. So a file that was changed is listed in another way, provided
// that its file system updates the change time and that no other machine does it: only the
// file systems in clocked are trusted, and everywhere else the go command decides.
//
// The clock of a file system advances in steps. A file that is changed twice within a step
// has the same times after both changes. So a listing proves something only if it is
// settled: its latest change was at least granularity before the listing began.
//
// The compiler reads the files later than they are listed. So they are listed before the
// compiler starts and again after it has ended, and a record is stored only if both
// listings are equal. A file that appeared and vanished in between is in neither; it has
// changed the time of its directory, which is compared too.
//
// Links must lead to what is listed as well, and a missing go.work is an input, because
// creating it would change the build. What lies outside of every listing cannot change: a
// module in the module cache is fixed by its version and checksum, and the fingerprint has
// the Go installation. Programs with cgo and those with a profile outside of the module
// depend on other files, so the caller does not add them.
//
// If all that is equal and the program is not, an input was missed. The record then
// contradicts itself and is removed. After any error the go command decides. A lost or
// refused record costs a compilation, and never makes a wrong program.
//
// The content of a single file, such as a prebuilt program, is remembered by the same rules
// ([Store.Content]).
//
// # Why a key is never wrong
//
// The sources are found by reading: the imports of each file, then the packages that these
// name, in every directory where the go command may look for them. A file counts unless no
// platform builds it, so one list serves all platforms. The list may have more files than
// the program needs; this costs a compilation if one of them changes. It must not have
// fewer. Reading alone cannot prove this: a module that is not downloaded may import a
// package of the main module, for example.
//
// So the proof is made by those who compile, since they have the go command and the modules.
// It lists the files of the program itself, and nothing is remembered under a key unless all
// of them are in the list ([Sources.Has]). Who finds the key later has equal files, go.mod,
// go.sum and go.work, so the go command would follow the same imports to the same files.
//
// A record can be proved later, without a compiler: it says that its program was compiled from
// the files as they are. The go command lists the files once more, and the key counts if neither
// the sources nor the listing of the record have changed meanwhile ([Record.Holds]). The record
// keeps the key then ([Record.Prove]).
//
// The compiler reads the files later than they are listed. So they are listed again after
// it has ended, with the times that a record compares, and nothing is remembered unless both
// lists are equal and the first was settled ([Sources.Settled], [Sources.Same]). Where the
// file system has no reliable times, keys are looked up and nothing is remembered.
//
// There is no key if files elsewhere may feed the build: with cgo, the race detector, the
// file of a profile, linker flags that name files or programs, an #include of a path, links
// that leave a module, -mod=mod, another toolchain, and @latest. A version of a module is
// its own key, as long as the checksum database pins all versions. Two installations of Go
// with the same VERSION file count as the same Go.
package unchanged
