package gate

import "context"

// OpenWith is Open with a permit of the test's own making: those of
// terminal.Permit are issued by a lane alone.
func (g *GPIO) OpenWith(ctx context.Context, spend func() error, people uint32) error {
	return g.relay.openFor(ctx, spend, people)
}

// OpenWith is Open with a permit of the test's own making.
func (s *Simulator) OpenWith(ctx context.Context, spend func() error, people uint32) error {
	return s.openFor(ctx, spend, people)
}
