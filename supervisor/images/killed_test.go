package images_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/internal/registry/layout/layouttest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// Set in a process that is to be killed: where the storage is, and the records.
const (
	storageEnv = "MOORING_TEST_STORAGE"
	recordsEnv = "MOORING_TEST_RECORDS"
)

// TestMain runs the tests, or, in a process that is to be killed, one round of tier 3, which prints the digest of each blob that it has hashed.
func TestMain(m *testing.M) {
	if os.Getenv(storageEnv) == "" {
		os.Exit(m.Run())
	}
	if err := rehashToBeKilled(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func rehashToBeKilled() error {
	p, err := images.NewProver(images.Setup{Storage: os.Getenv(storageEnv), Records: os.Getenv(recordsEnv), LookOnly: true, Checkpoint: time.Nanosecond})
	if err != nil {
		return err
	}
	p.Hashed(func(h layout.Hashed) { _, _ = fmt.Println(h.Blob.Digest) }) //nolint:forbidigo // the parent reads it
	_, err = p.Rehash(context.Background(), layout.Pace{Workers: 1}, nil)
	return err
}

// A supervisor that is killed at any moment of tier 3 goes on where it was: what was recorded is not hashed again, and nothing is left out.
func TestRehashThatIsKilledGoesOnWhereItWas(t *testing.T) {
	s := layouttest.New(t)
	const many = 120
	s.Fill(layouttest.Scale{Repositories: 2, Images: many / 4, Layers: 2, LayerSize: 2000, Seed: 3})
	records := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	hashed := map[string]int{}
	kills, twice := 0, 0
	for ended := false; !ended; {
		if kills > many {
			t.Fatal("it does not come to an end")
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), storageEnv+"="+s.Dir, recordsEnv+"="+records)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left := random.IntN(40)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if hashed[lines.Text()]++; hashed[lines.Text()] > 1 {
				twice++
			}
			if left--; left == 0 {
				_ = cmd.Process.Kill()
			}
		}
		if err := cmd.Wait(); err == nil {
			ended = true
		} else {
			kills++
		}
	}
	if len(hashed) != many {
		t.Errorf("%d blobs were hashed, want %d", len(hashed), many)
	}
	// What is being hashed, or recorded, while it is killed is hashed again.
	if twice > kills {
		t.Errorf("%d blobs were hashed again after %d kills", twice, kills)
	}
}
