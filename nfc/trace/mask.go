package trace

import "github.com/gate-agent/gate-agent/nfc"

// A Secret reports whether the data field of a command is not to be written
// down. The data of commands that carry a PIN never is, whatever it says.
type Secret func(nfc.Command) bool

// carriesPIN has the instructions whose data is a PIN or a password (ISO/IEC
// 7816-4:2020 §11.5.6 to §11.5.10), in every class.
func carriesPIN(ins byte) bool {
	switch ins &^ 1 { // the odd one has the data in BER-TLV
	case 0x20, // VERIFY
		0x24, // CHANGE REFERENCE DATA
		0x26, // DISABLE VERIFICATION REQUIREMENT
		0x28, // ENABLE VERIFICATION REQUIREMENT
		0x2C: // RESET RETRY COUNTER
		return true
	}
	return false
}

// Masked is a command APDU in hexadecimal, with XX for each byte of its data
// field where that is a PIN, or secret says so. Length fields stay: what a
// replay sends must be as long.
func Masked(capdu []byte, secret Secret) string { return maskedHex(capdu, mask(capdu, secret)) }

// mask marks the bytes of a command that are not written down. Where the data
// field cannot be told, everything behind the header is one.
func mask(capdu []byte, secret Secret) []bool {
	from, to := 0, 0
	cmd, err := nfc.ParseCommand(capdu)
	switch {
	case len(capdu) <= 4:
		return nil
	case err != nil:
		from, to = 4, len(capdu)
	case carriesPIN(cmd.INS) && len(cmd.Data) == 0:
		// Such a command asks for no answer: what looks like Le may be a
		// PIN in a wrong form.
		from, to = 4, len(capdu)
	case carriesPIN(cmd.INS) || secret != nil && secret(cmd):
		from = 5
		if cmd.Extended {
			from = 7
		}
		to = from + len(cmd.Data)
	}
	if from >= to {
		return nil
	}
	masked := make([]bool, len(capdu))
	for i := from; i < to; i++ {
		masked[i] = true
	}
	return masked
}
