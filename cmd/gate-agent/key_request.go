package main

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
)

func keyRequestCommand() *cobra.Command {
	var purpose, subject, out, check string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "request (URI --purpose PURPOSE --subject NAME --out FILE | --check FILE) [--json]",
		Short: "Request a certificate for a key, with proof that the key is there",
		Long: `Request writes a certification request (PKCS #10, RFC 2986) that the key itself has
signed, with the name of the terminal as its subject. Tell whoever certifies the key
its check value (KCV) on another way.

With --check it does what the receiving side does: it verifies the signature and
prints subject and KCV. What it refuses ends with 4.

In which form J-LIS takes the key of a terminal is not public: this is the one that
certification authorities everywhere read.
証明書の発行申請 (PKCS #10) を作ります。J-LISが受け取る形式は公開されていません。`,
		Example: `  gate-agent key request --purpose external-auth --subject gate-1 --out gate-1.csr.pem 'sealed:path=/etc/gate-agent/external-auth.key;key-source=/etc/gate-agent/seal'
  gate-agent key request --check gate-1.csr.pem`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", purposeUsage)
	cmd.Flags().StringVar(&subject, "subject", "", "name of the terminal, 1 to 64 characters: the common name")
	cmd.Flags().StringVar(&out, "out", "", "file to write the request to; it must not exist")
	cmd.Flags().StringVar(&check, "check", "", "request to verify instead of making one")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	request := withStore(func(cmd *cobra.Command, s *keystore.Store, a []string) (err error) {
		p, err := keyPurpose(purpose)
		if err != nil {
			return err
		}
		if _, err := keyURI(a[0]); err != nil {
			return err
		}
		if err := checkSubject(subject); err != nil {
			return cli.UsageError(fmt.Sprintf("--subject: %v", err))
		}
		if out == "" {
			return cli.UsageError("--out is missing: name the file to write the request to")
		}
		k, err := openKey(cmd, s, a[0], p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, k.Close()) }()
		file, err := createDraft(out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Discard()) }()
		template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: subject}}
		der, err := x509.CreateCertificateRequest(rand.Reader, template, k)
		if err != nil {
			return fmt.Errorf("making the request: %w", err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		r, err := readRequest(text)
		if err != nil {
			return fmt.Errorf("verifying the request: %w", err)
		}
		if err := file.Keep(text); err != nil {
			return err
		}
		r.File = out
		return r.print(cmd.OutOrStdout(), asJSON)
	})
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		switch {
		case check == "" && len(a) == 0:
			return cli.UsageError("give the URI of a key, or --check FILE")
		case check == "":
			return request(cmd, a)
		case len(a) > 0 || purpose != "" || subject != "" || out != "":
			return cli.UsageError("--check FILE verifies a request: give no key with it")
		}
		text, err := readFile(check)
		if err != nil {
			return err
		}
		r, err := readRequest(text)
		if err != nil {
			return cli.RefusedError{Err: fmt.Errorf("%s: %w", check, err)}
		}
		r.File = check
		return r.print(cmd.OutOrStdout(), asJSON)
	}
	return cmd
}

// checkSubject wants what a common name may be (RFC 5280, appendix A.1,
// ub-common-name).
func checkSubject(name string) error {
	if n := utf8.RuneCountInString(name); n < 1 || n > 64 || !utf8.ValidString(name) {
		return errors.New("want a name of 1 to 64 characters")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("it has a character that cannot be printed")
	}
	return nil
}

// A requestReport is what key request prints. docs/cli.md lists its members.
type requestReport struct {
	File    string `json:"file"`
	Subject string `json:"subject"`
	Type    string `json:"type"`
	Key     string `json:"key"`    // KCV
	Public  string `json:"public"` // PEM
}

// readRequest reads one PEM block "CERTIFICATE REQUEST" (RFC 7468 §7), of a key of
// a type that terminals have, and verifies that the key has signed it.
func readRequest(text []byte) (requestReport, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return requestReport{}, errors.New(`no PEM block "CERTIFICATE REQUEST" found`)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return requestReport{}, errors.New("text behind the request: one request in one file")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return requestReport{}, err
	}
	if err := request.CheckSignature(); err != nil {
		return requestReport{}, fmt.Errorf("no proof of possession, the key has not signed this request: %w", err)
	}
	t, err := keystore.TypeOf(request.PublicKey)
	if err != nil {
		return requestReport{}, err
	}
	// Only the common name is shown: more in the subject would be certified unseen.
	if len(request.Subject.Names) != 1 || checkSubject(request.Subject.CommonName) != nil {
		return requestReport{}, errors.New("the subject is not one common name of 1 to 64 characters")
	}
	if len(request.Extensions) > 0 {
		return requestReport{}, errors.New("it asks for extensions: a terminal's request has none")
	}
	r := requestReport{Subject: request.Subject.CommonName, Type: string(t)}
	if r.Key, err = keystore.KCV(request.PublicKey); err != nil {
		return r, err
	}
	r.Public, err = publicPEM(request.PublicKey)
	return r, err
}

func (r requestReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	fmt.Fprintf(w, "request  %s\n", r.File)
	fmt.Fprintf(w, "subject  %s\n", shown(r.Subject))
	fmt.Fprintf(w, "type     %s\n", r.Type)
	_, err := fmt.Fprintf(w, "KCV      %s: compare it with the terminal's, told on another way\n", r.Key)
	return err
}
