package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gate-agent/gate-agent/internal/words"
	"github.com/gate-agent/gate-agent/terminal"
)

// An explanation is what explain prints. docs/cli.md lists its members.
type explanation struct {
	At          time.Time            `json:"at"`
	ListEpoch   uint64               `json:"list_epoch"`
	ListSeq     uint64               `json:"list_seq"`
	CardID      string               `json:"card_id"`
	Method      string               `json:"method"`
	HolderCheck terminal.HolderCheck `json:"holder_check"`
	Assumes     []string             `json:"assumes"`
	Steps       []explainedStep      `json:"steps"`
	Verdict     terminal.Verdict     `json:"verdict"`
	Reason      terminal.Reason      `json:"reason"`
	Entitlement string               `json:"entitlement,omitempty"`
	Zone        string               `json:"zone,omitempty"`
	People      uint32               `json:"people"`
	Warnings    []terminal.Reason    `json:"warnings,omitempty"`
	Message     string               `json:"message,omitempty"`
	Others      []explainedRefusal   `json:"others,omitempty"`
	Used        *explainedUse        `json:"used,omitempty"`
	Problem     string               `json:"problem,omitempty"`

	shared bool // other gates may have let in by the ticket
}

// An explainedStep is one check.
type explainedStep struct {
	Entitlement string `json:"entitlement,omitempty"`
	Check       string `json:"check"`
	OK          bool   `json:"ok"`
	Detail      string `json:"detail"`
}

// An explainedRefusal is why another entitlement does not admit.
type explainedRefusal struct {
	Entitlement string          `json:"entitlement"`
	Reason      terminal.Reason `json:"reason"`
}

// An explainedUse is where and when somebody last came in.
type explainedUse struct {
	Gate     string    `json:"gate,omitempty"`
	Terminal string    `json:"terminal,omitempty"` // left out: this one
	At       time.Time `json:"at"`
}

func (e *explanation) step(entitlement, check string, ok bool, format string, a ...any) {
	e.Steps = append(e.Steps, explainedStep{entitlement, check, ok, fmt.Sprintf(format, a...)})
}

func (e *explanation) rule(r terminal.Ruling) {
	e.Verdict, e.Reason, e.Entitlement, e.Zone, e.People = r.Verdict, r.Reason, r.Entitlement, r.Zone, r.People
	e.Warnings, e.Message = r.Warnings, r.Message
	if r.Used != (terminal.Use{}) {
		e.Used = &explainedUse{r.Used.Gate, r.Used.Terminal, r.Used.At}
	}
	for _, o := range r.Others {
		e.Others = append(e.Others, explainedRefusal(o))
	}
	if r.Problem != nil {
		e.Problem = r.Problem.Error()
	}
	for _, t := range e.assumptions() {
		e.Assumes = append(e.Assumes, t.EN)
	}
}

// assumptions are what a real tap would find out, and explain cannot.
func (e *explanation) assumptions() (all []words.Text) {
	if e.shared {
		all = append(all, words.Text{EN: "the ticket was used at no other gate: the venue is not asked", JA: "ほかのゲートでは使われていないものとします（会場には問い合わせません）。"})
	}
	if e.Method == string(terminal.ByOrder) {
		return append(all, words.Text{EN: "a supervisor vouches for the person, as gate-agent admit has it", JA: "責任者が本人を確認し、gate-agent admit を使うものとします。"})
	}
	who := words.Text{EN: "nobody compares person and card, unless the ticket or the list asks for it", JA: "本人とカードの照合は、チケットや名簿が求めないかぎり、行いません。"}
	switch e.HolderCheck {
	case terminal.CheckNone:
	case terminal.CheckExternal:
		who = words.Text{EN: "the face unit compares person and card after this", JA: "このあと顔照合装置が本人とカードを照合します。"}
	default:
		who = words.Text{EN: "staff compares person and card after this", JA: "このあと係員が本人とカードを照合します。"}
	}
	return append(all, words.Text{EN: "the card proves itself; a copy would be denied as auth_failed", JA: "カードは真正なものとします。複製なら auth_failed で拒否されます。"}, who)
}

// checks are the names of steps in Japanese.
var checks = map[string]string{
	"listed": "名簿", "certificate": "電子証明書", "holder": "カード", "gate": "ゲート", "status": "登録の状態", "postponed": "延期",
	"time": "時間", "place": "場所", "rules": "規則", "uses": "利用回数", "doubt": "未確定の入場", "attention": "係員の確認",
	"person": "本人照合", "exit": "退場", string(terminal.DataStale): "名簿の鮮度", string(terminal.ClockUntrusted): "端末の時計",
	"hub": "ほかのゲートへの確認", "apart": "ほかの出口からの退場",
}

var verdictWords = map[terminal.Verdict]words.Text{
	terminal.Admit: {EN: "admit", JA: "入場できます"}, terminal.Attend: {EN: "attend: staff looks first", JA: "係員が確認します"}, terminal.Deny: {EN: "deny", JA: "入場できません"},
}

// print writes the explanation for a person.
func (e *explanation) print(w io.Writer, japanese bool) error {
	say := func(t words.Text) string {
		if japanese {
			return t.JA
		}
		return t.EN
	}
	var b strings.Builder
	for _, t := range e.assumptions() {
		fmt.Fprintf(&b, "%s: %s\n", say(words.Text{EN: "taken for granted", JA: "前提"}), say(t))
	}
	for _, s := range e.Steps {
		mark, name := "✓", s.Check
		if !s.OK {
			mark = "✗"
		}
		if japanese {
			name = cmp.Or(checks[name], name)
		}
		if s.Entitlement != "" {
			name += " [" + s.Entitlement + "]"
		}
		fmt.Fprintf(&b, "%s %s: %s\n", mark, shown(name), shown(s.Detail))
	}
	line := func(name words.Text, text string) { fmt.Fprintf(&b, "%s: %s\n", say(name), shown(text)) }
	line(words.Text{EN: "verdict", JA: "判定"}, say(verdictWords[e.Verdict]))
	line(words.Text{EN: "reason", JA: "理由"}, fmt.Sprintf("%s: %s", e.Reason, say(words.Reason(e.Reason))))
	if e.Verdict != terminal.Deny {
		line(words.Text{EN: "people", JA: "人数"}, fmt.Sprint(e.People))
	}
	for _, r := range e.Warnings {
		line(words.Text{EN: "warning", JA: "注意"}, fmt.Sprintf("%s: %s", r, say(words.Reason(r))))
	}
	for _, o := range e.Others {
		line(words.Text{EN: "other ticket", JA: "他のチケット"}, fmt.Sprintf("%s: %s: %s", o.Entitlement, o.Reason, say(words.Reason(o.Reason))))
	}
	if u := e.Used; u != nil {
		where := cmp.Or(u.Gate, "?")
		if u.Terminal != "" {
			where += " (" + u.Terminal + ")"
		}
		line(words.Text{EN: "last came in", JA: "最後の入場"}, where+", "+localTime(u.At))
	}
	if e.Message != "" {
		line(words.Text{EN: "message", JA: "係員への連絡"}, e.Message)
	}
	if e.Problem != "" {
		line(words.Text{EN: "problem", JA: "問題"}, e.Problem)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
