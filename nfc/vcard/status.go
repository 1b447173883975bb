package vcard

// statusWord is SW1-SW2 (ISO/IEC 7816-4:2020 §5.6, and card-facts §3).
type statusWord uint16

const (
	swOK                statusWord = 0x9000
	swMoreData          statusWord = 0x6100 // | number of bytes, 00 for 256 and more
	swAuthFailed        statusWord = 0x6300
	swTriesLeft         statusWord = 0x63C0 // | tries
	swLength            statusWord = 0x6700
	swFileStructure     statusWord = 0x6981
	swSecurityStatus    statusWord = 0x6982
	swMethodBlocked     statusWord = 0x6983
	swBlocked           statusWord = 0x6984
	swConditions        statusWord = 0x6985
	swNoCurrentEF       statusWord = 0x6986
	swBadCertificate    statusWord = 0x6988
	swWrongData         statusWord = 0x6A80
	swNotFound          statusWord = 0x6A82
	swP1P2              statusWord = 0x6A86
	swReferenceNotFound statusWord = 0x6A88
	swOffset            statusWord = 0x6B00
	swWrongLe           statusWord = 0x6C00 // | right number
	swINS               statusWord = 0x6D00
	swUnknown           statusWord = 0x6F00
)

// result is a response before it is cut into what the command asked for.
type result struct {
	data []byte
	sw   statusWord
}

func only(sw statusWord) result { return result{sw: sw} }

// bytes encodes the response APDU.
func (r result) bytes() []byte {
	b := make([]byte, 0, len(r.data)+2)
	b = append(b, r.data...)
	return append(b, byte(r.sw>>8), byte(r.sw))
}
