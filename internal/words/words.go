// Package words says to people, in English and Japanese, what a reason means
// and what to do next.
package words

import "github.com/gate-agent/gate-agent/terminal"

// A Text is a sentence in both languages.
type Text struct{ EN, JA string }

// Reason says what r means for the person at the gate.
func Reason(r terminal.Reason) Text {
	if t, ok := reasons()[r]; ok {
		return t
	}
	return Text{"Please ask the staff.", "係員にお尋ねください。"}
}

func reasons() map[terminal.Reason]Text {
	return map[terminal.Reason]Text{
		terminal.OK:              {"Welcome.", "どうぞお通りください。"},
		terminal.ManualCheck:     {"Staff compares the photo with you.", "係員が写真を確認します。"},
		terminal.Attention:       {"Please wait for the staff.", "係員をお待ちください。"},
		terminal.CardRemoved:     {"The card left too early. Hold it until the lamp changes.", "カードが離れました。ランプが変わるまでかざしてください。"},
		terminal.CardUnsupported: {"This card cannot be used here. Hold a My Number card that has its certificate.", "このカードは使えません。電子証明書のあるマイナンバーカードをかざしてください。"},
		terminal.MultipleCards:   {"More than one card. Present one alone.", "カードが複数あります。一枚だけかざしてください。"},
		terminal.ReadTimeout:     {"Reading took too long. Present the card again.", "読み取りに時間がかかりました。もう一度かざしてください。"},
		terminal.AuthFailed:      {"The card could not prove that it is genuine. Ask the staff.", "カードを確認できませんでした。係員にお尋ねください。"},
		terminal.CertUntrusted:   {"The certificate is not from a trusted authority. Ask the staff.", "証明書の発行者を確認できません。係員にお尋ねください。"},
		terminal.CertExpired:     {"The certificate has expired. Renew it at your municipality.", "電子証明書の有効期限が切れています。市区町村で更新してください。"},
		terminal.CertRevoked:     {"The certificate has been revoked. Ask your municipality.", "電子証明書は失効しています。市区町村にお尋ねください。"},
		terminal.PINRequired:     {"A phone needs its PIN, at a kiosk. Hold your card here.", "スマートフォンは暗証番号が必要です。キオスク端末をご利用になるか、カードをかざしてください。"},
		terminal.NotListed:       {"Not on the list. Card renewed? Register it again.", "登録がありません。カードを更新した方は再登録してください。"},
		terminal.Revoked:         {"This registration was withdrawn. Ask the staff.", "登録は取り消されています。係員にお尋ねください。"},
		terminal.Blocked:         {"This registration is blocked. Ask the staff.", "登録は停止されています。係員にお尋ねください。"},
		terminal.InvalidTime:     {"The ticket is not valid at this time.", "入場できる時間ではありません。"},
		terminal.WrongGate:       {"The ticket is for another gate.", "別の入口をご利用ください。"},
		terminal.AlreadyUsed:     {"The ticket has already been used.", "このチケットは使用済みです。"},
		terminal.DataStale:       {"The list of this gate is out of date. Ask the staff.", "名簿が古くなっています。係員にお尋ねください。"},
		terminal.ClockUntrusted:  {"The clock of this gate is wrong. Ask the staff.", "端末の時計が正しくありません。係員にお尋ねください。"},
		terminal.HubAway:         {"This gate cannot ask the others now. Ask the staff.", "ほかのゲートに確認できません。係員にお尋ねください。"},
		terminal.GateFault:       {"The gate did not open. Ask the staff.", "ゲートが開きません。係員にお尋ねください。"},
		terminal.OutOfOrder:      {"This gate is out of order. Use another one.", "故障中です。別の入口をご利用ください。"},
		terminal.Party:           {"Welcome, all who are still to come.", "お連れの方もどうぞお通りください。"},
		terminal.Leaving:         {"Goodbye.", "お気をつけてお帰りください。"},
		terminal.Override:        {"The staff lets you in.", "係員がご案内します。"},
		terminal.AlreadyInside:   {"Somebody is inside with this ticket already. Ask the staff.", "このチケットの方はすでに入場しています。係員にお尋ねください。"},
		terminal.ExitRequired:    {"Leave by an exit with your card before you come in again.", "再入場の前に、出口でカードをかざしてください。"},
		terminal.RulesDeny:       {"This ticket does not admit you now. Ask the staff.", "このチケットでは今は入場できません。係員にお尋ねください。"},
		terminal.NoPassage:       {"Nobody passed. Present the card again.", "通過が確認できませんでした。もう一度カードをかざしてください。"},
		terminal.Tailgate:        {"One at a time, please, each with a card.", "お一人ずつカードをかざしてお通りください。"},
		terminal.Annulled:        {"The entry was taken back.", "入場は取り消されました。"},
		terminal.EmergencyOpen:   {"Leave by any gate.", "どのゲートからでも避難してください。"},
	}
}
