// Package powercut cuts the power of a registry's disk, a thousand times, and reads afterwards all that had been acknowledged.
//
// A disk is a file under a loop device, and the file lies on a filesystem that can clone it in one step (XFS with reflink). The clone is the disk as a power
// cut at that moment leaves it: every write that had completed is there, and no later one. That is what is left of a virtual machine whose host dies, for
// VMFS and vSAN complete a write only when it is stable; the guest's page cache is gone. The clone is mounted, so that the filesystem replays its journal, and
// everything that the registry had acknowledged before the cut is read and hashed.
//
// It promises that nothing counts as acknowledged whose answer had not been read in full before the cut began, and that a tag is judged by every order in which
// the registry may have taken pushes that overlapped. It believes no answer of the registry's and no code of Mooring's about what is on the disk.
//
// What it does not show: writes that complete in one order and become stable in another, as on a disk with a volatile cache whose flushes lie; and writes in
// flight that are torn. The kernel's loop driver carries writes out one after another, so a cut leaves a prefix of those in flight.
//
// The pushers of integration/harborlike/push are not used here: each has its own repository, uploads everything anew and waits for one answer at a time. What
// destroys a link is a second push of the same thing, as Docker makes it: layers at once, those that are there already not again, `latest` moved by several.
package powercut
