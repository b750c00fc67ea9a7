package links

import (
	"errors"
	"path/filepath"
	"testing"
)

func TestVisitsAreCounted(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Create("docs", "https://example.com/docs"); err != nil {
		t.Fatal(err)
	}
	for want := uint64(1); want <= 2; want++ {
		link, err := store.Visit("docs")
		if err != nil || link.Visits != want {
			t.Fatalf("visit %d: %v, %v", want, link.Visits, err)
		}
	}
	if _, err := store.Visit("nowhere"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("an unknown name gave %v", err)
	}
}
