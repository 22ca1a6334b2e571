package policies

import (
	"fmt"
	"slices"
	"strings"
)

// unknown says that there is no rule of that name, which ones there are, and which was meant, if one is near.
func unknown(name string) string {
	names := Names()
	allowed := "allowed are " + strings.Join(names, ", ")
	nearest := slices.MinFunc(names, func(a, b string) int { return distance(name, a) - distance(name, b) })
	if distance(name, nearest) <= len(nearest)/4 {
		return fmt.Sprintf("there is no rule %q, did you mean %q? (%s)", name, nearest, allowed)
	}
	return fmt.Sprintf("there is no rule %q, %s", name, allowed)
}

// distance counts the letters to insert, delete or replace to make one word of the other, whatever their case.
func distance(from, to string) int {
	a, b := []rune(strings.ToLower(from)), []rune(strings.ToLower(to))
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
