package push

// Expected returns what may be under each tag, by repository:tag.
func Expected(records []Record) map[string][]string {
	tags := map[string][]string{}
	for _, i := range expect(records) {
		if i.kind == "manifests" && i.size == 0 {
			tags[i.repository+":"+i.reference] = i.digests
		}
	}
	return tags
}
