package download

import (
	"io"
	"os"

	"aead.dev/minisign"

	"github.com/mabuild/mabuild/internal/hint"
)

// CheckKey returns an error unless text is a public key of minisign.
func CheckKey(text string) error {
	if err := new(minisign.PublicKey).UnmarshalText([]byte(text)); err != nil {
		return hint.New(hint.Usage, "use the last line of minisign.pub, which begins with RW", "%.80q is not a public key of minisign", text)
	}
	return nil
}

// VerifyMinisign returns an error unless the signature, the content of a .minisig file, is one
// of a file by a public key of minisign. A signature of the older form, which covers the file
// itself and not its hash, is accepted for a file of up to 4 MiB.
func VerifyMinisign(key, file, signature string) error {
	var public minisign.PublicKey
	var by minisign.Signature
	if err := public.UnmarshalText([]byte(key)); err != nil {
		return CheckKey(key)
	}
	if err := by.UnmarshalText([]byte(signature)); err != nil {
		return hint.New(hint.Content, "", "it is not a signature of minisign")
	}
	if by.KeyID != public.ID() {
		return hint.New(hint.Content, "check verify.minisign", "it is signed by another key, %016X, and not by %016X", by.KeyID, public.ID())
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	var holds bool
	switch by.Algorithm {
	case minisign.HashEdDSA:
		r := minisign.NewReader(f)
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		holds = r.Verify(public, []byte(signature))
	default:
		content, err := io.ReadAll(io.LimitReader(f, maxText+1))
		if err != nil {
			return err
		}
		if len(content) > maxText {
			return hint.New(hint.Content, "ask its authors to sign with minisign -H, or to sign a list of sums", "it has the older form, which is not checked for files of more than %d bytes", maxText)
		}
		holds = minisign.Verify(public, content, []byte(signature))
	}
	if !holds {
		return hint.New(hint.Content, "do not use the release, and report this", "it does not match the content")
	}
	return nil
}
