// Package esx speaks with vCenter: one session, the virtual machine that Mooring runs in, the disks behind volumes, their
// attachment, and storage policies' profiles. It is the only package of the product that imports govmomi, and the only one
// that knows how vCenter is reached.
//
// It promises that every fault of vSphere arrives as one of the root package's errors, with vSphere's own words kept; that
// vCenter's absence is told within ten seconds; that what was done is read back before it is believed or done again.
//
// It never sends a file operation with a device (which could destroy a disk), never breaks a lock, never deletes a disk
// that a virtual machine in view has, never tries an attachment blindly, and never verifies no certificate at all.
package esx
