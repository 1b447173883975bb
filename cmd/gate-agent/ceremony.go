package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/gate-agent/gate-agent/crypto/ceremony"
	"github.com/gate-agent/gate-agent/crypto/keystore"
	"github.com/gate-agent/gate-agent/internal/cli"
)

// A keyCeremony is one that is being held, at a terminal where two people are.
//
//	names ─▶ key is made ─▶ each confirms the check value ─▶ test signature ─▶ export tried ─▶ signed
//	                 └─────────────── anything goes wrong ──────────────┴──▶ key is destroyed
type keyCeremony struct {
	person   tty
	store    *keystore.Store
	uri      string
	keyType  keystore.KeyType
	custody  keystore.Custody
	identity crypto.Signer // of the terminal

	began time.Time
	t     ceremony.Transcript
}

// errNotConfirmed ends a ceremony in which somebody does not type the check value.
var errNotConfirmed = fmt.Errorf("the check value was typed wrong %d times", ceremony.MaxTries)

// hold holds the ceremony to its end and returns the signed transcript, once keep
// has taken it. When anything goes wrong no key is left, where the medium can.
func (r *keyCeremony) hold(ctx context.Context, keep func(msg []byte) error) (err error) {
	r.began = time.Now()
	r.t.Begun = r.now()
	rand.Read(r.t.Nonce[:])
	if err := r.names(ctx); err != nil {
		return err
	}
	r.person.say("鍵を生成しています。\nMaking the key.")
	public, err := r.store.Generate(ctx, r.uri, r.t.Purpose, r.keyType)
	if err != nil {
		return makingError(err)
	}
	r.t.Public = public
	r.step(ceremony.Generated, 0, 0)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.undo())
		}
	}()
	if err := r.confirm(ctx); err != nil {
		return err
	}
	msg, err := r.prove(ctx)
	if err != nil {
		return err
	}
	return keep(msg)
}

// now does not go back when the clock is set meanwhile.
func (r *keyCeremony) now() time.Time {
	return r.began.Add(time.Since(r.began)).Truncate(time.Millisecond)
}

func (r *keyCeremony) step(what ceremony.Action, person, tries int) {
	r.t.Steps = append(r.t.Steps, ceremony.Step{What: what, At: r.now(), Person: person, Tries: tries})
}

// names asks both people for theirs, until they are two.
func (r *keyCeremony) names(ctx context.Context) error {
	r.person.say("鍵の生成には2人が必要です。\nMaking this key takes two people.")
	for i, p := range []struct {
		role ceremony.Role
		asks string
	}{
		{ceremony.Operator, "操作者の氏名 / Name of the operator: "},
		{ceremony.Witness, "立会人の氏名 / Name of the witness: "},
	} {
		for {
			name, err := r.typed(ctx, func(ctx context.Context) ([]byte, error) {
				name, err := r.person.askName(ctx, p.asks)
				return []byte(ceremony.CleanName(name)), err
			})
			if err != nil {
				return err
			}
			if ceremony.CheckName(string(name)) != nil {
				r.person.say("氏名は1文字以上64文字以内です。\nA name has 1 to 64 characters.")
				continue
			}
			if i == 1 && ceremony.SameName(r.t.People[0].Name, string(name)) {
				r.person.say("立会人は操作者とは別の人です。\nThe witness is another person than the operator.")
				continue
			}
			r.t.People[i] = ceremony.Person{Name: string(name), Role: p.role}
			break
		}
	}
	r.step(ceremony.Named, 0, 0)
	return nil
}

// typed gives a question its time.
func (r *keyCeremony) typed(ctx context.Context, ask func(context.Context) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, typing, errNotTyped)
	defer cancel()
	return ask(ctx)
}

// confirm shows the check value and has each of the two type it. What is typed
// does not show: the second one reads the value, not what the first one typed.
func (r *keyCeremony) confirm(ctx context.Context) error {
	r.person.say("\n鍵のチェック値 (KCV) / Key check value:\n\n    %s\n\n各自が読み取り、入力してください。\nEach of you reads it, and types it.", r.t.KCV())
	for i, p := range r.t.People {
		prompt := fmt.Sprintf("%s: KCV (表示されません / not shown): ", p.Name)
		tries := 0
		for {
			line, err := r.typed(ctx, func(ctx context.Context) ([]byte, error) { return r.person.ask(ctx, prompt) })
			if err != nil {
				return err
			}
			if tries++; sameKCV(string(line), r.t.KCV()) {
				break
			}
			if tries == ceremony.MaxTries {
				return cli.RefusedError{Err: fmt.Errorf("%s: %w", p.Role, errNotConfirmed)}
			}
			r.person.say("チェック値が違います。残り%d回です。\nThat is not the check value. Tries left: %d.", ceremony.MaxTries-tries, ceremony.MaxTries-tries)
		}
		r.step(ceremony.Confirmed, i+1, tries)
	}
	return nil
}

// prove opens the key anew, as the terminal will, has it sign, tries to take it out
// of the medium, and signs the transcript with it and with the terminal's own key.
func (r *keyCeremony) prove(ctx context.Context) (msg []byte, err error) {
	k, err := r.store.Signer(r.uri, r.t.Purpose)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if err := errors.Join(k.Expect(r.t.Public), k.Check(ctx)); err != nil {
		return nil, err
	}
	if _, err := k.Prove(); err != nil {
		return nil, err
	}
	r.step(ceremony.TestSigned, 0, 0)
	if r.t.Exportable, err = k.Exportable(ctx); err != nil {
		return nil, err
	}
	if err := promiseKept(r.t.Exportable, r.custody); err != nil {
		return nil, err
	}
	r.step(ceremony.ExportTried, 0, 0)
	r.t.Ended = r.now()
	return ceremony.Sign(r.identity, k, r.t)
}

// undo destroys the key, also when somebody has broken the ceremony off: a key
// whose ceremony failed is nobody's.
func (r *keyCeremony) undo() error {
	ctx, cancel := context.WithTimeout(context.Background(), cardWait)
	defer cancel()
	if err := r.store.Destroy(ctx, r.uri, r.t.Purpose, r.t.Public); err != nil {
		r.person.say("鍵の生成は成立しませんでした。鍵は消去できていません。使用しないでください。\nThe ceremony failed. The key is still there: do not use it.")
		return fmt.Errorf("the ceremony failed and key %s is still there: destroy it with gate-agent key destroy, or with the medium's own tool: %w", r.t.KCV(), err)
	}
	r.person.say("鍵の生成は成立しませんでした。鍵は消去しました。\nThe ceremony failed. The key is destroyed.")
	return nil
}
