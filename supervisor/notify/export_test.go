package notify

import "time"

// Compose is compose, for the tests.
func (m Mail) Compose(msg Message, now time.Time) ([]byte, error) { return m.compose(msg, now) }
