package agent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// frame is what the halves exchange. On the wire it is its header, payload and checksum in COBS (consistent overhead byte stuffing: no zero byte
// inside), between two zero bytes. So the reader of a stream that was cut anywhere, by a reset or a killed agent, is right again at the next zero.
type frame struct {
	session uint64
	kind    kind
	job     uint32
	payload []byte
}

const (
	headerSize = 8 + 1 + 4
	sumSize    = 4
	// wireSize is the most bytes between two zeros.
	wireSize = headerSize + chunk + sumSize + (headerSize+chunk+sumSize)/254 + 2
)

// appendFrame appends f as it goes over the wire.
func appendFrame(wire []byte, f frame) []byte {
	raw := make([]byte, 0, headerSize+len(f.payload)+sumSize)
	raw = binary.LittleEndian.AppendUint64(raw, f.session)
	raw = append(raw, byte(f.kind))
	raw = binary.LittleEndian.AppendUint32(raw, f.job)
	raw = append(raw, f.payload...)
	raw = binary.LittleEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw))
	wire = append(wire, 0)
	wire = appendStuffed(wire, raw)
	return append(wire, 0)
}

// appendStuffed appends raw without its zeros: each block begins with the distance to the next zero, 255 for 254 bytes without one.
func appendStuffed(wire, raw []byte) []byte {
	for {
		for len(raw) > 0 && raw[0] == 0 { // disks are full of zeros: they must not be slow
			wire, raw = append(wire, 1), raw[1:]
		}
		n := bytes.IndexByte(raw[:min(len(raw), 254)], 0)
		switch {
		case n >= 0:
			wire = append(append(wire, byte(n+1)), raw[:n]...)
			raw = raw[n+1:]
		case len(raw) >= 254:
			wire = append(append(wire, 255), raw[:254]...)
			raw = raw[254:]
		default:
			return append(append(wire, byte(len(raw)+1)), raw...)
		}
	}
}

// unstuff is the inverse of appendStuffed. ok is false for what appendStuffed does not make.
func unstuff(wire []byte) (raw []byte, ok bool) {
	raw = make([]byte, 0, len(wire))
	for {
		if len(wire) == 0 || wire[0] == 0 || int(wire[0]) > len(wire) {
			return nil, false
		}
		n := int(wire[0])
		if n > 1 {
			raw = append(raw, wire[1:n]...)
		}
		wire = wire[n:]
		if len(wire) == 0 {
			return raw, n != 255
		}
		if n != 255 {
			raw = append(raw, 0)
		}
	}
}

// frameReader finds the frames in a stream.
type frameReader struct{ r *bufio.Reader }

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{bufio.NewReaderSize(r, wireSize+1)}
}

// next returns the next whole frame. What is none is skipped without a word: half frames are what this framing is for. The error is the stream's.
func (r *frameReader) next() (frame, error) {
	for {
		wire, err := r.r.ReadSlice(0)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue // too long for a frame; its rest is none either
		}
		if err != nil {
			return frame{}, err
		}
		if f, ok := parseFrame(wire[:len(wire)-1]); ok {
			return f, nil
		}
	}
}

func parseFrame(wire []byte) (frame, bool) {
	raw, ok := unstuff(wire)
	if !ok || len(raw) < headerSize+sumSize {
		return frame{}, false
	}
	body, sum := raw[:len(raw)-sumSize], raw[len(raw)-sumSize:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return frame{}, false
	}
	return frame{
		session: binary.LittleEndian.Uint64(body),
		kind:    kind(body[8]),
		job:     binary.LittleEndian.Uint32(body[9:]),
		payload: body[headerSize:],
	}, true
}
