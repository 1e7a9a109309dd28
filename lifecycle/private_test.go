package lifecycle

import (
	"os"
	"testing"

	"tokenfs/lifecycle/mount"
	"tokenfs/lifecycle/run"
)

// An offer says what comes with it.
func TestOfferWithoutDescriptors(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, offer := range []run.Offer{{User: true}, {User: true, Over: true}, {}} {
		if fd, err := mountOffered(offer, []int{int(null.Fd())}, mount.Options{}); err == nil || fd != -1 {
			t.Errorf("%+v: mounted as %d, %v", offer, fd, err)
		}
	}
}
