package powercut

// Expect returns what must be on a disk whose power was cut after that moment.
func Expect(pushes []Push, uploads []Upload, cut Moment) Expectation {
	return expect(pushes, uploads, cut)
}
