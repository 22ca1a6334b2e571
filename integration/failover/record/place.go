package record

// A writer does not only append. Every Stride-th record is written a second time, over an older one in a file of Slots records, and once
// a round of those the whole file of marks is replaced by a rename: what a database does to its pages and to its control file.
const (
	Stride = 8
	Slots  = 64
	Round  = 5 * Stride // between two replacements of the mark
)

// The files of a writer, in the directory of its volume.
const (
	LogFile    = "log"
	BlocksFile = "blocks"
	MarkFile   = "mark"
)

// Slot returns where in the blocks the record of that number is written again; false: nowhere.
func Slot(seq uint64) (int, bool) {
	if seq%Stride != 0 {
		return 0, false
	}
	return int(seq / Stride % Slots), true //nolint:gosec // below Slots
}

// Marked says whether the record of that number replaces the mark.
func Marked(seq uint64) bool { return seq%Round == 0 }
