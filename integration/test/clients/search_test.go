package clients

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"tokenfs/integration/test/entra"
	"tokenfs/integration/test/scan"
)

// forms are the ways in which a client may have written a secret.
func forms(secret string) map[string][]byte {
	raw := []byte(secret)
	m := map[string][]byte{"raw": raw, "in hex": []byte(hex.EncodeToString(raw)), "in capital hex": []byte(strings.ToUpper(hex.EncodeToString(raw)))}
	var wide []byte
	for _, u := range utf16.Encode([]rune(secret)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	m["in UTF-16"] = wide
	if quoted, err := json.Marshal(secret); err == nil && string(quoted) != `"`+secret+`"` {
		m["as JSON"] = quoted
	}
	if decoded, err := base64.RawURLEncoding.DecodeString(secret); err == nil {
		m["decoded"] = decoded
	}
	// Where it begins within what is encoded decides what becomes of it; of the
	// ends, where it is mixed with its neighbours, nothing is looked for.
	for shift := range 3 {
		b := append(bytes.Repeat([]byte{'x'}, shift), raw...)
		b = b[:len(b)/3*3]
		m[fmt.Sprint("in base64, shifted by ", shift)] = []byte(base64.StdEncoding.EncodeToString(b)[4:])
	}
	return m
}

func setOf(t *testing.T, secrets []entra.Secret) *scan.Set {
	t.Helper()
	set := &scan.Set{}
	for _, s := range secrets {
		for how, b := range forms(s.Value) {
			if err := set.Add(fmt.Sprintf("%s of %s, %s", s.Kind, s.User, how), b); err != nil {
				t.Fatal(err)
			}
		}
	}
	return set
}

// file searches a file, also within what is compressed in it.
func searchFile(name string, set *scan.Set) (found []string, searched int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	report, err := scan.File(f, set)
	if err != nil {
		return nil, 0, err
	}
	if len(report.Unread) > 0 {
		return nil, 0, report.Unread[0].Err
	}
	for _, h := range report.Hits {
		found = append(found, fmt.Sprintf("%s: %s at %#x", name, h.Label, h.Addr))
	}
	packed, err := searchPacked(f, set)
	return append(found, packed...), report.Bytes, err
}

// data calls visit for every stretch of a file that is no hole.
func data(f *os.File, visit func(start int64, b []byte)) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); at < st.Size(); {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		b := make([]byte, end-start)
		if n, err := f.ReadAt(b, start); err != nil && err != io.EOF {
			return err
		} else {
			b = b[:n]
		}
		visit(start, b)
		at = end
	}
	return nil
}

// searchPacked unpacks whatever looks like the start of something packed.
func searchPacked(f *os.File, set *scan.Set) (found []string, err error) {
	err = data(f, func(start int64, b []byte) {
		for i := range b {
			r := unpacked(b[i:])
			if r == nil {
				continue
			}
			text, _ := io.ReadAll(io.LimitReader(r, 16<<20)) // up to where it breaks off
			set.Search(text, 0, func(h scan.Found) {
				found = append(found, fmt.Sprintf("%s: %s, packed, at %#x", f.Name(), h.Label, start+int64(i)))
			})
		}
	})
	return found, err
}

func unpacked(b []byte) io.Reader {
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b, 8}):
		if r, err := gzip.NewReader(bytes.NewReader(b)); err == nil {
			return r
		}
	case len(b) > 2 && b[0] == 0x78 && (int(b[0])<<8|int(b[1]))%31 == 0:
		if r, err := zlib.NewReader(bytes.NewReader(b)); err == nil {
			return r
		}
	case len(b) > 30 && bytes.HasPrefix(b, []byte("PK\x03\x04")) && b[8] == 8:
		if from := 30 + int(b[26]) + int(b[27])<<8 + int(b[28]) + int(b[29])<<8; from < len(b) {
			return flate.NewReader(bytes.NewReader(b[from:]))
		}
	}
	return nil
}

// A search that cannot find does not help: each form, as a client may have left
// it behind, is found in the disk's image, also when the file is gone.
func TestSearchFinds(t *testing.T) {
	d := newDisk(t)
	set := setOf(t, []entra.Secret{{Kind: "token", User: "someone", Value: secretText()}})
	if found, _, err := searchFile(d.image, set); err != nil || len(found) > 0 {
		t.Fatalf("on a new disk: %q, %v", found, err)
	}
	write := map[string]func(secret []byte) []byte{
		"raw":    func(s []byte) []byte { return s },
		"a part": func(s []byte) []byte { return s[20:60] },
		"base64": func(s []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(append([]byte("user:"), s...))) },
		"hex":    func(s []byte) []byte { return []byte(hex.EncodeToString(s)) },
		"gzip":   func(s []byte) []byte { return pack(s, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }) },
		"zlib":   func(s []byte) []byte { return pack(s, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }) },
	}
	for how, f := range write {
		for _, end := range []string{"kept", "deleted"} {
			secret := secretText()
			set := setOf(t, []entra.Secret{{Kind: "token", User: "someone", Value: secret}})
			name := d.dir + "/" + how
			if err := os.WriteFile(name, append([]byte(`{"secret": "`), f([]byte(secret))...), 0o600); err != nil {
				t.Fatal(err)
			}
			if end == "deleted" {
				os.Remove(name)
			}
			found, _, err := searchFile(d.image, set)
			if err != nil || len(found) == 0 {
				t.Errorf("%s, %s: not found: %v", how, end, err)
			}
		}
	}
}

func pack(b []byte, to func(io.Writer) io.WriteCloser) []byte {
	var out bytes.Buffer
	w := to(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func secretText() string { return rand.Text() + rand.Text() + rand.Text() }
