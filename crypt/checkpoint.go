package crypt

// Compaction replaces the log by a checkpoint, which holds what still counts.
// It is written into the other half under a key of its own, as slowly as the
// caller likes, while the log goes on; whatever changes meanwhile the caller puts
// into both. Then one atomic store in the key region has the other half count.

// BeginCheckpoint starts one. The one that was being written, if there was one,
// is given up.
func (l *Log) BeginCheckpoint() {
	for l.WipeStale() {
	}
	side := 1 - l.side()
	l.wipeHalf(side)
	l.keys.setCount(side, 0)
	l.keys.freshLogKey(side)
	l.next = &half{gen: l.gen + 1}
	Point("checkpoint: begun")
}

// Checkpoint appends a record to the one that is being written.
func (l *Log) Checkpoint(record []byte) error {
	if err := l.put(l.next, record, false); err != nil {
		return err
	}
	l.keys.setCount(l.next.side(), l.next.seq)
	Point("checkpoint: record committed")
	return nil
}

// Switch makes the checkpoint count instead of the log before it.
func (l *Log) Switch() {
	Point("checkpoint: written")
	old := l.half
	l.half, l.base, l.next = *l.next, l.next.end, nil
	l.sealSuper(l.gen)
	l.keys.setGeneration(l.gen)
	Point("checkpoint: switched")
	l.markSuper(l.gen)
	l.keys.eraseLogKey(old.side())
	l.keys.setCount(old.side(), 0)
	Point("checkpoint: old key gone")
	l.stale.at, l.stale.end = 0, (old.end+pageSize-1)&^(pageSize-1)
}

// AbandonCheckpoint forgets the one that is being written.
func (l *Log) AbandonCheckpoint() {
	if l.next == nil {
		return
	}
	l.keys.eraseLogKey(l.next.side())
	l.keys.setCount(l.next.side(), 0)
	l.stale.at, l.stale.end = 0, (l.next.end+pageSize-1)&^(pageSize-1)
	l.next = nil
}

// WipeStale zeroes some of what a checkpoint has replaced, and says whether
// there is more. Its key is gone already.
func (l *Log) WipeStale() (more bool) {
	if l.stale.at == l.stale.end {
		return false
	}
	const step = 256 << 10
	from, to := l.stale.at, min(l.stale.at+step, l.stale.end)
	start := l.start(1 - l.side())
	l.r.punch(start+from, start+to)
	if l.stale.at = to; to < l.stale.end {
		return true
	}
	Point("checkpoint: old half gone")
	return false
}

// Compact writes a checkpoint in one go: write emits the caller's whole state.
func (l *Log) Compact(write func(emit func(record []byte) error) error) error {
	l.BeginCheckpoint()
	if err := write(l.Checkpoint); err != nil {
		l.AbandonCheckpoint()
		return err
	}
	l.Switch()
	for l.WipeStale() {
	}
	return nil
}
