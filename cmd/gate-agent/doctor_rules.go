package main

// A rule is one of docs/terminal-rules.md, which has the same words.
type rule struct {
	number string // "R2.1"
	check  string // that finds out whether it is kept; "" where only people can
	ja, en string
}

// terminalRules are all of them, in the order of the page.
func terminalRules() []rule {
	return []rule{
		{"R1.1", "", "鍵ペアは保管する媒体の中で生成し、秘密鍵を外に出さない。", "The key pair is made on the medium that keeps it, and the private half never leaves it."},
		{"R1.2", "key-kind", "鍵は端末証明書が前提とする種類（RSA 2048ビット）である。", "The key is of the kind that a terminal certificate holds: RSA-2048."},
		{"R1.3", "certificates", "端末証明書は、まさにこの鍵を証明している。", "The terminal's certificates certify this very key."},
		{"R1.4", "", "生成には二人が立ち会い、鍵の照合値（KCV）を互いに確かめる。", "Two people attend the generation and compare the key check value (KCV)."},
		{"R1.5", "keys-apart", "一つの鍵は一つの目的にだけ使う。", "Each purpose has a key of its own."},

		{"R2.1", "not-exportable", "秘密鍵は媒体から取り出せない。", "The private key cannot be taken out of its medium."},
		{"R2.2", "custody", "ディスクの複製だけでは、どの鍵も使えない。", "A copy of the disk alone opens no key."},
		{"R2.3", "files-closed", "端末のファイルは他人が書き換えられず、秘密のものは読むこともできない。", "Nobody else can change the terminal's files, or read the secret ones."},
		{"R2.4", "files-owned", "端末のファイルの所有者は、エージェントの利用者かrootだけである。", "The terminal's files belong to the agent's user or to root."},
		{"R2.5", "swap", "メモリ上の秘密が、暗号化されていないスワップに書かれない。", "No secret in memory is swapped to a disk that is not encrypted."},
		{"R2.6", "core-dumps", "エージェントが異常終了しても、メモリの内容（コアダンプ）は残らない。", "An agent that crashes leaves no core dump."},
		{"R2.7", "agent-user", "エージェントはroot権限で動いていない。", "The agent does not run as root."},
		{"R2.8", "", "鍵の媒体は、耐タンパ性の評価（FIPS 140-3、CCなど）を受けている。", "The medium has an evaluation of its resistance to tampering (FIPS 140-3, Common Criteria)."},

		{"R3.1", "supervisors", "責任者（supervisor）は二人以上いる。", "There are two supervisors at least."},
		{"R3.2", "passcodes", "係員のパスコードは、ハッシュ（argon2id）としてだけ保存する。", "Passcodes of staff are kept as hashes (argon2id) and in no other form."},
		{"R3.3", "", "鍵の媒体とそのPINを、同じ一人が持たない。", "Nobody holds both the medium and its PIN."},
		{"R3.4", "", "鍵の生成・交換・破棄は二人で行い、署名した記録を残す。", "Two people make, replace and destroy a key, and keep a signed record of it."},

		{"R4.1", "", "設置者は、公的個人認証法38条の2第1項の認可を受けている。", "The operator has the approval of 公的個人認証法 article 38-2 (1)."},
		{"R4.2", "production", "端末は本番モードで動く。", "The terminal is in production mode."},
		{"R4.3", "anchors", "試験用の認証局を信頼しない。", "No test authority is trusted."},
		{"R4.4", "gate-driver", "ゲートの応答を、シミュレーターが肩代わりしない。", "No simulator answers in the place of gate or staff."},
		{"R4.5", "socket", "係員用のソケットは、状態フォルダーの所有者にだけ開かれている。", "The socket for staff is open to the owner of the state folder alone."},
		{"R4.6", "", "筐体は施錠・封印し、使わない差込口を塞ぎ、設置場所を台帳に記す。", "The enclosure is locked and sealed, unused ports are closed, and the place is in the register."},

		{"R5.1", "holder-check", "外部認証では、人か機械が本人と写真を照合する。", "With external authentication, person and photo are compared by staff or a machine."},
		{"R5.2", "list-age", "名簿と失効情報は、名簿の定める期限内である。", "List and revocation data are no older than the list allows."},
		{"R5.3", "clock", "端末の時計は、記録と名簿に照らして正しい。", "The clock agrees with record and list."},
		{"R5.4", "journal-whole", "記録は最初から最後まで改ざんされていない。", "The record is whole, from its first event to its last."},
		{"R5.5", "checkpoints", "記録には、専用の鍵による署名が定期的に付く。", "The record is signed at intervals by a key of its own."},
		{"R5.6", "retention", "不要になった記録は、期限を決めて消す。", "Records that nobody needs any more are deleted after a set time."},

		{"R6.1", "", "鍵の台帳に、端末・媒体・鍵の識別値・保管者を記す。", "A register names terminal, medium, key identifier and keeper of every key."},
		{"R6.2", "", "紛失・盗難に気付いた人は、直ちに責任者へ知らせ、責任者は認可の条件に従って届け出る。", "Whoever notices a loss tells the person responsible at once, who reports it as the approval requires."},
		{"R6.3", "", "失った鍵は破られたものとして扱い、証明書を止め、鍵を交換する。", "A lost key counts as compromised: its certificate is stopped and the key replaced."},
		{"R6.4", "", "端末を失ったときは、スコープ鍵と名簿も作り直す。", "After the loss of a terminal the scope key and the lists are made anew."},

		{"R7.1", "", "使い終えた鍵は二人で破棄し、記録に署名する。", "Two people destroy a key that is no longer needed, and sign the record."},
		{"R7.2", "", "廃棄する媒体とディスクは、消去したうえで物理的に壊す。", "A medium or disk that is thrown away is erased and then broken."},
		{"R7.3", "", "破棄した鍵の証明書を発行元に知らせ、台帳から外す。", "The issuer of its certificate is told, and the key leaves the register."},

		{"R8.1", "", "催しの前と、少なくとも毎月、この点検を行い、署名した結果を保管する。", "This inspection is made before each event and every month at least, and its signed result is kept."},
		{"R8.2", "", "封印・リーダー・配線に、細工や取り付けられた物がないか見る。", "Seals, readers and cables are looked at for tampering and for things attached."},
		{"R8.3", "", "別の場所に保管したチェックポイントと、記録を照合する。", "The record is compared with a checkpoint that was kept elsewhere."},
		{"R8.4", "disk", "ディスクに空きがある。", "The disk has room."},
		{"R8.5", "keys", "設定にある鍵はすべて開く。", "Every key of the configuration opens."},
		{"R8.6", "", "前回の点検で見つかったことは、すべて片付いている。", "Everything that the last inspection found is settled."},

		{"R9.1", "deadline", "判定の期限は3秒以内に設定する。", "The deadline of a decision is 3 seconds or less."},
		{"R9.2", "tap-limit", "実測で、100回に99回は3秒以内に判定が出る。", "Measured, 99 of 100 decisions come within 3 seconds."},
		{"R9.3", "tap-aim", "目標：実測の中央値は0.5秒未満である。", "Aim: the measured median is below 0.5 seconds."},
	}
}
