package pcsc

import (
	"context"
	"encoding/binary"

	"github.com/ebfe/scard"
)

// PC/SC part 10: how a reader is asked for its properties. The control codes
// are those of pcsc-lite (reader.h).
const (
	getFeatureRequest  = 3400 // CM_IOCTL_GET_FEATURE_REQUEST
	featureProperties  = 0x12 // FEATURE_GET_TLV_PROPERTIES
	propertyMaxAPDUTag = 0x0A // dwMaxAPDUDataSize
	maxShortAPDUData   = 256  // bytes; what more than that means
)

// shortOnly reports whether the reader of the session's card says of itself
// that it carries no extended length. Most drivers answer such a command with
// the very error that a card which left gives ("transaction failed"), so this
// is asked when that error comes, and at no other time. A reader that says
// nothing of itself is taken to carry it.
func (s *session) shortOnly(ctx context.Context) bool {
	features, err := s.control(ctx, scard.CtlCode(getFeatureRequest))
	if err != nil {
		return false
	}
	ioctl, ok := tlv(features, featureProperties)
	if !ok || len(ioctl) != 4 {
		return false
	}
	properties, err := s.control(ctx, binary.BigEndian.Uint32(ioctl))
	return err == nil && saysShortOnly(properties)
}

// saysShortOnly reads dwMaxAPDUDataSize, 4 bytes, of which libccid makes 0
// where the reader takes short commands only.
func saysShortOnly(properties []byte) bool {
	size, ok := tlv(properties, propertyMaxAPDUTag)
	return ok && len(size) == 4 && binary.LittleEndian.Uint32(size) <= maxShortAPDUData
}

// tlv finds a tag in a list of tag, length and value, one byte each of the
// first two.
func tlv(list []byte, tag byte) (value []byte, ok bool) {
	for len(list) >= 2 {
		t, n := list[0], int(list[1])
		list = list[2:]
		if n > len(list) {
			return nil, false
		}
		if t == tag {
			return list[:n:n], true
		}
		list = list[n:]
	}
	return nil, false
}
