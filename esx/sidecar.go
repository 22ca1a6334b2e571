package esx

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mooring-sh/mooring"
)

const (
	// sidecarVersion is the format that this code writes, and the newest that it reads.
	sidecarVersion = 1
	// maxSidecar bounds what is read of a file that claims to be a sidecar; labels make the only part without a bound of its own.
	maxSidecar = 1 << 20
)

// errSidecar says that a file is no sidecar that could be believed: torn, of a newer format, or something else altogether.
var errSidecar = errors.New("not a readable sidecar")

// sidecarFile is the form on the datastore. The checksum is that of the volume's bytes as they stand in the file, so that it does not
// depend on how they are spelled.
type sidecarFile struct {
	Version int             `json:"version"`
	SHA256  string          `json:"sha256"`
	Volume  json.RawMessage `json:"volume"`
}

// encodeSidecar returns the file that describes vol.
func encodeSidecar(vol mooring.Volume) ([]byte, error) {
	body, err := json.Marshal(vol)
	if err != nil {
		return nil, fmt.Errorf("encode the sidecar of %s: %w", vol.Name, err)
	}
	sum := sha256.Sum256(body)
	file, err := json.Marshal(sidecarFile{Version: sidecarVersion, SHA256: hex.EncodeToString(sum[:]), Volume: body})
	if err != nil {
		return nil, fmt.Errorf("encode the sidecar of %s: %w", vol.Name, err)
	}
	return append(file, '\n'), nil
}

// decodeSidecar returns the volume that file describes. Whatever is not beyond doubt is errSidecar.
func decodeSidecar(file []byte) (mooring.Volume, error) {
	bad := func(why string) (mooring.Volume, error) {
		return mooring.Volume{}, fmt.Errorf("%s: %w", why, errSidecar)
	}
	var f sidecarFile
	if err := json.Unmarshal(file, &f); err != nil {
		return bad("not JSON: " + err.Error())
	}
	if f.Version != sidecarVersion {
		return bad(fmt.Sprintf("format version %d, known is %d", f.Version, sidecarVersion))
	}
	if sum := sha256.Sum256(f.Volume); hex.EncodeToString(sum[:]) != f.SHA256 {
		return bad("the checksum does not match")
	}
	var vol mooring.Volume
	d := json.NewDecoder(bytes.NewReader(f.Volume))
	if err := d.Decode(&vol); err != nil {
		return bad("not a volume: " + err.Error())
	}
	if vol.Disk != "" {
		if id, err := mooring.ParseDiskID(string(vol.Disk)); err != nil || id != vol.Disk {
			return bad(fmt.Sprintf("the disk UUID %q is malformed", vol.Disk))
		}
	}
	switch vol.Format {
	case mooring.FormatNone, mooring.Formatting, mooring.FormatDone, mooring.FormatUnknown:
		return vol, nil
	default:
		return bad(fmt.Sprintf("the format %q is unknown", vol.Format))
	}
}

// newFSUUID returns a random (version 4) UUID.
func newFSUUID() mooring.FSUUID {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return mooring.FSUUID(s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:])
}
