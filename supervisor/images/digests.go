package images

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"slices"

	"github.com/mooring-sh/mooring/internal/registry"
)

// key is a digest in its 32 bytes: a manifest of 100,000 images has a million.
type key [sha256.Size]byte

// keyOf returns the key of a digest that was parsed.
func keyOf(d registry.Digest) (k key) {
	_, _ = hex.Decode(k[:], []byte(d.Hex())) // parsed: it has 64 digits
	return k
}

func (k key) digest() registry.Digest { return registry.SumDigest(k) }

// id stands for a digest within one table.
type id uint32

// none is the id of no digest.
const none = ^id(0)

// table gives digests their ids, from 0 on. It is a hash table with open addressing: a third of the memory of a map.
type table struct {
	keys  []key
	slots []id // id+1; 0 is free. As many as a power of two, at most three quarters of them taken
	seed  maphash.Seed
}

// find returns the digest's id; none if it has none.
func (t *table) find(k key) id {
	if len(t.slots) == 0 {
		return none
	}
	slot := t.slot(k)
	if t.slots[slot] == 0 {
		return none
	}
	return t.slots[slot] - 1
}

// intern returns the digest's id, a new one if it had none.
func (t *table) intern(k key) id {
	if len(t.keys)*4 >= len(t.slots)*3 {
		t.grow(2 * len(t.slots))
	}
	slot := t.slot(k)
	if t.slots[slot] == 0 {
		t.keys = append(t.keys, k)
		t.slots[slot] = id(len(t.keys))
	}
	return t.slots[slot] - 1
}

// slot returns where the digest's id is, or where it would be.
func (t *table) slot(k key) uint64 {
	mask := uint64(len(t.slots) - 1)
	slot := maphash.Bytes(t.seed, k[:]) & mask
	for t.slots[slot] != 0 && t.keys[t.slots[slot]-1] != k {
		slot = (slot + 1) & mask
	}
	return slot
}

// room makes room for n more digests.
func (t *table) room(n int) {
	t.keys = slices.Grow(t.keys, n)
	for slots := max(16, len(t.slots)); ; slots *= 2 {
		if cap(t.keys)*4 < slots*3 {
			t.grow(slots)
			return
		}
	}
}

// grow makes the table one of so many slots, a power of two.
func (t *table) grow(slots int) {
	if len(t.slots) == 0 {
		t.seed = maphash.MakeSeed()
	}
	t.slots = make([]id, max(16, slots))
	for i, k := range t.keys {
		t.slots[t.slot(k)] = id(i + 1)
	}
}
