// Package vcard is a virtual JPKI card: the files, PINs, keys and security
// status of a My Number card, driven by command APDUs, with a clock that models
// what the air and the chip cost.
//
// It promises to answer as card-facts.md says a card answers: transparent files
// (ISO/IEC 7816-4:2020 §11.3), SELECT and VERIFY (§11.2.2, §11.6.6), the JPKI
// signature commands, and the two PIN-less methods. What no public source tells
// is modelled, and each such choice is named beside the code that makes it.
//
// A card may also have the PIV application (NIST SP 800-73-4), as the card has that
// holds a terminal's own key.
//
// A card is personalised from an [Image]; package perso makes images, of other
// cards and media too, which have other applications or none. The card
// parses commands with code of its own, so that a mistake of the reader side
// cannot hide in a shared parser.
//
// This is a test instrument: its private keys lie open in a JSON file, and it
// takes no care to run in constant time.
package vcard
