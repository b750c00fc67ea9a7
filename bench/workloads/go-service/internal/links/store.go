// Package links keeps short names and where they lead, durably, in one file.
package links

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
)

// ErrNotFound says that no link has the name; ErrTaken that one has it already.
var (
	ErrNotFound = errors.New("no such link")
	ErrTaken    = errors.New("the name is taken")
)

var bucket = []byte("links")

// Link is one short name.
type Link struct {
	ID      uuid.UUID `json:"id"`
	Name    string    `json:"name"`
	Target  string    `json:"target"`
	Created time.Time `json:"created"`
	Visits  uint64    `json:"visits"`
}

// Store of links. Safe for concurrent use.
type Store struct{ db *bolt.DB }

// Open opens or creates the database file.
func Open(file string) (*Store, error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", file, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	return &Store{db: db}, err
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }

// Create adds a link.
func (s *Store) Create(name, target string) (Link, error) {
	link := Link{ID: uuid.New(), Name: name, Target: target, Created: time.Now().UTC()}
	err := s.db.Update(func(tx *bolt.Tx) error {
		if tx.Bucket(bucket).Get([]byte(name)) != nil {
			return ErrTaken
		}
		return put(tx, link)
	})
	return link, err
}

// Visit counts a visit and returns the link.
func (s *Store) Visit(name string) (Link, error) {
	var link Link
	err := s.db.Update(func(tx *bolt.Tx) error {
		text := tx.Bucket(bucket).Get([]byte(name))
		if text == nil {
			return ErrNotFound
		}
		if err := json.Unmarshal(text, &link); err != nil {
			return err
		}
		link.Visits++
		return put(tx, link)
	})
	return link, err
}

// List returns all links in the order of their names.
func (s *Store) List() ([]Link, error) {
	all := []Link{}
	err := s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(_, text []byte) error {
			var link Link
			if err := json.Unmarshal(text, &link); err != nil {
				return err
			}
			all = append(all, link)
			return nil
		})
	})
	return all, err
}

func put(tx *bolt.Tx, link Link) error {
	text, err := json.Marshal(link)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put([]byte(link.Name), text)
}
