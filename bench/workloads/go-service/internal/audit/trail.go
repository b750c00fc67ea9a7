// Package audit writes who changed what, one protobuf message in JSON form a line.
package audit

import (
	"fmt"
	"os"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Trail is an append-only file of events. Safe for concurrent use.
type Trail struct {
	mu   sync.Mutex
	file *os.File
}

// Open appends to the file, creating it if needed.
func Open(name string) (*Trail, error) {
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit trail: %w", err)
	}
	return &Trail{file: file}, nil
}

// Close ends the trail.
func (t *Trail) Close() error { return t.file.Close() }

// Record adds one event.
func (t *Trail) Record(action string, fields map[string]any) error {
	event, err := structpb.NewStruct(fields)
	if err != nil {
		return err
	}
	now := timestamppb.Now()
	event.Fields["at"] = structpb.NewStringValue(now.AsTime().Format("2006-01-02T15:04:05.000Z07:00"))
	event.Fields["action"] = structpb.NewStringValue(action)
	text, err := protojson.MarshalOptions{}.Marshal(event)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err = t.file.Write(append(text, '\n'))
	return err
}
