package proxy

// note dumps what was read from one side of c.
func (l *loop) note(c *conn, side int, data []byte) {
	l.dump.piece(l.engine.log, c.front, int(c.slot), c.client, side, data)
}

// sideOf tells which of its sides a half is.
func (c *conn) sideOf(h *half) int {
	if h == &c.half[serverSide] {
		return serverSide
	}
	return clientSide
}
