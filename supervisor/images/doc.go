// Package images knows which images a registry must have, and proves that they are there.
//
// The [Manifest] is Mooring's own record of what must be there: repositories, tags, images' manifests and blobs, with digests, sizes and when each blob was
// last hashed. [Records] keeps it, durable and checksummed, in two places. [Judge] compares what was seen of a storage with it: a pure function. [Prover] is the loop's
// partner for one storage: it refreshes the manifest while all is well, verifies after a failure, and rehashes everything in the background.
// [Repair] puts right what can be proved.
//
// It promises that everything that is wrong is listed, with its repository, tag and digest, and never only the first; that deletion by users and garbage
// collection are no damage; that only bytes that were hashed count as proved; that a manifest which cannot be read is said, and never taken for an empty one. It never deletes
// or replaces anything in a registry's storage, but for a link that is wrong, and only what it was asked to repair: with one exception, what a power cut leaves: links that it has emptied, and pieces of blobs that no image needs.
//
// "Manifest" is Mooring's record throughout; a registry's manifest is called an image's manifest, even where it is that of an index or of an artifact.
package images
