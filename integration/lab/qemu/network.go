package qemu

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
)

// Network joins the machines of a lab like a switch, inside this program: it needs no rights, and no frame can reach anything else. The zero value works.
type Network struct {
	mu    sync.Mutex
	ports map[*port]bool
	known map[[6]byte]*port // by MAC address
	wg    sync.WaitGroup
}

// port is where one machine is connected. Frames go over it as QEMU's socket backend has them: the length in four bytes, then the frame.
type port struct {
	conn net.Conn
	out  chan []byte // what does not fit is lost, as on any network: a frozen machine reads nothing
}

const (
	frameLimit  = 68 << 10 // QEMU's own, NET_BUFSIZE
	framesAhead = 1024
)

// connect returns the end of a new port that is QEMU's. The port goes when that end is closed.
func (n *Network) connect() (*os.File, error) {
	theirs, ours, err := socketPair("network")
	if err != nil {
		return nil, err
	}
	p := &port{conn: ours, out: make(chan []byte, framesAhead)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports == nil {
		n.ports, n.known = map[*port]bool{}, map[[6]byte]*port{}
	}
	n.ports[p] = true
	n.wg.Go(func() { n.forward(p) })
	n.wg.Go(p.send)
	return theirs, nil
}

// Wait waits until no machine is connected any more.
func (n *Network) Wait() { n.wg.Wait() }

// forward takes the frames of one machine, until it is gone.
func (n *Network) forward(p *port) {
	defer n.disconnect(p)
	r := bufio.NewReaderSize(p.conn, frameLimit)
	var size [4]byte
	for {
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		length := binary.BigEndian.Uint32(size[:])
		if length < 14 || length > frameLimit {
			return // not what QEMU sends
		}
		frame := make([]byte, 4+length)
		copy(frame, size[:])
		if _, err := io.ReadFull(r, frame[4:]); err != nil {
			return
		}
		n.deliver(p, frame)
	}
}

// deliver sends a frame to the port that has its destination, or to all others.
func (n *Network) deliver(from *port, frame []byte) {
	dst, src := [6]byte(frame[4:10]), [6]byte(frame[10:16])
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[src] = from
	to := n.known[dst]
	for p := range n.ports {
		if p == from || to != nil && p != to {
			continue
		}
		select {
		case p.out <- frame:
		default:
		}
	}
}

func (n *Network) disconnect(p *port) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.ports, p)
	for mac, at := range n.known {
		if at == p {
			delete(n.known, mac)
		}
	}
	close(p.out) // nobody delivers to it any more
	_ = p.conn.Close()
}

func (p *port) send() {
	for frame := range p.out {
		if _, err := p.conn.Write(frame); err != nil && !errors.Is(err, net.ErrClosed) {
			_ = p.conn.Close() // ends forward, which closes out
		}
	}
}
